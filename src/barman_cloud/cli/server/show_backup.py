"""``show-backup``: the page of one backup, and the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barman_cloud.catalog import wal_usage
from barman_cloud.catalog.lineage import kinship_of, type_of
from barman_cloud.catalog.times import format_time
from barman_cloud.cli.server import retention
from barman_cloud.cli.server.backups import data_sizes
from barman_cloud.cli.server.session import add_backup
from barman_cloud.report.text import Section, duration, page, size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.catalog.wal_usage import StoredWal, WalUsage
    from barman_cloud.cli.server.session import OneServer, Session

_LATEST = "- (this is the latest base backup)"
_OLDEST = "- (this is the oldest base backup)"
_Line = tuple[str, object]


def show_backup_arguments(parser: ArgumentParser) -> None:
    add_backup(parser)


def show_backup(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    info = server.backup(args.backup_id)
    if not info.is_complete:
        text = page(f"Backup {info.backup_id}", [Section(None, [_unfinished(info)])])
        session.output.text(text.rstrip("\n") + "\n")
        session.output.result(server.name, _unfinished_as_json(info))
        return
    found = facts(server, info)
    session.output.text(as_text(info, found))
    session.output.result(server.name, found)


def _unfinished(info: BackupInfo) -> list[_Line]:
    lines = [
        ("Backup Name", info.backup_name),
        ("Server Name", info.server_name),
        ("System Id", info.systemid),
        ("Status", info.status),
        ("Error", info.error),
    ]
    return [line for line in lines if line[1] is not None]


def _unfinished_as_json(info: BackupInfo) -> dict[str, Any]:
    found = {
        "backup_id": info.backup_id,
        "status": info.status,
        "system_id": info.systemid,
        "error": info.error,
        "backup_name": info.backup_name,
        "backup_type": type_of(info),
    }
    return {name: value for name, value in found.items() if value is not None}


def facts(server: OneServer, info: BackupInfo) -> dict[str, Any]:
    """Return everything that is shown of a complete backup, under the keys of the JSON form."""
    usage = wal_usage.read(server.wals.store, server.wals.layout)
    found: dict[str, Any] = {
        "backup_id": info.backup_id,
        "backup_type": type_of(info),
        "status": info.status,
        "system_id": info.systemid,
        "postgresql_version": info.version,
        "pgdata_directory": info.pgdata,
        "tablespaces": [
            {"name": name, "oid": oid, "location": location} for name, oid, location in info.tablespaces or ()
        ],
        "server_information": {"data_checksums": info.data_checksums, "summarize_wal": info.summarize_wal},
        "base_backup_information": _base(info, usage, data_sizes(server)[info.backup_id]),
        "wal_information": _wal(info, usage, wal_usage.following(server.view.backups, info.backup_id)),
        "catalog_information": _catalog(server, info),
    }
    if info.backup_name is not None:
        found["backup_name"] = info.backup_name
    if info.cluster_size is not None:
        found |= {"cluster_size": size(info.cluster_size), "cluster_size_bytes": info.cluster_size}
    if info.snapshots_info:
        found["snapshots_info"] = info.snapshots_info.as_dict()
    return found


def _base(info: BackupInfo, usage: WalUsage, stored: int) -> dict[str, Any]:
    needed = usage.needed_by(info)
    wal_size = wal_usage.total(needed)
    stats = info.copy_stats or {}
    seconds = stats.get("copy_time") or 0
    base: dict[str, Any] = {
        "backup_method": info.mode,
        "backup_size": size(stored),
        "backup_size_bytes": stored,
        "backup_size_with_wals": size(stored + wal_size),
        "backup_size_with_wals_bytes": stored + wal_size,
        "begin_lsn": info.begin_xlog,
        "begin_offset": info.begin_offset,
        "begin_time": info.begin_time and format_time(info.begin_time),
        "begin_time_timestamp": info.begin_time and str(int(info.begin_time.timestamp())),
        "begin_wal": info.begin_wal,
        "compression": info.compression,
        "encryption": info.encryption,
        "end_lsn": info.end_xlog,
        "end_offset": info.end_offset,
        "end_time": info.end_time and format_time(info.end_time),
        "end_time_timestamp": info.end_time and str(int(info.end_time.timestamp())),
        "end_wal": info.end_wal,
        "timeline": info.timeline,
        "wal_num": len(needed),
        "wal_size": size(wal_size),
        "wal_size_bytes": wal_size,
    }
    if ratio := _ratio(needed, info.xlog_segment_size):
        base["wal_compression_ratio"] = ratio
    if seconds:
        base |= {
            "copy_time": duration(seconds),
            "copy_time_seconds": seconds,
            "number_of_workers": stats.get("number_of_workers"),
            "throughput": f"{size(int(stored / seconds))}/s",
            "throughput_bytes": int(stored / seconds),
        }
        if (analysis := stats.get("analysis_time") or 0) >= 1:
            base |= {"analysis_time": duration(analysis), "analysis_time_seconds": analysis}
    if info.parent_backup_id and info.cluster_size:
        saved = max(0, info.cluster_size - stored)
        base |= {
            "resources_saved": size(saved),
            "resources_saved_bytes": saved,
            "resources_saved_percentage": f"{100 * saved / info.cluster_size:.2f}%",
        }
    return base


def _ratio(files: list[StoredWal], segment_size: int) -> str | None:
    """Return how much smaller compressed segments are than others, None if they aren't."""
    if not any(file.wal.compression for file in files):
        return None
    return f"{100 * (1 - wal_usage.total(files) / (len(files) * segment_size)):.2f}%"


