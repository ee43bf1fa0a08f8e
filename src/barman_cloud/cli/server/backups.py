"""``list-backups`` and ``list-files``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barman_cloud.catalog import wal_usage
from barman_cloud.catalog.backup_info import DONE
from barman_cloud.catalog.lineage import stored_sizes, type_of
from barman_cloud.catalog.retention import Status
from barman_cloud.cli.server import retention
from barman_cloud.cli.server.session import add_backup, add_servers
from barman_cloud.report.terminal import printable
from barman_cloud.report.text import size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.catalog.wal_usage import WalUsage
    from barman_cloud.cli.server.session import OneServer, Session

_UNREADABLE = "UNREADABLE"


def list_backups_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)
    parser.add_argument("--minimal", action="store_true", help="ids only")


def list_backups(session: Session, args: Namespace) -> None:
    session.each(args.server_name, _list_minimal if args.minimal else _list)


def _list_minimal(server: OneServer) -> None:
    ids = sorted({**server.view.backups, **server.view.unreadable}, reverse=True)
    server.output.text("".join(f"{backup_id}\n" for backup_id in ids))
    server.output.result(server.name, ids)


def _list(server: OneServer) -> None:
    view = server.view
    verdicts = retention.statuses(server)
    usage = wal_usage.read(server.wals.store, server.wals.layout)
    sizes = data_sizes(server)
    lines, entries = [], []
    for backup_id in sorted({**view.backups, **view.unreadable}, reverse=True):
        if backup_id in view.unreadable:
            lines.append(f"{server.name} {backup_id} - {_UNREADABLE}")
            entries.append({"backup_id": backup_id, "status": _UNREADABLE, "error": str(view.unreadable[backup_id])})
            continue
        info = view.backups[backup_id]
        entry = _entry(info, usage, wal_usage.following(view.backups, backup_id), sizes[backup_id])
        entry["retention_status"] = verdicts.get(backup_id, "-")
        if "end_time" not in entry:
            del entry["retention_status"]
        entries.append(entry)
        lines.append(f"{server.name} {_line(info, entry)}")
    server.output.text("".join(f"{line}\n" for line in lines))
    server.output.result(server.name, entries)


def data_sizes(server: OneServer) -> dict[str, int]:
    """Return the bytes of each backup without WAL: what it says itself, else what its archives take."""
    unknown = [name for name, info in server.view.backups.items() if info.size is None and info.is_complete]
    found = stored_sizes(server.base.catalog, unknown)
    return {name: info.size or found.get(name, 0) for name, info in server.view.backups.items()}


def _entry(info: BackupInfo, usage: WalUsage, following: BackupInfo | None, stored: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"backup_id": info.backup_id, "backup_type": type_of(info), "status": info.status}
    if info.backup_name is not None:
        entry["backup_name"] = info.backup_name
    if not info.is_complete or info.end_time is None:
        return entry
    whole = stored + wal_usage.total(usage.needed_by(info))
    since = wal_usage.total(usage.since(info, following))
    return entry | {
        "end_time": info.end_time.ctime(),
        "end_time_timestamp": str(int(info.end_time.timestamp())),
        "size": size(whole),
        "size_bytes": whole,
        "wal_size": size(since),
        "wal_size_bytes": since,
    }


def _line(info: BackupInfo, entry: dict[str, Any]) -> str:
    name = f" '{printable(info.backup_name)}'" if info.backup_name is not None else ""
    parts = [f"{info.backup_id}{name}", entry["backup_type"][0].upper()]
    if "end_time" not in entry:
        return " - ".join([*parts, info.status])
    parts += [entry["end_time"], f"Size: {entry['size']}", f"WAL Size: {entry['wal_size']}"]
    if info.status != DONE:
        parts.append(info.status)
    if (status := entry["retention_status"]) not in ("-", Status.VALID):
        parts.append(status)
    return " - ".join(parts)


def list_files_arguments(parser: ArgumentParser) -> None:
    add_backup(parser)
    parser.add_argument(
        "--target",
        choices=("standalone", "data", "wal", "full"),
        default="standalone",
        help="data: the backup; wal: all WAL from its begin up to the next backup; full: both; standalone (default): "
        "the backup and the WAL that makes it consistent",
    )
    parser.add_argument("--list-empty-directories", action="store_true", help="no effect: a bucket has none")


def list_files(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    info = server.backup(args.backup_id)
    usage = wal_usage.read(server.wals.store, server.wals.layout)
    following = wal_usage.following(server.view.backups, info.backup_id)
    keys: list[str] = []
    if args.target != "wal":
        keys += sorted(item.key for item in server.base.store.list(server.base.layout.backup_dir(info.backup_id)))
    if args.target != "data":
        keys += [file.key for file in usage.needed_by(info)]
    if args.target in ("wal", "full"):
        keys += [file.key for file in usage.since(info, following)]
    for key in keys:
        session.output.info(key)
