"""Chains of incremental backups made by hand, in any store."""

from __future__ import annotations

import tarfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.compression import compress_bytes
from barman_cloud.archive.manifest import EntrySpool, WalRange, manifest_stream
from barman_cloud.catalog.backup_info import BackupInfo, Tablespace
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.incremental.file_format import BLOCK, Header
from barman_cloud.store.base import ObjectStore
from tests.unit.incremental.test_visibility import page
from tests.unit.restore.backups import Bucket, directory, member, tar

Member = tuple[tarfile.TarInfo, bytes]
SYSTEM = "77"


def block(fill: int) -> bytes:
    """A block full of one byte."""
    return bytes([fill]) * BLOCK


def changed(blocks: Mapping[int, bytes], truncation: int) -> bytes:
    """The content of an incremental file."""
    return Header(array("I", blocks), truncation).to_bytes() + b"".join(blocks.values())


class HandMadeChain:
    """Backups of server ``main``, each the child of the one before; the first is a full one."""

    def __init__(self, store: ObjectStore | None = None) -> None:
        self.bucket = Bucket(store)
        self.store, self.layout = self.bucket.store, self.bucket.layout
        self.infos: list[BackupInfo] = []

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.store, self.layout)

    @property
    def newest(self) -> BackupInfo:
        return self.catalog.load_one(self.infos[-1].backup_id)

    def add(
        self, files: Mapping[str, bytes], spaces: Mapping[str, bytes] | None = None, **fields: object
    ) -> BackupInfo:
        """Add a backup with these files in PGDATA, beside the least that any has, and those of tablespace 16384."""
        number = len(self.infos) + 1
        backup_id = f"20261122T12110{number}"
        parent = self.infos[-1] if self.infos else None
        label = f"START WAL LOCATION: 0/{number}000028 (file 00000001000000000000000{number})\n"
        if parent:
            label += f"INCREMENTAL FROM LSN: {parent.begin_xlog}\nINCREMENTAL FROM TLI: 1\n"
        info = replace(
            self.bucket.info, backup_id=backup_id, begin_xlog=f"0/{number}000028", systemid=SYSTEM, backup_label=label,
            parent_backup_id=parent.backup_id if parent else None,
            tablespaces=[Tablespace("fast", 16384, "/nowhere")] if spaces is not None else None,
        )  # fmt: skip
        content = {
            "PG_VERSION": b"18\n", **files, "global/pg_control": b"control %d" % number, "backup_label": label.encode()
        }  # fmt: skip
        parts = {"data": [directory("global"), directory("pg_tblspc"), directory("base", 0o750)]}
        parts["data"] += [member(path, data) for path, data in content.items()]
        if spaces is not None:
            parts["16384"] = [member(path, data) for path, data in spaces.items()]
        self.put(info, parts)
        self.infos.append(replace(info, **fields))  # type: ignore[arg-type]
        self.catalog.save(self.infos[-1])
        if parent:
            stored = self.catalog.load_one(parent.backup_id)
            self.catalog.save(replace(stored, children_backup_ids=[*(stored.children_backup_ids or []), backup_id]))
        return self.infos[-1]

    def put(self, info: BackupInfo, parts: Mapping[str, Sequence[Member]]) -> None:
        """Store the archives and the manifest of a backup."""
        spool = EntrySpool()
        for base, members in parts.items():
            for entry, content in members:
                if entry.isreg():
                    path = entry.name if base == "data" else f"pg_tblspc/{base}/{entry.name}"
                    spool.add(path, len(content), 0, crc32c(content))
            key = self.layout.archive(info.backup_id, base, 0, ".lz4")
            self.store.put(key, compress_bytes(tar(members), "lz4"))
        begin = int((info.begin_xlog or "").partition("/")[2], 16)
        _, manifest = manifest_stream([spool], [WalRange(1, begin, begin + 256)], int(SYSTEM))
        self.store.put(self.layout.manifest(info.backup_id), b"".join(manifest))


REL = "base/5/16400"
PART = "base/5/INCREMENTAL.16400"


def three(store: ObjectStore | None = None) -> HandMadeChain:
    """A full backup and two increments, in which a relation is cut and grows, one is new, and one is gone."""
    chain = HandMadeChain(store)
    chain.add({REL: block(1) * 8, "base/5/1": block(9), "base/5/gone": b"gone"}, {"PG_18_1/5/2": block(5) * 3})
    chain.add(
        {PART: changed({1: block(2), 5: block(3)}, 4), "base/5/1": block(8), "base/5/3": block(4) * 2},
        {"PG_18_1/5/INCREMENTAL.2": changed({0: block(6)}, 3)},
    )
    chain.add(
        {PART: changed({0: block(7)}, 6), "base/5/INCREMENTAL.3": changed({}, 2), "base/5/1": block(8)},
        {"PG_18_1/5/INCREMENTAL.2": changed({}, 3)},
    )
    return chain


EXPECTED = {
    REL: block(7) + block(2) + block(1) * 2 + bytes(BLOCK) + block(3),
    "base/5/1": block(8),
    "base/5/3": block(4) * 2,
    "space/PG_18_1/5/2": block(6) + block(5) * 2,
}
"""The files of relations that a restore of the newest makes, the tablespace in ``space``."""


def chain_with_maps(version: int) -> HandMadeChain:
    """A table of which an increment has two blocks, and one of which it has none, with maps that it has nothing of."""
    chain = HandMadeChain()
    maps = {"base/5/16400_vm": page(0xFF, 0), "base/5/16401_vm": page(0xFF, 0)}
    chain.add({REL: block(1) * 8, "base/5/16401": block(1) * 8, **maps}, version=version)
    parts = {f"base/5/INCREMENTAL.{name}": changed({}, 1) for name in ("16400_vm", "16401_vm")}
    parts |= {PART: changed({1: block(2), 5: block(3)}, 8), "base/5/INCREMENTAL.16401": changed({}, 8)}
    chain.add(parts, version=version)
    return chain
