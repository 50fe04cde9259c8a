"""Tests every combination of the parameters of permessage-deflate that a client of `websockets` can ask for.

usage: deflate_client.py URL
"""

import asyncio
import sys

from deflate import combinations, count_compressed, messages, named
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

LIMIT = 30


async def send_all(socket, sent):
    for message in sent:
        await socket.send(message)


async def exchange(url, options):
    factory = ClientPerMessageDeflateFactory(**options)
    async with connect(url, compression=None, extensions=[factory], max_size=None, open_timeout=LIMIT) as socket:
        if not socket.protocol.extensions:
            raise ValueError("the server declined to compress")
        extension = socket.protocol.extensions[0]
        count_compressed(extension)
        sent = messages()
        sender = asyncio.create_task(send_all(socket, sent))
        for number, message in enumerate(sent):
            async with asyncio.timeout(LIMIT):
                received = await socket.recv()
            if received != message:
                raise ValueError(f"message {number} came back as another")
        await sender
        # The short messages are below the server's threshold.
        if extension.compressed < 5:
            raise ValueError(f"{extension.compressed} messages came back compressed")
        await socket.close(1000)
    if socket.close_code != 1000:
        raise ValueError(f"closed with {socket.close_code}, 1000 was due")
    return len(sent)


def main():
    count = runs = 0
    for options in combinations():
        try:
            count += asyncio.run(exchange(sys.argv[1], options))
        except (OSError, ValueError, TimeoutError, ConnectionClosed, InvalidHandshake) as error:
            sys.exit(f"deflate_client.py: {named(options)}: {type(error).__name__}: {error}")
        runs += 1
    print(f"{runs} combinations, {count} messages echoed compressed")


main()
