"""A bucket as months of backups would leave it, without a server: for what is told from listings."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.postgres.wal import format_lsn, segment_name
from barman_cloud.store.open import open_store
from barman_cloud.verify import ledger

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SEGMENT = 16 << 20
EACH_DAY = 6
"""Segments."""
SYSTEM = "7410966728863891090"


def stored(path: Path, size: int | bytes, moment: datetime) -> None:
    """Make an object of so many bytes that was written then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(size if isinstance(size, bytes) else b"\0" * size)
    os.utime(path, (moment.timestamp(), moment.timestamp()))


def add_backup(
    root: Path, days_ago: int, segment: int, *, parent: str | None = None, size: int = 3000, **values: object
) -> str:
    """Add a backup that began so many days ago at 3 in the morning, in segment number ``segment``."""
    began = (NOW - days_ago * DAY).replace(hour=3)
    ended = began + timedelta(minutes=10 + days_ago)
    backup_id = f"{began:%Y%m%dT%H%M%S}"
    lsn = segment * SEGMENT + 0x28
    fields: dict[str, object] = {
        "server_name": "cloud", "status": "DONE", "begin_time": began, "end_time": ended, "timeline": 1,
        "systemid": SYSTEM, "version": 180001, "xlog_segment_size": SEGMENT, "pgdata": "/srv/pg",
        "begin_xlog": format_lsn(lsn), "end_xlog": format_lsn(lsn + 0x100), "cluster_size": 9000,
        "parent_backup_id": parent,
        "begin_wal": segment_name(1, lsn, SEGMENT), "end_wal": segment_name(1, lsn + 0x100, SEGMENT),
        "begin_offset": 0x28, "end_offset": 0x128,
    }  # fmt: skip
    info = BackupInfo(backup_id, **{**fields, **values})  # type: ignore[arg-type]
    folder = root / "base" / backup_id
    stored(folder / "data.tar.zst", size, ended)
    stored(folder / "backup.info", backup_info.dump(info).encode(), ended)
    return backup_id


def make_archive(directory: Path, server: str = "main", days: int = 30) -> Path:
    """Make a server's folder: a full backup each week with increments on it, WAL with a gap of two segments on day 8.

    One backup is kept and verified, one FAILED, one lost its archive's WAL to the gap. Returns the folder.
    """
    root = directory / server
    ids = []
    for days_ago in range(days, 0, -2):
        segment = 1 + (days - days_ago) * EACH_DAY
        weekly = (days - days_ago) % 8 == 0
        parent = None if weekly else ids[-1]
        values: dict[str, object] = {"backup_name": '<b>&"nightly"\''} if days_ago == days else {}
        ids.append(add_backup(root, days_ago, segment, parent=parent, size=3000 if weekly else 400, **values))
    add_backup(root, 0, 1 + days * EACH_DAY, status="FAILED", error="failure uploading data (<script>)", end_time=None)
    gap = (days - 8) * EACH_DAY + 3
    for number in range(1, 1 + days * EACH_DAY):
        if number not in (gap, gap + 1):
            name = segment_name(1, number * SEGMENT, SEGMENT)
            moment = NOW - days * DAY + number * DAY / EACH_DAY
            stored(root / "wals" / name[:16] / f"{name}.zst", 50, moment)
    stored(root / "base" / ids[0] / "annotations" / "keep", b"full", NOW)
    store = open_store(f"file://{directory}")
    catalog = Catalog(store, Layout.of(store.url, server))
    book = ledger.Ledger()
    for backup_id, state in ((ids[0], ledger.WHOLE), (ids[-1], ledger.BROKEN)):
        book.backups[backup_id] = ledger.VerifiedBackup(NOW - DAY, state, ledger.fingerprint(catalog, backup_id))
    ledger.save(store, catalog.layout, book, ids)
    return root