def _wal(info: BackupInfo, usage: WalUsage, following: BackupInfo | None) -> dict[str, Any]:
    since = usage.since(info, following)
    taken = wal_usage.total(since)
    way = [*usage.needed_by(info), *since]
    last = way[-1] if way else None
    rate = 0.0
    if way and way[0].stored and way[-1].stored:
        passed = (way[-1].stored - way[0].stored).total_seconds()
        rate = len(way) / passed if passed > 0 else 0.0
    newest = info.timeline or 0
    wal: dict[str, Any] = {
        "no_of_files": len(since),
        "disk_usage": size(taken),
        "disk_usage_bytes": taken,
        "wal_rate": f"{rate * 3600:.2f}/hour" if rate else 0,
        "wal_rate_per_second": rate,
        "compression_ratio": 1 - taken / (len(since) * info.xlog_segment_size) if _ratio(since, 1) else 0,
        "last_available": last.name if last else None,
        "timelines": sorted({file.wal.timeline for file in usage.segments if file.wal.timeline > newest}),
    }
    return wal


def _catalog(server: OneServer, info: BackupInfo) -> dict[str, Any]:
    backups = server.view.backups
    before = wal_usage.preceding(backups, info.backup_id)
    after = wal_usage.following(backups, info.backup_id)
    kin = kinship_of(backups, info.backup_id)
    found: dict[str, Any] = {
        "retention_policy": retention.statuses(server).get(info.backup_id, retention.NOT_ENFORCED),
        "previous_backup": before.backup_id if before else _OLDEST,
        "next_backup": after.backup_id if after else _LATEST,
        "children_backup_ids": list(kin.children) or None,
    }
    if info.parent_backup_id:
        found |= {
            "root_backup_id": kin.root,
            "parent_backup_id": info.parent_backup_id,
            "chain_size": len(kin.chain),
        }
    return found


def as_text(info: BackupInfo, found: dict[str, Any]) -> str:
    """Return the page of a complete backup."""
    sections = [
        Section(None, [list(_general(info, found))]),
        Section(
            "Server information", [_lines(("Checksums", info.data_checksums), ("WAL summarizer", info.summarize_wal))]
        ),
        Section("Snapshot information", list(_snapshots(info))),
        Section("Tablespaces", [[(name, f"{place} (oid: {oid})") for name, oid, place in info.tablespaces or ()]]),
        Section("Base backup information", [list(_base_lines(found["base_backup_information"], found["backup_type"]))]),
        Section("WAL information", [list(_wal_lines(found["wal_information"]))]),
        Section("Catalog information", [list(_catalog_lines(found["catalog_information"]))]),
    ]
    return page(f"Backup {info.backup_id}", sections).rstrip("\n") + "\n"


