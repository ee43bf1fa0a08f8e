"""Backups made by hand, in memory, member by member, with the standard library's tar writer."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.archive import archives_json
from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.compression import compress_bytes
from barman_cloud.archive.manifest import EntrySpool, WalRange, manifest_stream
from barman_cloud.catalog.backup_info import DONE, BackupInfo, Tablespace
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.restore import extraction, worker
from barman_cloud.restore.archive_restore import RestoreReport, restore_backup
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.store.base import ObjectStore, StoreURL
from tests.support.memory_store import MemoryStore

BACKUP_ID = "20261122T121102"
LABEL = b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n"


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar archive; ``fields`` are attributes of TarInfo."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    info.mode = fields.pop("mode", 0o600)
    info.mtime = fields.pop("mtime", 1_700_000_000.25)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def directory(name: str, mode: int = 0o700, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.DIRTYPE, mode=mode, **fields)


def symlink(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.SYMTYPE, linkname=target, mode=0o777, **fields)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.LNKTYPE, linkname=target)


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A pax archive of these members, exactly as named."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if content else None)
    return buffer.getvalue()


def minimal(*more: tuple[tarfile.TarInfo, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The least that can be restored, and ``more`` in the middle."""
    return [
        directory("./"),
        member("./PG_VERSION", b"18\n"),
        directory("global"),
        directory("pg_tblspc"),
        *more,
        member("global/pg_control", b"control"),
        member("backup_label", LABEL, mode=0o644),
    ]


def with_manifest(bucket: Bucket, archives: Mapping[str, Sequence[tuple[tarfile.TarInfo, bytes]]]) -> None:
    """Store archives by base name as our own backups are: with ``backup_manifest`` and ``archives.json``."""
    spool = EntrySpool()
    for base, members in archives.items():
        for info, content in members:
            if info.isreg():
                path = info.name.removeprefix("./")
                spool.add(path if base == "data" else f"pg_tblspc/{base}/{path}", len(content), 0, crc32c(content))
    begin = parse_lsn(bucket.info.begin_xlog or "")
    _, manifest = manifest_stream([spool], [WalRange(1, begin, begin + 256)], 77)
    more = {"data": [member("backup_manifest", b"".join(manifest))]}
    keys = [bucket.put([*members, *more.get(base, [])], base) for base, members in archives.items()]
    record_archives(bucket, keys)


def record_archives(bucket: Bucket, keys: Iterable[str]) -> None:
    """Store the ``archives.json`` of these archives."""
    records = [
        ArchiveRecord(key.rpartition("/")[2], len(data), crc32c(data), None, 1)
        for key in keys
        for data in [bucket.store.get(key)]
    ]
    bucket.store.put(bucket.layout.archives_json(BACKUP_ID), archives_json.dump(records).encode())


class Bucket:
    """A store (in memory by default) with one backup of server ``main`` in it."""

    def __init__(self, store: ObjectStore | None = None) -> None:
        self.store = store or MemoryStore(StoreURL("memory", "test", "prod", "memory://test/prod"))
        self.layout = Layout.of(self.store.url, "main")
        self.info = BackupInfo(
            BACKUP_ID,
            status=DONE,
            version=180000,
            timeline=1,
            begin_wal="000000010000000000000002",
            end_wal="000000010000000000000002",
            begin_xlog="0/2000028",
            end_time=datetime(2026, 11, 22, 12, 30, tzinfo=UTC),
            end_xlog="0/2000100",
            server_name="cloud",
        )

    def put(
        self,
        members: Iterable[tuple[tarfile.TarInfo, bytes]],
        base: str = "data",
        part: int = 0,
        compression: str | None = None,
        suffix: str = "",
    ) -> str:
        """Store an archive and return its key."""
        key = self.layout.archive(BACKUP_ID, base, part, suffix)
        self.store.put(key, compress_bytes(tar(members), compression))
        return key

    def tablespaces(self, places: Mapping[str, str]) -> None:
        """Let the backup have tablespaces of these names and locations, with the oids 16384, 16385 …"""
        self.info.tablespaces = [
            Tablespace(name, 16384 + number, place) for number, (name, place) in enumerate(places.items())
        ]

    def save(self) -> None:
        """Store ``backup.info``, and a WAL file by the name of the one that the backup needs."""
        Catalog(self.store, self.layout).save(self.info)
        self.store.put(self.layout.wal("000000010000000000000002"), b"WAL")


def restore(
    bucket: Bucket, target: Path, jobs: int = 2, settings: RecoverySettings | None = None, **rules: str
) -> RestoreReport:
    return restore_backup(bucket.store, bucket.layout, bucket.info, target, rules, jobs, settings)


def interrupt_after(bucket: Bucket, target: Path, archives: int) -> None:
    """Run a restore that is killed once so many archives (the largest first) are extracted."""
    real = worker.extract_archive
    left = [archives]

    def extract(*args: object, **options: object) -> object:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*args, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(extraction, "extract_archive", extract)
        restore(bucket, target, jobs=1)
