"""Echo servers of `websockets`, one for each combination of the parameters of permessage-deflate that it can demand.

Prints `COMBINATION URL` for each and then `listening`. For each client that has left, it prints `closed CODE`, the
number of messages received, and the number of those that were compressed.
"""

import asyncio

from deflate import combinations, count_compressed, named
from websockets.asyncio.server import serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def echo(socket):
    [extension] = socket.protocol.extensions or [None]
    if extension:
        count_compressed(extension)
    count = 0
    async for message in socket:
        count += 1
        await socket.send(message)
    print("closed", socket.close_code, count, extension.compressed if extension else 0, flush=True)


async def main():
    servers = []
    for options in combinations():
        factory = ServerPerMessageDeflateFactory(**options, require_client_max_window_bits=True)
        server = await serve(echo, "127.0.0.1", 0, compression=None, extensions=[factory], max_size=None)
        servers.append(server)
        print(f"{named(options)} ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    print("listening", flush=True)
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
