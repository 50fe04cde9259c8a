"""A proxy of `pproxy`: HTTP's CONNECT and SOCKS5 on one port.

usage: proxy.py [USER:PASSWORD]

Prints `listening on URL` when it is ready, and then, for each connection, its target, such as
`socks5 -> server.test:443`, or the reason for a refusal. Names that end in `.test` stand for this machine. Only the
proxy knows them, so a client that reaches one came through it.
"""

import asyncio
import re
import sys

import pproxy


def log(text):
    # Without the client's port.
    print(re.sub(r"(from )?127\.0\.0\.1(:\d+ | *$)", "", text).strip(), flush=True)


async def main(users):
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def resolve_test(host, *args, **options):
        here = isinstance(host, str) and host.endswith(".test")
        return await resolve("127.0.0.1" if here else host, *args, **options)

    loop.getaddrinfo = resolve_test

    proxy = pproxy.Server("http+socks5://127.0.0.1:1")
    # Port 0 and passwords with certain characters cannot be part of a URL.
    proxy.port, proxy.users = 0, users
    # Each connection must log in: by default, a connection that did vouches for its address.
    settings = {"rserver": [pproxy.DIRECT], "verbose": log, "authtime": -1}
    server = await proxy.start_server(settings)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


asyncio.run(main([user.encode() for user in sys.argv[1:]]))
