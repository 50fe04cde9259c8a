"""The combinations of parameters of permessage-deflate, and the messages, the same as in deflate.js."""

import itertools

WINDOW_BITS = [9, 12, 15]


def combinations():
    """Returns keyword arguments for the factories of `websockets`."""
    flags = [False, True]
    names = [
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    ]
    for values in itertools.product(flags, flags, WINDOW_BITS, WINDOW_BITS):
        yield dict(zip(names, values))


def named(options):
    def half(side):
        takeover = "fresh" if options[f"{side}_no_context_takeover"] else "takeover"
        return f"{side}-{takeover}-{options[f'{side}_max_window_bits']}"

    return f"{half('server')}-{half('client')}"


def record(i):
    return f'{{"id":{i},"name":"station {i % 17}","state":"ok","reading":{i * 7919 % 1000}}}'


def lines(start, end):
    return ",".join(record(i) for i in range(start, end))


def noise(length):
    state, out = 1, bytearray()
    for _ in range(length):
        state = state * 48271 % 2147483647
        out.append(state & 0xFF)
    return bytes(out)


def messages():
    long = lines(0, 2000)
    text = "aé€𝄞" * 500
    return [lines(0, 30), lines(0, 30), "", "x", text, noise(700), long, lines(1900, 2000), long, noise(700)]


def count_compressed(extension):
    """Makes the extension of a connection count the messages that arrive compressed."""
    decode = extension.decode
    extension.compressed = 0

    def counting(frame, **options):
        extension.compressed += frame.rsv1
        return decode(frame, **options)

    extension.decode = counting
