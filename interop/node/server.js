// An echo server of Node's `ws`, for the `cat` example.
//
//     node server.js [CERTIFICATE KEY]
//
// With the two files it speaks TLS. Prints `listening on URL` when it is ready and `closed CODE` when a client has left.
// `/forbidden` is refused with 403; on `/request`, the answer to each message is the request's origin, subprotocol and
// X-Interop header instead of an echo.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { WebSocketServer } = require("ws");

const [certificate, key] = process.argv.slice(2);
const notFound = (_, response) => response.writeHead(404).end();
const server =
  certificate === undefined
    ? http.createServer(notFound)
    : https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, notFound);
const sockets = new WebSocketServer({ noServer: true });

server.on("upgrade", (request, stream, head) => {
  if (request.url === "/forbidden") {
    const body = "members only\n";
    stream.end(`HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    return;
  }
  sockets.handleUpgrade(request, stream, head, (socket) => {
    const { headers } = request;
    const summary = `origin=${headers.origin} subprotocol=${socket.protocol} x-interop=${headers["x-interop"]}`;
    socket.on("message", (data, isBinary) => {
      if (request.url === "/request") socket.send(summary);
      else socket.send(data, { binary: isBinary });
    });
    socket.on("error", (error) => console.log(`error ${error.message}`));
    socket.on("close", (code) => console.log(`closed ${code}`));
  });
});

const scheme = certificate === undefined ? "ws" : "wss";
server.listen(0, "127.0.0.1", () => console.log(`listening on ${scheme}://127.0.0.1:${server.address().port}`));
