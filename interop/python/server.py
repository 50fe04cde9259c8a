"""An echo server of Python's `websockets`, for the `cat` example.

usage: server.py [CERTIFICATE KEY]

With the two files it speaks TLS. Prints `listening on URL` when it is ready and `closed CODE` when a client has left.
`/forbidden` is refused with 403; on `/request`, the answer to each message is the request's origin, subprotocol and
X-Interop header instead of an echo.
"""

import asyncio
import http
import logging
import ssl
import sys

from websockets.asyncio.server import serve


def refuse(connection, request):
    if request.path == "/forbidden":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "members only\n")
    return None


def first_subprotocol(_connection, offered):
    return offered[0] if offered else None


async def echo(socket):
    request = socket.request
    summary = "origin={} subprotocol={} x-interop={}".format(
        request.headers.get("Origin"), socket.subprotocol, request.headers.get("X-Interop")
    )
    async for message in socket:
        await socket.send(summary if request.path == "/request" else message)
    print("closed", socket.close_code, flush=True)


async def main(files):
    # Refused certificates are expected, and need no log lines.
    logging.getLogger("websockets").addHandler(logging.NullHandler())
    scheme, tls = "ws", None
    if files:
        scheme, tls = "wss", ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*files)
    settings = {"max_size": None, "process_request": refuse, "select_subprotocol": first_subprotocol}
    async with serve(echo, "127.0.0.1", 0, ssl=tls, **settings) as server:
        print(f"listening on {scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main(sys.argv[1:]))
