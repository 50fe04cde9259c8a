// Tests an echo server that agrees to all parameters of permessage-deflate with every combination of them that a
// client of Node's `ws` can ask for.
//
//     node deflate_client.js URL
"use strict";

const { WebSocket } = require("ws");
const { combinations, named, messages } = require("../deflate.js");

const LIMIT_MS = 30_000;

function connect(url, options) {
  const socket = new WebSocket(url, { perMessageDeflate: { ...options, threshold: 0 } });
  return new Promise((resolve, reject) => {
    socket.once("open", () => resolve(socket));
    socket.once("error", reject);
  });
}

async function exchange(url, options) {
  const socket = await connect(url, options);
  const timer = setTimeout(() => socket.terminate(), LIMIT_MS);
  for (const name of ["server_no_context_takeover", "client_no_context_takeover"]) {
    const asked = options[camel(name)] === true;
    if (socket.extensions.includes("permessage-deflate") && asked && !agreed(socket, name)) {
      throw new Error(`${name} was asked for and not agreed on`);
    }
  }
  const sent = messages();
  const received = [];
  const all = new Promise((resolve, reject) => {
    socket.on("message", (data, isBinary) => {
      received.push(isBinary ? data : data.toString());
      if (received.length === sent.length) resolve();
    });
    socket.on("error", reject);
    socket.on("close", (code) => reject(new Error(`closed with ${code} after ${received.length} echoes`)));
  });
  // The first messages one by one, the rest all in flight together.
  for (const message of sent) socket.send(message);
  await all;
  sent.forEach((message, i) => {
    const same = typeof message === "string" ? message === received[i] : message.equals(received[i]);
    if (!same) throw new Error(`message ${i} came back as another`);
  });
  const total = sent.reduce((sum, message) => sum + Buffer.byteLength(message), 0);
  const wire = socket._socket.bytesRead;
  if (wire > total / 2) throw new Error(`${total} bytes came back in ${wire}: uncompressed`);
  const closed = new Promise((resolve) => {
    socket.removeAllListeners("close");
    socket.once("close", resolve);
  });
  socket.close(1000);
  const code = await closed;
  clearTimeout(timer);
  if (code !== 1000) throw new Error(`closed with ${code}, 1000 was due`);
  return sent.length;
}

const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

const agreed = (socket, name) => socket._extensions["permessage-deflate"].params[name] === true;

async function main([url]) {
  let count = 0;
  for (const options of combinations()) {
    try {
      count += await exchange(url, options);
    } catch (error) {
      throw new Error(`${named(options)}: ${error.message}`);
    }
  }
  console.log(`${combinations().length} combinations, ${count} messages echoed compressed`);
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(`deflate_client.js: ${error.message}`);
    process.exit(1);
  },
);
