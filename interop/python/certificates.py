"""Makes the certificates of the servers under test, with `trustme`.

usage: certificates.py DIRECTORY

Writes `ca.pem`, which has signed all of them, `stranger.pem`, which has signed none, and for each server NAME.pem, the
chain, and NAME.key.
"""

import datetime
import pathlib
import sys

import trustme

NAMES = ["localhost", "127.0.0.1", "server.test"]
DAY = datetime.timedelta(days=1)


def main(directory):
    now = datetime.datetime.now(datetime.timezone.utc)
    ca, stranger = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(directory / "ca.pem")
    stranger.cert_pem.write_to_path(directory / "stranger.pem")

    between = ca.create_child_ca().issue_cert(*NAMES)
    leaves = {
        "valid": ca.issue_cert(*NAMES, not_before=now - DAY, not_after=now + DAY),
        "expired": ca.issue_cert(*NAMES, not_before=now - 2 * DAY, not_after=now - DAY),
        "early": ca.issue_cert(*NAMES, not_before=now + DAY, not_after=now + 2 * DAY),
        "elsewhere": ca.issue_cert("elsewhere.test", "127.0.0.2"),
        "intermediate": between,
        "incomplete": between,
    }
    for name, leaf in leaves.items():
        # Omitting the certificate between the server's own and the authority's is a common mistake.
        chain = leaf.cert_chain_pems[:1] if name == "incomplete" else leaf.cert_chain_pems
        (directory / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in chain))
        leaf.private_key_pem.write_to_path(directory / f"{name}.key")


main(pathlib.Path(sys.argv[1]))
