"""A server of Python's `websockets` that ends each connection as its path specifies, a moment after the handshake.

usage: ending_server.py [CERTIFICATE KEY]

With `/1000` or another number, it closes with that code. With `/message`, it sends a message and the close frame with
1000 in one write, and prints `answered` when the client has answered. With `/cut`, the transport ends without a close
frame and, over TLS, without `close_notify`. With `/kill`, the whole process is killed. Given the two files, it speaks
TLS. Prints `listening on URL` when it is ready.
"""

import asyncio
import os
import signal
import ssl
import sys

from websockets.asyncio.server import serve

# Long enough for a client to be reading its standard input, and shorter than the time that `cat` waits after its
# end.
MOMENT = 0.2


async def end(socket):
    if socket.request.path == "/message":
        socket.protocol.send_text(b"message")
        socket.protocol.send_close(1000)
        socket.transport.write(b"".join(socket.protocol.data_to_send()))
        # `wait_closed` would also wait for the client's end of the transport.
        while socket.protocol.close_rcvd is None:
            await asyncio.sleep(0.01)
        print("answered", flush=True)
        return
    await asyncio.sleep(MOMENT)
    if socket.request.path == "/cut":
        socket.transport.abort()
    elif socket.request.path == "/kill":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        await socket.close(int(socket.request.path[1:]))


async def main(files):
    scheme, tls = "ws", None
    if files:
        scheme, tls = "wss", ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*files)
    async with serve(end, "127.0.0.1", 0, ssl=tls) as server:
        print(f"listening on {scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main(sys.argv[1:]))
