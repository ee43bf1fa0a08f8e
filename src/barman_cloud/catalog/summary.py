"""How backups are shown: the rows of the list, the page of one backup, and both as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from barman_cloud.catalog.backup_info import DONE, BackupInfo, to_json_dict
from barman_cloud.catalog.catalog import CatalogView
from barman_cloud.catalog.keep import Keeps, label
from barman_cloud.catalog.lineage import Kinship, Weight, kinship_of, type_of, weigh
from barman_cloud.catalog.times import format_time, format_to_the_second
from barman_cloud.report.json_text import document
from barman_cloud.report.terminal import printable
from barman_cloud.report.text import Section, duration, page, size, table

UNREADABLE = "UNREADABLE"
"""Shown as the status of a backup whose ``backup.info`` can't be parsed."""

_WIDTHS = (20, 25, 30, 17, 20)
_TITLES = ("Backup ID", "End Time", "Begin Wal", "Archival Status", "Name")

_Line = tuple[str, object]


def list_as_text(view: CatalogView, keeps: Keeps, sizes: Mapping[str, int] | None = None) -> str:
    """Return the table of all backups, ids ascending, those that can't be read included.

    ``sizes`` (bytes of each backup in the store) adds columns that Barman's table doesn't have: the type of each
    backup, its parent, what it stores, what its chain does, and what is saved.
    """
    rows = {backup_id: _row(info, keeps.get(backup_id)) for backup_id, info in view.backups.items()}
    rows.update((backup_id, (backup_id, "", "", UNREADABLE, "")) for backup_id in view.unreadable)
    if sizes is None:
        return table(_WIDTHS, [_TITLES, *(rows[backup_id] for backup_id in sorted(rows))])
    for backup_id, row in rows.items():
        info = view.backups.get(backup_id)
        kin = ("", "", "", "", "")
        if info:
            weight = weigh(kinship_of(view.backups, backup_id), sizes)
            kin = (type_of(info), info.parent_backup_id or "", size(weight.stored), size(weight.chain), _saved(weight))
        rows[backup_id] = (*row[:-1], *kin, row[-1])
    titles = (*_TITLES[:-1], "Type", "Parent", "Stored", "Chain", "Saved", _TITLES[-1])
    return table(
        (*_WIDTHS[:-1], 13, 17, 11, 11, 8, _WIDTHS[-1]), [titles, *(rows[backup_id] for backup_id in sorted(rows))]
    )


def list_as_json(view: CatalogView, sizes: Mapping[str, int] | None = None) -> str:
    """Return ``{"backups_list": [...]}``, ids ascending.

    With ``sizes`` (bytes of each backup in the store) it also tells what each backup is to its chain.

    Of a backup that can't be read there is its id, ``UNREADABLE`` as its status and the reason as its error; all else
    is null. A client then neither takes it for a backup that can be restored, nor for one that is gone.
    """
    entries = {backup_id: to_json_dict(info) for backup_id, info in view.backups.items()}
    nothing = {**to_json_dict(BackupInfo("")), "xlog_segment_size": None, "status": UNREADABLE}
    entries.update(
        (backup_id, {**nothing, "error": str(error), "backup_id": backup_id})
        for backup_id, error in view.unreadable.items()
    )
    if sizes is not None:
        for backup_id in view.backups:
            kinship = kinship_of(view.backups, backup_id)
            entries[backup_id] |= _kinship_as_dict(kinship, weigh(kinship, sizes))
    return document({"backups_list": [entries[backup_id] for backup_id in sorted(entries)]})


def describe_clusters(clusters: Mapping[str, Sequence[BackupInfo]]) -> str:
    """Return one line that says which backups are of which cluster (system identifier to backups)."""
    return "; ".join(
        f"{'with system identifier ' + systemid if systemid else 'without a system identifier'}: "
        + ", ".join(info.backup_id for info in backups)
        for systemid, backups in clusters.items()
    )


def show_as_json(info: BackupInfo, kinship: Kinship | None = None, weight: Weight | None = None) -> str:
    """Return the object of one backup below the server name that is stored in it (``cloud``, usually).

    With ``kinship`` and ``weight`` it also tells what the backup is to its chain.
    """
    more = _kinship_as_dict(kinship, weight) if kinship and weight else {}
    return document({info.server_name: to_json_dict(info) | more})


def show_as_text(info: BackupInfo, server: str, kinship: Kinship | None = None, weight: Weight | None = None) -> str:
    """Return the page of one backup of ``server``, as the bucket calls it.

    With ``kinship`` and ``weight`` it also tells what the backup is to its chain.
    """
    sections = [Section(None, [_general(info, server)]), Section("Server information", [_server(info)])]
    if info.is_complete:
        sections += [
            Section("Snapshot information", list(_snapshots(info))),
            Section("Tablespaces", [_tablespaces(info)]),
            Section("Base backup information", [list(_base_backup(info))]),
        ]
    if kinship and weight:
        sections.append(Section("Chain", [list(_chain(kinship, weight))]))
    text = page(f"Backup {info.backup_id}", sections)
    if not info.is_complete and info.error:
        text += f"  {'Error':<23}: {printable(info.error)}\n"
    return text


