// A server of Node's `ws` that forwards each message to every other client, for `cargo xtask bench broadcast`.
//
//     node broadcast_server.js --listen 127.0.0.1:0
"use strict";

const { WebSocket, WebSocketServer } = require("ws");
const { parseArgs } = require("node:util");

const { values } = parseArgs({ options: { listen: { type: "string" } } });
const [host, port] = values.listen.split(":");

const server = new WebSocketServer({ host, port: Number(port) });
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => {
    server.clients.forEach((client) => {
      if (client !== socket && client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    });
  });
  socket.on("error", (error) => console.error(error.message));
});
server.on("listening", () => console.log(`listening on ws://${host}:${server.address().port}`));
