// The exchange between a client and an echo server, written against the WebSocket interface that browsers, undici
// and `ws` share, so that all three run the same lines.
"use strict";

// Both sides of each change of the length encoding (RFC 6455 §5.2), zero, and a message that takes many reads.
const LENGTHS = [0, 125, 126, 65535, 65536, 1 << 20];

const LIMIT_MS = 30_000;

// Returns exactly `length` bytes of UTF-8, with characters of one to four bytes.
function textOf(length) {
  const pattern = "aé€𝄞"; // 1 + 2 + 3 + 4 bytes
  return pattern.repeat(Math.floor(length / 10)) + "x".repeat(length % 10);
}

// Returns `length` bytes in which no two adjacent blocks of 256 are equal.
function bytesOf(length) {
  return Uint8Array.from({ length }, (_, i) => (i ^ (i >> 8) ^ (i >> 16)) & 0xff);
}

function describe(data) {
  return typeof data === "string" ? `text of ${data.length} characters` : `${data.byteLength} bytes`;
}

function sameBytes(received, sent) {
  if (!(received instanceof ArrayBuffer) || received.byteLength !== sent.byteLength) return false;
  const bytes = new Uint8Array(received);
  return bytes.every((byte, i) => byte === sent[i]);
}

// A socket whose events are awaited one after the other.
class Conversation {
  constructor(WebSocket, url) {
    this.events = [];
    this.wake = () => {};
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    for (const type of ["open", "message", "error", "close"]) {
      this.socket.addEventListener(type, (event) => {
        this.events.push(event);
        this.wake();
      });
    }
  }

  async next(type) {
    const deadline = Date.now() + LIMIT_MS;
    while (this.events.length === 0) {
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`no ${type} event within ${LIMIT_MS} ms`);
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, Math.min(left, 1000));
      });
    }
    const event = this.events.shift();
    if (event.type !== type) {
      const code = event.code === undefined ? "" : ` ${event.code}`;
      const why = event.message ? `: ${event.message}` : "";
      throw new Error(`expected a ${type} event, got ${event.type}${code}${why}`);
    }
    return event;
  }
}

// Opens `url`, has text and binary messages of every length echoed, one by one and then all in flight together, and
// closes with 1000. `extra` may try features that only one implementation has. Returns a line about the exchange.
async function exchange(WebSocket, url, extra = async () => "") {
  const conversation = new Conversation(WebSocket, url);
  const { socket } = conversation;
  await conversation.next("open");
  if (socket.protocol !== "") throw new Error(`subprotocol ${socket.protocol} was agreed on, none was offered`);
  // All clients offer permessage-deflate; a server that was not started with compression declines.
  const compression = socket.extensions === "" ? "uncompressed" : socket.extensions;

  const messages = LENGTHS.flatMap((length) => [textOf(length), bytesOf(length)]);
  const expectEcho = async (sent) => {
    const { data } = await conversation.next("message");
    const same = typeof sent === "string" ? data === sent : sameBytes(data, sent);
    if (!same) throw new Error(`sent ${describe(sent)}, got back ${describe(data)} that differ`);
  };
  for (const message of messages) {
    socket.send(message);
    await expectEcho(message);
  }
  for (const message of messages) socket.send(message);
  for (const message of messages) await expectEcho(message);

  const more = await extra(socket);
  socket.close(1000, "done");
  const closed = await conversation.next("close");
  if (closed.code !== 1000 || !closed.wasClean) {
    throw new Error(`closed with ${closed.code}, clean: ${closed.wasClean}; 1000 and clean were due`);
  }
  return `${2 * messages.length} messages echoed${more}, closed with 1000, ${compression}`;
}

// Opens `url`, calls `ready`, and waits until the server closes the connection. Returns the close code.
async function farewell(WebSocket, url, ready) {
  const conversation = new Conversation(WebSocket, url);
  await conversation.next("open");
  ready();
  const { code, wasClean } = await conversation.next("close");
  if (!wasClean) throw new Error(`the connection ended with ${code} and no close handshake`);
  return code;
}

// Returns a conversation once its socket is open.
async function opened(WebSocket, url) {
  const conversation = new Conversation(WebSocket, url);
  await conversation.next("open");
  return conversation;
}

async function hears(conversation, expected) {
  const { data } = await conversation.next("message");
  if (data !== expected) throw new Error(`received ${data}, expected ${expected}`);
}

// Two clients of each server of the README: one that welcomes and forwards to others, one with rooms and a token, and
// one that sends each message to all. Returns a line about it.
async function readme(WebSocket, [server, rooms, mounted]) {
  for (const [url, welcome, prefix, echoes] of [
    [server, "welcome", "", false],
    [rooms, null, "Ada: ", true],
    [mounted, null, "", true],
  ]) {
    const join = async (...others) => {
      const joined = await opened(WebSocket, url);
      if (welcome !== null) await hears(joined, welcome);
      if (!echoes) return joined;
      // A client has joined once its own message is back.
      joined.socket.send("here");
      for (const one of [joined, ...others]) await hears(one, `${prefix}here`);
      return joined;
    };
    const one = await join();
    const two = await join(one);
    one.socket.send("hello from one");
    if (echoes) await hears(one, `${prefix}hello from one`);
    await hears(two, `${prefix}hello from one`);
    two.socket.send("hello from two");
    await hears(one, `${prefix}hello from two`);
    for (const { socket } of [one, two]) socket.close(1000);
  }
  const refused = new Conversation(WebSocket, rooms.replace("token=secret", "token=wrong"));
  await refused.next("error");
  return "a welcome, forwarding, a room, a mount; a wrong token is refused";
}

if (typeof module !== "undefined") module.exports = { exchange, farewell, readme };
