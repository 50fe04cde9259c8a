"""A client of Python's `websockets` over TLS.

usage: tls_client.py URL CERTIFICATES TEXT

Trusts the certificates of a file in PEM, prints the first message, sends the text, prints its echo and closes.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect

LIMIT = 30


async def main(url, certificates, text):
    tls = ssl.create_default_context(cafile=certificates)
    async with connect(url, ssl=tls, open_timeout=LIMIT) as socket, asyncio.timeout(LIMIT):
        print(await socket.recv())
        await socket.send(text)
        print(await socket.recv())


asyncio.run(main(*sys.argv[1:]))
