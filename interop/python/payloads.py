"""The messages that are exchanged, the same as in exchange.js."""

LENGTHS = [0, 125, 126, 65535, 65536, 1 << 20]


def text_of(length):
    """Returns exactly `length` bytes of UTF-8, with characters of one to four bytes."""
    return "aé€𝄞" * (length // 10) + "x" * (length % 10)


def bytes_of(length):
    """Returns `length` bytes in which no two adjacent blocks of 256 are equal."""
    return bytes((i ^ i >> 8 ^ i >> 16) & 0xFF for i in range(length))


MESSAGES = [make(length) for length in LENGTHS for make in (text_of, bytes_of)]