def _lines(*pairs: _Line) -> list[_Line]:
    return [pair for pair in pairs if pair[1] is not None]


def _server(info: BackupInfo) -> list[_Line]:
    return _lines(("Checksums", info.data_checksums), ("WAL summarizer", info.summarize_wal))


def _general(info: BackupInfo, found: dict[str, Any]) -> Iterator[_Line]:
    yield from _lines(
        ("Backup Name", info.backup_name), ("Server Name", info.server_name), ("System Id", info.systemid)
    )
    yield "Status", info.status
    yield "PostgreSQL Version", info.version
    yield "PGDATA directory", info.pgdata
    if info.cluster_size is not None:
        yield "Estimated Cluster Size", found["cluster_size"]


def _snapshots(info: BackupInfo) -> Iterator[list[_Line]]:
    if info.snapshots_info:
        yield [("provider", info.snapshots_info.provider), *info.snapshots_info.provider_info.items()]
        for snapshot in info.snapshots_info.snapshots:
            mount: list[_Line] = [("Mount point", snapshot.mount_point), ("Mount options", snapshot.mount_options)]
            yield [*sorted(snapshot.provider.items()), *mount]


def _base_lines(base: dict[str, Any], kind: str) -> Iterator[_Line]:
    yield from _lines(("Backup Method", base["backup_method"]))
    yield "Backup Type", kind
    yield "Backup Size", f"{base['backup_size']} ({base['backup_size_with_wals']} with WALs)"
    yield "WAL Size", base["wal_size"]
    if "resources_saved" in base:
        yield "Resources saved", f"{base['resources_saved']} ({base['resources_saved_percentage']})"
    yield from _lines(("Backup Compression", base["compression"]), ("Encryption", base["encryption"]))
    yield "Timeline", base["timeline"]
    yield "Begin WAL", base["begin_wal"]
    yield "End WAL", base["end_wal"]
    yield "Number of WALs", base["wal_num"]
    yield from _lines(("WAL compression ratio", base.get("wal_compression_ratio")))
    yield "Begin time", base["begin_time"]
    yield "End time", base["end_time"]
    if "copy_time" in base:
        startup = f" + {base['analysis_time']} startup" if "analysis_time" in base else ""
        jobs = base["number_of_workers"] or 1
        yield "Copy time", f"{base['copy_time']}{startup}"
        yield "Estimated throughput", f"{base['throughput']}{f' ({jobs} jobs)' if jobs > 1 else ''}"
    yield "Begin Offset", base["begin_offset"]
    yield "End Offset", base["end_offset"]
    yield "Begin LSN", base["begin_lsn"]
    yield "End LSN", base["end_lsn"]


def _wal_lines(wal: dict[str, Any]) -> Iterator[_Line]:
    yield "Number of files", wal["no_of_files"]
    yield "Disk usage", wal["disk_usage"]
    if wal["wal_rate"]:
        yield "WAL rate", wal["wal_rate"]
    if wal["compression_ratio"]:
        yield "Compression ratio", f"{100 * wal['compression_ratio']:.2f}%"
    yield "Last available", wal["last_available"]
    if wal["timelines"]:
        yield "Reachable timelines", ", ".join(map(str, wal["timelines"]))


def _catalog_lines(catalog: dict[str, Any]) -> Iterator[_Line]:
    yield "Retention Policy", catalog["retention_policy"]
    yield "Previous Backup", catalog["previous_backup"]
    yield "Next Backup", catalog["next_backup"]
    if "parent_backup_id" in catalog:
        yield "Root Backup", catalog["root_backup_id"]
        yield "Parent Backup", catalog["parent_backup_id"]
        yield "Backup chain size", catalog["chain_size"]
    if catalog["children_backup_ids"]:
        yield "Children Backup(s)", ", ".join(catalog["children_backup_ids"])
