"""Octet strings for the Autobahn test suite; convert.py puts this module into the suite's package.

The suite's cases were written for Python 2 and use `str` for octets. Converted, they still do: each character stands
for the octet of the same number. Everything else in Python 3 wants `bytes`. This module has the conversions, and those
functions of other modules that the suite calls with octet strings, under the names that it calls them by.
"""

import binascii
import pathlib

from autobahn.websocket import utf8validator


def to_bytes(octets):
    return octets.encode("latin-1") if isinstance(octets, str) else octets


def from_bytes(data):
    return data.decode("latin-1") if isinstance(data, bytes) else data


def hexlify(octets):
    return binascii.hexlify(to_bytes(octets)).decode("ascii")


b2a_hex = hexlify


def resource_filename(_package, name):
    return str(pathlib.Path(__file__).parent / name)


class Utf8Validator(utf8validator.Utf8Validator):
    def validate(self, octets):
        return super().validate(to_bytes(octets))
