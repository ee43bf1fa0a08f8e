"""Targets that are objects of the bucket, or files of a restored directory, read by what always reads them."""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from crc32c import crc32c

from barman_cloud.catalog import keep
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.identity import ArchiveIdentity
from barman_cloud.catalog.layout import Layout
from barman_cloud.postgres.control_file import is_whole, parse_control_file
from barman_cloud.postgres.timeline import parse_history
from barman_cloud.postgres.wal import parse_wal_name
from barman_cloud.postgres.wal_check import begin_check
from barman_cloud.restore import journal
from barman_cloud.schedule import lease
from barman_cloud.store.base import ObjectStore, StoreURL
from barman_cloud.verify import ledger
from tests.fuzz.target import Target
from tests.support.memory_store import MemoryStore
from tests.support.segments import PAGE, SYSTEM, segment, segment_name

_URL = StoreURL("memory", "fuzz", "", "memory://fuzz")
_LAYOUT = Layout("", "main")
_ID = "20260101T000000"
_numbers = itertools.count()


def targets(directory: Path) -> Mapping[str, Target]:
    """Return them by name; what reads files gets them below ``directory``."""
    annotation, identity = _LAYOUT.keep(_ID), _LAYOUT.identity
    verified = ledger.ledger_key(_LAYOUT)
    return {
        "annotation": Target(functools.partial(_stored, annotation, _read_annotation), (b"full", b"standalone\n")),
        "system-identifiers": Target(functools.partial(_stored, identity, _read_identity), (f"{SYSTEM}\n".encode(),)),
        "ledger": Target(functools.partial(_stored, verified, lambda store: ledger.load(store, _LAYOUT)), (_ledger(),)),
        "lease": Target(_read_lease, (_LEASE,)),
        "history": Target(lambda data: parse_history(data, 3), (b"1\t0/3000148\tx\n\n2\t1/A0000000\tbefore\n",)),
        "control-file": Target(_read_control_file, (_control_file(),)),
        "wal-records": Target(_read_records, (segment(1)[: 6 * PAGE],)),
        "journal": Target(functools.partial(_read_journal, directory), (_JOURNAL,)),
    }


def _stored(key: str, read: Callable[[ObjectStore], object], data: bytes) -> object:
    store = MemoryStore(_URL)
    store.put(key, data)
    return read(store)


def _read_annotation(store: ObjectStore) -> object:
    catalog = Catalog(store, _LAYOUT)
    found = keep.read_all(catalog)
    return [keep.label(text) for text in found.values()]


def _read_identity(store: ObjectStore) -> None:
    ArchiveIdentity(store, _LAYOUT).require(SYSTEM, "a segment")


def _ledger() -> bytes:
    return b"""{"version": 1, "backups": {"20260101T000000": {"time": "2026-01-01T00:00:00+00:00", "state": "whole",
"fingerprint": "ab"}}, "segment_size": 16777216, "wal": [[1, 1, 5, "2026-01-01T00:00:00+00:00"]]}"""


_LEASE = (
    b"""{"owner": {"host": "elsewhere", "boot": "ab", "pid": 5, "started": 7}, "until": "2026-01-01T00:00:00+00:00"}"""
)


def _read_lease(data: bytes) -> object:
    """Try to take over what somebody holds, or seems to."""
    store = MemoryStore(_URL)
    with lease.acquire(store, _LAYOUT, "job", timedelta(seconds=9)):
        (key,) = [item.key for item in store.list("")]
        store.put(key, data)
        return lease.acquire(store, _LAYOUT, "job", timedelta(seconds=9)).number


def _control_file() -> bytes:
    data = struct.pack("=QIIi4xqQQ", SYSTEM, 1800, 202505151, 1, 0, 0, 5).ljust(288, b"\0")
    return (data + struct.pack("=I", crc32c(data))).ljust(8192, b"\0")


def _read_control_file(data: bytes) -> object:
    return parse_control_file(data) if is_whole(data) else None


def _read_records(data: bytes) -> object:
    name = parse_wal_name(segment_name(1))
    assert name is not None
    check, pieces = begin_check([data], name)
    found = [finding for piece in pieces for finding in check.feed(piece)]
    return [str(finding) for finding in (*found, *check.finish(), *check.missing_before(len(data)))]


_IDENTITY = journal.Identity("memory://fuzz", "main", _ID, {})
_JOURNAL = b"""{"url": "memory://fuzz", "server": "main", "backup_id": "20260101T000000", "tablespaces": {},
 "delta": false}
{"boot": "x"}
{"archive": "k", "directories": {"d": {"mode": 448, "uid": 0, "gid": 0, "mtime": 5}}, "links": {}, "root_names": [],
 "files": 1, "size": 5, "overlaid": 0}
{"verified": 5}
""".replace(b",\n ", b", ")


def _read_journal(directory: Path, data: bytes) -> object:
    place = directory / str(next(_numbers))
    place.mkdir()
    (place / journal.NAME).write_bytes(data)
    try:
        found = journal.resume(place, _IDENTITY)
        assert found is not None
        found.close()
        return found.finished
    finally:
        (place / journal.NAME).unlink()
        place.rmdir()
