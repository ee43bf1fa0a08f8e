"""``delete``, ``keep``, ``check-backup``, ``verify-backup``, ``generate-manifest``."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from barman_cloud.catalog import keep as keeps
from barman_cloud.catalog.lineage import descendants
from barman_cloud.catalog.needed_wal import missing_segments, needed_wal
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.cli.server.import_state import import_once
from barman_cloud.cli.server.session import add_backup
from barman_cloud.errors import BarmanCloudError, OperationError
from barman_cloud.report.text import duration
from barman_cloud.schedule import locks

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.cli.server.session import OneServer, Session


def keep_arguments(parser: ArgumentParser) -> None:
    add_backup(parser)
    parser.add_argument("-r", "--release", action="store_true", help="stop keeping it")
    parser.add_argument("-s", "--status", action="store_true", help="tell how it is kept")
    parser.add_argument(
        "--target",
        choices=("full", "standalone"),
        help="keep it with all WAL since, or with only the WAL it needs itself",
    )


def keep(session: Session, args: Namespace) -> None:
    if not (args.release or args.status or args.target):
        raise OperationError("one of the arguments -r/--release -s/--status --target is required")
    server = session.server(args.server_name)
    import_once(server)
    info = server.backup(args.backup_id)
    repository = server.base
    if args.status:
        text = keeps.read(repository.catalog, info.backup_id)
        shown = "nokeep" if text is None else keeps.label(text)
        session.output.text(f"Server {server.name}:\n\tKeep: {shown}\n")
        session.output.result(server.name, {"keep_status": {"description": "Keep", "message": shown}})
    elif args.release:
        repository.release(info.backup_id)
    else:
        if info.parent_backup_id:
            raise OperationError(
                f"Unable to execute the keep command on backup {info.backup_id}: is an incremental backup. "
                "Only full backups are eligible for the use of the keep command."
            )
        repository.keep(info.backup_id, args.target)


def delete_arguments(parser: ArgumentParser) -> None:
    add_backup(parser)


def delete(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    import_once(server)
    info = server.backup(args.backup_id)
    name = info.backup_id
    if keeps.read(server.base.catalog, name) is not None:
        session.output.warning(
            f"Skipping delete of backup {name} for server {server.name} as it has a current keep request. "
            "If you really want to delete this backup please remove the keep and try again."
        )
        raise OperationError(f"Cannot delete backup {name} of server {server.name}: it is kept")
    busy = (
        f"Another action is in progress for the backup {name} of server {server.name}. Impossible to delete the backup."
    )
    with locks.held(server["barman_lock_directory"], server.name, name, busy):
        _delete(server, info)


def _delete(server: OneServer, info: BackupInfo) -> None:
    above = descendants(server.view.backups, info.backup_id)
    if above:
        server.output.warning(
            f"Backup {info.backup_id} has incremental backups which depend on it. Deleting all backups in the tree"
        )
    began, clock = datetime.now().astimezone(), time.monotonic()
    for member in [*above, info.backup_id]:
        server.output.info(f"Deleting backup {member} for server {server.name}")
    args = server.plain("backup-delete", ["--backup-id", info.backup_id, "--with-children"])
    from barman_cloud.cli.backup_delete import COMMAND

    COMMAND.run(args)
    server.output.info(
        f"Deleted backup {info.backup_id} (start time: {began.ctime()}, "
        f"elapsed time: {duration(time.monotonic() - clock)})"
    )


def check_backup_arguments(parser: ArgumentParser) -> None:
    add_backup(parser)


def check_backup(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    info = server.backup(args.backup_id)
    if not info.is_complete:
        raise OperationError(f"backup {info.backup_id} is {info.status}, not DONE")
    if needed_wal(info) is None:
        raise OperationError(f"backup {info.backup_id} doesn't tell which WAL it needs")
    if missing := missing_segments(WalArchive(server.wals.store, server.wals.layout), info):
        raise OperationError(
            f"At least one WAL file is missing for backup {info.backup_id} of server {server.name}: "
            f"{', '.join(missing[:8])}{', …' if len(missing) > 8 else ''}",
            hint="it can't be recovered before they are in the archive: see receive-wal or archive_command",
        )


def verify_backup_arguments(parser: ArgumentParser) -> None:
    add_backup(parser)


def verify_backup(session: Session, args: Namespace) -> None:
    from barman_cloud.verify.findings import Level
    from barman_cloud.verify.verify import VerifyOptions

    server = session.server(args.server_name)
    info = server.backup(args.backup_id)
    session.output.info(f"Verifying backup '{info.backup_id}' on server '{server.name}'")
    report = server.base.verify(info.backup_id, options=VerifyOptions())
    for finding in report.findings:
        if finding.level is Level.OK:
            session.output.info(finding.message)
        elif finding.level is Level.WARNING:
            session.output.warning(finding.message)
        else:
            session.output.error(finding.message, finding.hint)


def generate_manifest_arguments(parser: ArgumentParser) -> None:
    add_backup(parser)


def generate_manifest(session: Session, args: Namespace) -> None:
    from barman_cloud.backup.parent import load_manifest
    from barman_cloud.errors import ObjectNotFoundError

    server = session.server(args.server_name)
    info = server.backup(args.backup_id)
    repository = server.base
    key = repository.layout.manifest(info.backup_id)
    try:
        repository.store.head(key)
    except ObjectNotFoundError:
        pass
    else:
        raise OperationError(f"backup {info.backup_id} of server {server.name} has its manifest already: {key}")
    if not info.is_complete:
        raise OperationError(f"backup {info.backup_id} is {info.status}, not DONE")
    manifest = load_manifest(repository.catalog, info)
    try:
        repository.store.put(key, b"".join(manifest), if_absent=True)
    except BarmanCloudError as error:
        raise OperationError(f"the manifest of {info.backup_id} can't be stored: {error}", hint=error.hint) from error
    session.output.info(
        f"Backup manifest for backup '{info.backup_id}' successfully generated for server {server.name}"
    )
