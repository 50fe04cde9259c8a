// A client of Node.js for an echo server.
//
//     node client.js ws|undici exchange|farewell URL
//     node client.js ws|undici readme URL URL URL
//
// `exchange` has messages echoed and closes; `farewell` prints `ready`, waits for the server to close, and prints
// the close code; `readme` is a client of the README's servers.
"use strict";

const { exchange, farewell, readme } = require("../exchange.js");

// undici and browsers have no API for pings; `ws` does.
async function ping(socket) {
  if (typeof socket.ping !== "function") return "";
  const payload = Buffer.from("are you there?");
  const pong = new Promise((resolve, reject) => {
    socket.once("pong", resolve);
    setTimeout(() => reject(new Error("no pong within 10 s")), 10_000).unref();
  });
  socket.ping(payload);
  const answer = await pong;
  if (!answer.equals(payload)) throw new Error(`the pong carries ${answer}, the ping ${payload}`);
  return ", a ping answered";
}

async function main([implementation, task, url, ...more]) {
  const { WebSocket } = require(implementation);
  if (task === "exchange") {
    console.log(await exchange(WebSocket, url, ping));
  } else if (task === "farewell") {
    console.log("closed with", await farewell(WebSocket, url, () => console.log("ready")));
  } else if (task === "readme") {
    console.log(await readme(WebSocket, [url, ...more]));
  } else {
    throw new Error(`unknown task ${task}`);
  }
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(`${process.argv.slice(2).join(" ")}: ${error.message}`);
    process.exit(1);
  },
);
