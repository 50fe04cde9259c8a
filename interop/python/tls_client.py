"""A client of Python's `websockets` over TLS.

usage: tls_client.py URL CERTIFICATES TEXT

Trusts the certificates of a file in PEM, prints the first message, sends the text, prints its echo and closes.
"""

import ssl
import sys

from websockets.sync.client import connect

LIMIT = 30

url, certificates, text = sys.argv[1:]
with connect(url, ssl=ssl.create_default_context(cafile=certificates), open_timeout=LIMIT) as socket:
    print(socket.recv(timeout=LIMIT))
    socket.send(text)
    print(socket.recv(timeout=LIMIT))
