"""Catalogs for tests: a store in memory, filled as the golden runs were, and the commands run on it in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from barman_cloud.catalog.backup_info import BackupInfo, Tablespace
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.cli.parser import Parser
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store

GOLDEN = Path(__file__).parents[2] / "golden"
_numbers = count()


def memory_store(path: str = "del") -> ObjectStore:
    """Return an empty store of its own; its URL opens it again."""
    return open_store(f"memory://bucket{next(_numbers)}/{path}")


def memory_catalog(server: str = "a", path: str = "del") -> Catalog:
    store = memory_store(path)
    return Catalog(store, Layout.of(store.url, server))


def backup(backup_id: str, begin_wal: str | None = None, status: str = "DONE", **fields: Any) -> BackupInfo:
    """Return a backup of one tablespace whose id is the time of its end, as in the golden catalogs."""
    defaults: dict[str, Any] = {
        "begin_wal": begin_wal,
        "end_wal": begin_wal if status == "DONE" else None,
        "end_time": datetime.strptime(backup_id, "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if status == "DONE" else None,
        "timeline": int(begin_wal[:8], 16) if begin_wal else None,
        "server_name": "cloud",
        "tablespaces": [Tablespace("ts_fast", 16384, "/srv/pg/ts1")],
    }
    return BackupInfo(backup_id, status=status, **(defaults | fields))


def fill(
    catalog: Catalog,
    backups: Iterable[BackupInfo],
    wals: Iterable[str] = (),
    *,
    archives: Iterable[str] = ("data.tar", "16384.tar"),
    keeps: Mapping[str, str] | None = None,
) -> Catalog:
    """Store the metadata and archives of ``backups``, WAL files by name, and keep annotations."""
    for info in backups:
        catalog.save(info)
        for name in () if info.snapshots_info else archives:
            catalog.store.put(catalog.layout.backup_dir(info.backup_id) + name, b"x")
        if info.snapshots_info:
            catalog.store.put(catalog.layout.backup_label(info.backup_id), b"x")
    for name in wals:
        catalog.store.put(catalog.layout.wal(name), b"x")
    for backup_id, text in (keeps or {}).items():
        catalog.store.put(catalog.layout.keep(backup_id), text.encode())
    return catalog


def catalog_a() -> Catalog:
    """Four DONE backups on one timeline."""
    data = json.loads((GOLDEN / "dry-run/catalog-a.json").read_text())
    backups = [backup(entry["id"], entry["bw"], backup_name=entry.get("name")) for entry in data["backups"]]
    return fill(memory_catalog("a"), backups, data["wals"])


def segment(position: int, log: int = 0, timeline: int = 1) -> str:
    return f"{timeline:08X}{log:08X}{position:08X}"


def keys(catalog: Catalog) -> list[str]:
    return [item.key for item in catalog.store.list("")]


def run(module: ModuleType, catalog: Catalog, *arguments: str, is_umbrella: bool = False) -> int:
    """Run a command on ``catalog``; the URL and the server go before the last argument if it is no option's value."""
    parser = Parser()
    module.COMMAND.add_arguments(parser)
    args = parser.parse_args(list(arguments))
    args.is_umbrella = is_umbrella
    return module.COMMAND.run(args) or 0


def where(catalog: Catalog) -> tuple[str, str]:
    """Return the URL and the server of ``catalog``, for a command line."""
    return catalog.store.url.text, catalog.layout.server


def golden_output(file: str, words: str) -> str:
    """Return the stdout of the first golden run in ``file`` whose command line ends in these words."""
    runs = re.split(r"(?m)^\$ ", (GOLDEN / file).read_text())
    found = next(run for run in runs if run.split("\n", 1)[0].endswith(f" {words}"))
    return found.split("stdout:\n", 1)[1].removesuffix("\n")
