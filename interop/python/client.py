"""A client of Python's `websockets` against an echo server.

usage: client.py exchange|farewell URL

`exchange` has messages echoed and closes; `farewell` prints `ready`, waits for the server to close, and prints the
close code.
"""

import sys
import threading

from payloads import MESSAGES
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

LIMIT = 30


def describe(message):
    return f"{type(message).__name__} of length {len(message)}"


def expect_echo(socket, sent):
    received = socket.recv(timeout=LIMIT)
    if received != sent:
        sys.exit(f"client.py: sent {describe(sent)}, got back {describe(received)}, which differs")


def exchange(url):
    with connect(url, max_size=None, open_timeout=LIMIT) as socket:
        if socket.subprotocol is not None:
            sys.exit(f"client.py: subprotocol {socket.subprotocol} was agreed on, none was offered")
        compression = "permessage-deflate" if socket.protocol.extensions else "uncompressed"
        for message in MESSAGES:
            socket.send(message)
            expect_echo(socket, message)

        # All in flight together: they are sent from a thread, since neither side has room for all of them.
        sender = threading.Thread(target=lambda: [socket.send(message) for message in MESSAGES])
        sender.start()
        for message in MESSAGES:
            expect_echo(socket, message)
        sender.join()

        if not socket.ping(b"are you there?").wait(LIMIT):
            sys.exit(f"client.py: no pong within {LIMIT} s")
        socket.close(1000, "done")
    if socket.close_code != 1000:
        sys.exit(f"client.py: closed with {socket.close_code}, 1000 was due")
    print(f"{2 * len(MESSAGES)} messages echoed, a ping answered, closed with 1000, {compression}")


def farewell(url):
    with connect(url, open_timeout=LIMIT) as socket:
        print("ready", flush=True)
        try:
            message = socket.recv(timeout=LIMIT)
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                sys.exit("client.py: the connection ended with no close frame")
            print("closed with", closed.rcvd.code)
        else:
            sys.exit(f"client.py: a close was due, got {describe(message)}")


def main():
    try:
        {"exchange": exchange, "farewell": farewell}[sys.argv[1]](sys.argv[2])
    except (OSError, TimeoutError, ConnectionClosed) as error:
        sys.exit(f"client.py {sys.argv[1]}: {type(error).__name__}: {error}")


main()
