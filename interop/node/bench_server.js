// An echo server of Node's `ws` that compresses, for `cargo xtask bench deflate`.
//
//     node bench_server.js [--no-context-takeover] [--window-bits BITS] [--level LEVEL] --listen 127.0.0.1:0
"use strict";

const { WebSocketServer } = require("ws");
const { parseArgs } = require("node:util");

const { values } = parseArgs({
  options: {
    listen: { type: "string" },
    "no-context-takeover": { type: "boolean", default: false },
    "window-bits": { type: "string", default: "15" },
    level: { type: "string", default: "6" },
  },
});
const [host, port] = values.listen.split(":");
const fresh = values["no-context-takeover"];
const windowBits = Number(values["window-bits"]);

const server = new WebSocketServer({
  host,
  port: Number(port),
  perMessageDeflate: {
    serverNoContextTakeover: fresh,
    clientNoContextTakeover: fresh,
    ...(windowBits < 15 && { serverMaxWindowBits: windowBits, clientMaxWindowBits: windowBits }),
    zlibDeflateOptions: { level: Number(values.level) },
    threshold: 0,
  },
});
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", (error) => console.error(error.message));
});
server.on("listening", () => console.log(`listening on ws://${host}:${server.address().port}`));
