// Echo servers of Node's `ws`, one for each combination of the parameters of permessage-deflate that it can demand.
//
// Prints `COMBINATION URL` for each and then `listening`. For each client that has left, it prints `closed CODE`,
// the number of bytes of messages received, and the number of bytes that these took on the wire.
"use strict";

const { WebSocketServer } = require("ws");
const { combinations, named } = require("../deflate.js");

function serve(options) {
  const server = new WebSocketServer({
    host: "127.0.0.1",
    port: 0,
    perMessageDeflate: { ...options, threshold: 0 },
  });
  server.on("connection", (socket) => {
    const stream = socket._socket;
    let bytes = 0;
    socket.on("message", (data, isBinary) => {
      bytes += data.length;
      socket.send(data, { binary: isBinary });
    });
    socket.on("error", (error) => console.log(`error ${error.message}`));
    socket.on("close", (code) => console.log(`closed ${code} ${bytes} ${stream.bytesRead}`));
  });
  return new Promise((resolve) =>
    server.on("listening", () => {
      console.log(`${named(options)} ws://127.0.0.1:${server.address().port}`);
      resolve();
    }),
  );
}

(async () => {
  for (const options of combinations()) await serve(options);
  console.log("listening");
})();
