"""Converts the installed Autobahn test suite from Python 2 to Python 3, in place.

usage: convert.py (with the interpreter of the virtual environment that holds the suite, once)

Only what the fuzzing client, the fuzzing server and the cases need is converted: the reports in HTML and the parts for
TLS and for WAMP stay behind. octets.py says what becomes of octet strings.
"""

import importlib.util
import pathlib
import shutil
import sys
import warnings

SYNTAX = ["dict", "except", "has_key", "import", "print", "raise", "unicode", "xrange"]

OCTETS = "from autobahntestsuite import octets"

# Per glob: the text to find, what takes its place, and how often it has to be there, over all of the glob's files.
EDITS = {
    "fuzzing.py": [
        ("json, binascii, time, textwrap, pkg_resources", f"json, time, textwrap\n{OCTETS} as binascii", 1),
        ("import reactor, ssl\n", "import reactor\n", 1),
        ("ssl.ClientContextFactory()", "None", 1),
        ("from twisted.web.server import Site\n", "", 1),
        ("from twisted.web.static import File\n", "", 1),
        ("from .report import", "CSS_COMMON = CSS_DETAIL_REPORT = CSS_MASTER_REPORT = JS_MASTER_REPORT = None\n_ =", 1),
    ],
    "case/*.py": [
        ("import binascii\n", f"{OCTETS} as binascii\n", 14),
        ("os, pkg_resources, hashlib, binascii\n", f"os, hashlib\n{OCTETS} as binascii, octets as pkg_resources\n", 1),
        ("from autobahn.websocket.utf8validator import", "from autobahntestsuite.octets import", 1),
        ("from zope.interface import implements\n", "", 1),
        ("implements(interfaces.IPushProducer)", "pass", 1),
        # `object` is a base of Case already, so that it cannot come before it.
        ("(object, Case, )", "(Case, )", 6),
        # A count of frames: an integer division.
        ("len(self.payload) / self.", "len(self.payload) // self.", 1),
    ],
    "caseset.py": [],
}


def octet_source(path):
    """A module's source, in which each octet outside ASCII is the character of the same number.

    The suite's string literals hold UTF-8; with the coding line gone they mean its octets.
    """
    lines = path.read_bytes().decode("latin-1").splitlines()
    if lines and lines[0].startswith("#") and "coding" in lines[0]:
        lines[0] = ""
    return "\n".join(lines) + "\n"


def main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fissix.refactor import RefactoringTool
    syntax = RefactoringTool([f"fissix.fixes.fix_{name}" for name in SYNTAX])
    # The suite's own package cannot be imported before this is done, only found.
    package = pathlib.Path(importlib.util.find_spec("autobahntestsuite").origin).parent

    for glob, edits in EDITS.items():
        found = dict.fromkeys((old for old, _, _ in edits), 0)
        for path in sorted(package.glob(glob)):
            source = str(syntax.refactor_string(octet_source(path), str(path)))
            for old, new, _ in edits:
                found[old] += source.count(old)
                source = source.replace(old, new)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                compile(source, str(path), "exec")
            path.write_text(source, encoding="utf-8")
        for old, _, expected in edits:
            if found[old] != expected:
                sys.exit(f"convert.py: {old!r} stands {found[old]} times in {glob} of the suite, not {expected} times")

    shutil.copy(pathlib.Path(__file__).with_name("octets.py"), package)
    # The original imports every program of the suite.
    (package / "__init__.py").write_text("from ._version import __version__ as version\n")


main()
