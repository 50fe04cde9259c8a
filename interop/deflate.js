// The combinations of parameters of permessage-deflate (RFC 7692 §7.1), and the messages that are sent under each.
"use strict";

const WINDOW_BITS = [9, 12, 15];

function combinations() {
  const all = [];
  for (const serverNoContextTakeover of [false, true])
    for (const clientNoContextTakeover of [false, true])
      for (const serverMaxWindowBits of WINDOW_BITS)
        for (const clientMaxWindowBits of WINDOW_BITS)
          all.push({ serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits });
  return all;
}

// Returns a short name for a path and a line: takeover of server and client, each with its window bits.
function named(options) {
  const takeover = (no) => (no ? "fresh" : "takeover");
  const server = `${takeover(options.serverNoContextTakeover)}-${options.serverMaxWindowBits}`;
  const client = `${takeover(options.clientNoContextTakeover)}-${options.clientMaxWindowBits}`;
  return `server-${server}-client-${client}`;
}

// Returns messages that refer far back, to nothing, to the previous message, and beyond every window.
function messages() {
  const record = (i) => `{"id":${i},"name":"station ${i % 17}","state":"ok","reading":${(i * 7919) % 1000}}`;
  const lines = (from, to) => Array.from({ length: to - from }, (_, i) => record(from + i)).join(",");
  const noise = (length) => {
    let state = 1;
    return Buffer.from(Array.from({ length }, () => (state = (state * 48271) % 2147483647) & 0xff));
  };
  const long = lines(0, 2000);
  return [lines(0, 30), lines(0, 30), "", "x", "aé€𝄞".repeat(500), noise(700), long, lines(1900, 2000), long, noise(700)];
}

module.exports = { combinations, named, messages };
