// Three origins that redirect to each other, for `cat --follow`.
//
//     node redirect.js CERTIFICATE KEY
//
// Prints `NAME URL` for each origin: `first`, `second`, and `secure`, which speaks TLS. Then, for each request, it
// prints the number of its case (from X-Interop), the origin, the path, and the credentials:
// `7 first /away authorization=… cookie=…`. `/end` is an echo server.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { WebSocketServer } = require("ws");

const sockets = new WebSocketServer({ noServer: true });
const urls = {};

// Returns the status and the target of a path's redirect, or nothing if the path does not redirect.
function redirect(origin, path) {
  const steps = path.match(/^\/chain\/(\d+)$/);
  if (steps) return [302, steps[1] === "1" ? "/end" : `/chain/${steps[1] - 1}`];
  const status = path.match(/^\/(30[1378]|302)$/);
  if (status) return [Number(status[1]), "/end"];
  return {
    "/deep/down/relative": [302, "../../end"],
    "/absolute": [301, `${urls[origin]}/end`],
    "/http": [307, `${urls[origin].replace("ws", "http")}/end`],
    "/without-scheme": [302, `${urls[origin].replace(/^wss?:/, "")}/end`],
    "/away": [302, `${urls.second}/end`],
    "/round-trip": [307, `${urls.second}/back`],
    "/back": [301, `${urls.first}/end`],
    "/to-tls": [308, `${urls.secure}/end`],
    "/from-tls": [302, `${urls.first}/end`],
    "/with-login": [302, `${urls.second.replace("://", "://mallory:eve@")}/end`],
    "/loop": [302, "/loop"],
    "/no-websocket": [302, "ftp://127.0.0.1/end"],
    "/no-location": [302, undefined],
  }[path];
}

function respond(origin, request, stream, head) {
  const { authorization, cookie, "x-interop": whose } = request.headers;
  console.log(`${whose} ${origin} ${request.url} authorization=${authorization} cookie=${cookie}`);
  if (request.url === "/end") {
    sockets.handleUpgrade(request, stream, head, (socket) => {
      socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    return;
  }
  const [status, location] = redirect(origin, request.url) ?? [404];
  const field = location === undefined ? "" : `Location: ${location}\r\n`;
  stream.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n${field}Connection: close\r\nContent-Length: 0\r\n\r\n`);
}

async function main([certificate, key]) {
  const servers = {
    first: http.createServer(),
    second: http.createServer(),
    secure: https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }),
  };
  for (const [origin, server] of Object.entries(servers)) {
    server.on("upgrade", (request, stream, head) => respond(origin, request, stream, head));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const scheme = server instanceof https.Server ? "wss" : "ws";
    urls[origin] = `${scheme}://127.0.0.1:${server.address().port}`;
  }
  for (const [origin, url] of Object.entries(urls)) console.log(`${origin} ${url}`);
}

main(process.argv.slice(2));
