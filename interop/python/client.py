"""A client of Python's `websockets` for an echo server.

usage: client.py exchange|farewell|forge URL

`exchange` has messages echoed and closes; `farewell` prints `ready`, waits for the server to close, and prints the
close code. `forge` connects from 127.0.0.2, claims in `X-Forwarded-For` to be 203.0.113.9, and closes.
"""

import asyncio
import sys

from payloads import MESSAGES
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

LIMIT = 30


def describe(message):
    return f"{type(message).__name__} of length {len(message)}"


async def receive(socket):
    async with asyncio.timeout(LIMIT):
        return await socket.recv()


async def expect_echo(socket, sent):
    received = await receive(socket)
    if received != sent:
        sys.exit(f"client.py: sent {describe(sent)}, got back {describe(received)}, which differs")


async def send_all(socket):
    for message in MESSAGES:
        await socket.send(message)


async def exchange(url):
    async with connect(url, max_size=None, open_timeout=LIMIT) as socket:
        if socket.subprotocol is not None:
            sys.exit(f"client.py: subprotocol {socket.subprotocol} was agreed on, none was offered")
        compression = "permessage-deflate" if socket.protocol.extensions else "uncompressed"
        for message in MESSAGES:
            await socket.send(message)
            await expect_echo(socket, message)

        # All in flight together: a task sends them, because neither side can buffer all of them.
        sender = asyncio.create_task(send_all(socket))
        for message in MESSAGES:
            await expect_echo(socket, message)
        await sender

        async with asyncio.timeout(LIMIT):
            await (await socket.ping(b"are you there?"))
        await socket.close(1000, "done")
    if socket.close_code != 1000:
        sys.exit(f"client.py: closed with {socket.close_code}, 1000 was due")
    print(f"{2 * len(MESSAGES)} messages echoed, a ping answered, closed with 1000, {compression}")


async def farewell(url):
    async with connect(url, open_timeout=LIMIT) as socket:
        print("ready", flush=True)
        try:
            message = await receive(socket)
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                sys.exit("client.py: the connection ended with no close frame")
            print("closed with", closed.rcvd.code)
        else:
            sys.exit(f"client.py: a close was due, got {describe(message)}")


async def forge(url):
    claim = {"X-Forwarded-For": "203.0.113.9"}
    async with connect(url, local_addr=("127.0.0.2", 0), additional_headers=claim, open_timeout=LIMIT) as socket:
        await socket.send("hello")
        await expect_echo(socket, "hello")


def main():
    try:
        asyncio.run({"exchange": exchange, "farewell": farewell, "forge": forge}[sys.argv[1]](sys.argv[2]))
    except (OSError, TimeoutError, ConnectionClosed) as error:
        sys.exit(f"client.py {sys.argv[1]}: {type(error).__name__}: {error}")


main()
