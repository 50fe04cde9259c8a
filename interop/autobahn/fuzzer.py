"""Runs cases of the Autobahn test suite, as the fuzzing client or as the fuzzing server.

usage: fuzzer.py list | fuzzer.py client URL CASE... | fuzzer.py server CASE...

Standard output has one line per event, its fields separated by tabs:

    case ID                                     of `list`: a case that the suite has
    listening URL                               of `server`: the client under test may connect
    result ID BEHAVIOUR CLOSE MILLISECONDS WHY  a case has ended; BEHAVIOUR and CLOSE are the suite's words

The client ends after its last case; the server runs until it is killed. If a case is not OK, its traffic goes to
standard error, with the suite's own messages.
"""

import contextlib
import json
import os
import sys

events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")


def tell(*fields):
    events.write("\t".join(" ".join(str(field).split()) for field in fields) + "\n")


with contextlib.redirect_stdout(sys.stderr):
    from autobahntestsuite import fuzzing
    from autobahntestsuite.octets import from_bytes, hexlify, to_bytes
    from twisted.internet import reactor


class OctetBridge:
    """Converts between the suite, whose octets are `str`, and the autobahn package, whose octets are `bytes`."""

    def sendFrame(self, opcode, payload=b"", fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        payload = to_bytes(payload)
        if payload_len is not None:
            # As a float, this would be the number of times that autobahn repeats the payload.
            times = -(-payload_len // len(payload))
            payload = (payload * times)[:payload_len]
        super().sendFrame(opcode, payload, fin, rsv, to_bytes(mask), None, chopsize, sync)

    def sendMessage(self, payload, *args, **options):
        super().sendMessage(to_bytes(payload), *args, **options)

    def sendMessageFrameData(self, payload, *args, **options):
        return super().sendMessageFrameData(to_bytes(payload), *args, **options)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code, to_bytes(reasonUtf8), isReply)

    def onMessage(self, payload, isBinary):
        # Only the cases of compression, which have test data in files, compute with bytes.
        in_bytes = hasattr(self.runCase, "TESTDATA")
        super().onMessage(payload if in_bytes else from_bytes(payload), isBinary)

    def onPong(self, payload):
        super().onPong(from_bytes(payload))

    def logRxFrame(self, frameHeader, payload):
        super().logRxFrame(frameHeader, [from_bytes(part) for part in payload])


class Client(OctetBridge, fuzzing.FuzzingClientProtocol):
    pass


class Server(OctetBridge, fuzzing.FuzzingServerProtocol):
    pass


class Telling:
    """Reports each result as soon as it is known, instead of the suite's reports at the end."""

    def logCase(self, case):
        why = [case["result"]]
        if case["behaviorClose"] != "OK":
            why.append(case["resultClose"])
        tell("result", case["id"], case["behavior"], case["behaviorClose"], case["duration"], " ".join(why))
        if case["behavior"] != "OK" or case["behaviorClose"] != "OK":
            print("case", case["id"], json.dumps(case, default=from_bytes, indent=1), file=sys.stderr)

    def createReports(self):
        pass


class ClientFactory(Telling, fuzzing.FuzzingClientFactory):
    pass


class ServerFactory(Telling, fuzzing.FuzzingServerFactory):
    protocol = Server


def shortened(octets, length=64):
    data = to_bytes(octets)
    return data[:length], "" if len(data) <= length else " ..."


def log_as_hex(octets):
    data, more = shortened(octets)
    return hexlify(data) + more


def log_as_text(octets):
    data, more = shortened(octets)
    return data.decode("utf-8", "backslashreplace") + more


def specification(cases, **more):
    return {"cases": cases, "exclude-cases": [], "exclude-agent-cases": {}, **more}


def list_cases():
    names = fuzzing.CaseSetname, fuzzing.CaseBasename, fuzzing.Cases
    known = fuzzing.CaseSet(*names, fuzzing.CaseCategories, fuzzing.CaseSubCategories)
    for case in known.parseSpecCases({"cases": ["*"]}):
        tell("case", case)


def run_client(url, cases):
    # The suite's factory connects as soon as it is created, and uses the class with this name for its connections.
    fuzzing.FuzzingClientProtocol = Client
    ClientFactory(specification(cases, servers=[{"agent": "server", "url": url}]))
    reactor.run()


def run_server(cases):
    factory = ServerFactory(specification(cases, url="ws://127.0.0.1:1"))
    port = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
    url = f"ws://127.0.0.1:{port}"
    # The suite compares the Host header of requests with this URL.
    factory.setSessionParameters(url=url)
    tell("listening", url)
    reactor.run()


def main(mode, *args):
    fuzzing.binLogData = log_as_hex
    fuzzing.asciiLogData = log_as_text
    # The suite compares pickles, but since Python 3 the pickles of equal values need not be equal.
    fuzzing.Case.compare = lambda self, a, b: a == b
    with contextlib.redirect_stdout(sys.stderr):
        if mode == "list":
            list_cases()
        elif mode == "client":
            run_client(args[0], list(args[1:]))
        elif mode == "server":
            run_server(list(args))
        else:
            sys.exit(f"fuzzer.py: unknown mode {mode}")


main(*sys.argv[1:])
