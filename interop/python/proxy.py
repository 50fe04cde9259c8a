"""A proxy of `pproxy`: HTTP's CONNECT and SOCKS5 at one port.

usage: proxy.py [USER:PASSWORD]

Prints `listening on URL` when it is ready, and then for each connection what was asked for, such as
`socks5 -> server.test:443`, or why it was refused. Names that end in `.test` are known to the proxy alone, so who
reaches one came this way: they are this machine.
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
    # Any port, which a URL cannot say, and users whose passwords have characters that a URL cannot have.
    proxy.port, proxy.users = 0, users
    # Each connection has to log in: by default one that did vouches for its address.
    settings = {"rserver": [pproxy.DIRECT], "verbose": log, "authtime": -1}
    server = await proxy.start_server(settings)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


asyncio.run(main([user.encode() for user in sys.argv[1:]]))