def _row(info: BackupInfo, annotation: str | None) -> tuple[str, ...]:
    archival_status = info.status
    if info.status == DONE:
        archival_status = "" if annotation is None else f"KEEP:{label(annotation).upper()}"
    end_time = format_to_the_second(info.end_time) if info.end_time else ""
    return info.backup_id, end_time, info.begin_wal or "", archival_status, info.backup_name or ""


def _saved(weight: Weight) -> str:
    return "" if weight.saved is None else f"{weight.saved:.1f}%"


def _kinship_as_dict(kinship: Kinship, weight: Weight) -> dict[str, Any]:
    return {
        "backup_type": kinship.type,
        "root_backup_id": kinship.root,
        "chain_backup_ids": list(kinship.chain),
        "chain_complete": not kinship.is_broken,
        "stored_size": weight.stored,
        "chain_size": weight.chain,
        "saved_percent": None if weight.saved is None else round(weight.saved, 1),
    }


def _chain(kinship: Kinship, weight: Weight) -> Iterator[_Line]:
    yield "Backup Type", kinship.type
    yield "Size in the store", size(weight.stored)
    if kinship.parent:
        yield "Root Backup", kinship.root
        yield "Parent Backup", kinship.parent
        yield "Needed to restore", ", ".join(kinship.chain)
        yield "Size of all these", size(weight.chain)
    if weight.saved is not None:
        yield "Saved", f"{_saved(weight)} of the root's size"
    if kinship.children:
        yield "Children", ", ".join(kinship.children)
    if kinship.is_broken:
        yield "Broken", f"{kinship.chain[0]} is incremental, and its parent is gone: this can't be restored"


def _set(lines: Iterable[_Line]) -> list[_Line]:
    return [(label, value) for label, value in lines if value is not None]


def _general(info: BackupInfo, server: str) -> list[_Line]:
    lines = _set([("Backup Name", info.backup_name)])
    lines += [("Server Name", info.server_name)]
    if info.server_name != server:  # most backups hold a constant there
        lines += [("Stored As Server", server)]
    lines += _set([("System Id", info.systemid)])
    lines += [("Status", info.status)]
    if info.is_complete:
        lines += [("PostgreSQL Version", info.version), ("PGDATA directory", info.pgdata)]
        if info.cluster_size is not None:
            lines += [("Estimated Cluster Size", size(info.cluster_size))]
    return lines


def _server(info: BackupInfo) -> list[_Line]:
    return _set([("Checksums", info.data_checksums), ("WAL summarizer", info.summarize_wal)])


def _snapshots(info: BackupInfo) -> Iterator[list[_Line]]:
    if info.snapshots_info:
        yield [("provider", info.snapshots_info.provider), *info.snapshots_info.provider_info.items()]
        for snapshot in info.snapshots_info.snapshots:
            mount = [("Mount point", snapshot.mount_point), ("Mount options", snapshot.mount_options)]
            yield [*sorted(snapshot.provider.items()), *mount]


def _tablespaces(info: BackupInfo) -> list[_Line]:
    return [(name, f"{location} (oid: {oid})") for name, oid, location in info.tablespaces or ()]


def _base_backup(info: BackupInfo) -> Iterator[_Line]:
    compression = info.compression if info.compression != "none" else None
    deduplicated = None if info.deduplicated_size is None else size(info.deduplicated_size)
    yield from _set(
        [
            ("Backup Method", info.mode),
            ("Encryption", info.encryption),
            ("Backup Size", deduplicated),
            ("Backup Compression", compression),
        ]
    )
    yield "Timeline", info.timeline
    yield "Begin WAL", info.begin_wal
    yield "End WAL", info.end_wal
    yield "Begin time", info.begin_time and format_time(info.begin_time)
    yield "End time", info.end_time and format_time(info.end_time)
    if copy_time := _copy_time(info.copy_stats or {}):
        yield "Copy time", copy_time
    yield "Begin Offset", info.begin_offset
    yield "End Offset", info.end_offset
    yield "Begin LSN", info.begin_xlog
    yield "End LSN", info.end_xlog


def _copy_time(stats: dict[str, Any]) -> str | None:
    copying, analysing = _number(stats.get("copy_time")), _number(stats.get("analysis_time"))
    if copying <= 0:
        return None
    return duration(copying) + (f" + {duration(analysing)} startup" if analysing >= 1 else "")


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0
