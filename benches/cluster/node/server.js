// A node of Socket.IO with its Redis adapter: each message goes to all members of the room, on all nodes.
'use strict';

const http = require('node:http');
const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/redis-adapter');
const { createClient } = require('redis');

const option = (name) => process.argv[process.argv.indexOf(name) + 1];

async function main() {
  const publisher = createClient({ url: option('--broker') });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const server = http.createServer();
  const io = new Server(server, {
    adapter: createAdapter(publisher, subscriber),
    transports: ['websocket'],
    perMessageDeflate: false,
  });
  io.on('connection', (socket) => {
    socket.join('0');
    socket.on('m', (text) => io.to('0').emit('m', text));
  });
  const [host, port] = option('--listen').split(':');
  server.listen(Number(port), host, () => {
    const address = server.address();
    console.log(`listening on ws://${address.address}:${address.port}`);
  });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
