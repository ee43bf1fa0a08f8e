"""``barman-cloud-restore``: restore a base backup into a directory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options, recovery, values
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command
from barman_cloud.errors import AccessDeniedError, ConfigurationError, SelectionError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from barman_cloud.api import Repository
    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.catalog.catalog import Catalog
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.catalog.wal_archive import WalArchive
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.restore.archive_restore import RestoreReport
    from barman_cloud.restore.recovery_settings import RecoverySettings
    from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_SETTINGS = (
    "write_recovery_settings",
    "target_name",
    "target_xid",
    "target_immediate",
    "target_exclusive",
    "target_action",
    "standby_mode",
)
"""Any of these asks for recovery settings."""
_TARGETS = ("target_time", "target_lsn", "target_tli")
"""Options of the original command; they choose a backup for 'auto', and nothing else without recovery settings."""


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    parser.add_argument("backup_id", help="id, name or shortcut of the backup, or 'auto'")
    parser.add_argument("recovery_dir", help="directory to restore into: empty, or not there yet")
    parser.add_argument(
        "--tablespace",
        dest="tablespaces",
        action="append",
        default=[],
        metavar="NAME:LOCATION",
        help="put a tablespace elsewhere; repeatable",
    )
    parser.add_extension("-J", "--jobs", type=values.positive, default=4, help="parallel workers (default 4)")
    target = parser.add_argument_group(
        "recovery target", "With 'auto', the backup is the newest that can reach the target."
    )
    target.add_argument(
        "--target-tli", type=values.timeline, metavar="TLI", help="timeline: current, latest or a number"
    )
    point = target.add_mutually_exclusive_group()
    point.add_argument("--target-lsn", metavar="LSN", help="recover to this LSN")
    point.add_argument("--target-time", metavar="TIME", help="recover to this time")
    _add_settings(parser)
    parser.add_extension(
        "--delta",
        action="store_true",
        help="restore into a data directory of the same cluster: only what differs is written, what it lacks removed",
    )
    parser.add_extension("--dry-run", action="store_true", help="tell what would be done, and write nothing")
    parser.add_extension(
        "--force",
        action="store_true",
        help="restore although WAL, timeline or target is not in the archive, or there is too little room",
    )
    options.add_progress(parser)
    snapshot = parser.add_argument_group("backups that are disk snapshots")
    snapshot.add_argument("--snapshot-recovery-instance", help="the machine that the restored disks are attached to")
    snapshot.add_argument("--gcp-zone", "--snapshot-recovery-zone", dest="gcp_zone", help="Google: zone of the machine")
    snapshot.add_argument("--aws-region", help="AWS: region of the machine (default: that of the backup)")
    snapshot.add_argument("--azure-resource-group", help="Azure: resource group of the machine")
    parser.set_defaults(tell=None)


def _add_settings(parser: Declarations) -> None:
    settings = parser.add_argument_group("recovery settings", "With any of these, PostgreSQL is made ready to recover.")
    extend = partial(parser.add_extension, group=settings)
    extend(
        "--write-recovery-settings", action="store_true", help="write restore_command, the target and the signal file"
    )
    extend("--target-name", metavar="NAME", help="recover to this restore point")
    extend("--target-xid", type=values.transaction_id, metavar="XID", help="recover to this transaction")
    extend("--target-immediate", action="store_true", help="stop as soon as the cluster is consistent")
    extend("--target-exclusive", action="store_true", help="stop just before the target")
    extend(
        "--target-action",
        choices=("pause", "promote", "shutdown"),
        help="what to do there (PostgreSQL's default: pause)",
    )
    extend("--standby-mode", action="store_true", help="write standby.signal instead of recovery.signal")
    extend("--primary-conninfo", metavar="CONNINFO", help="with --standby-mode: where the standby streams WAL from")
    extend("--restore-command", metavar="COMMAND", help="write this restore_command instead of one for this archive")
    extend(
        "--wal-parallel",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="let the restore_command fetch the next N-1 segments ahead",
    )
    extend(
        "--recovery-conf-filename",
        metavar="FILE",
        help="write the settings to this file (default postgresql.auto.conf), which PostgreSQL has to include",
    )
    extend(
        "--no-abort-recovery-on-error",
        action="store_true",
        help="write a restore_command whose errors PostgreSQL takes for the end of the archive",
    )


def validate(args: Arguments) -> None:
    """Refuse combinations that the parser can't judge."""
    if args.primary_conninfo and not args.standby_mode:
        raise ConfigurationError("--primary-conninfo has no effect without --standby-mode")
    for name in ("restore_command", "recovery_conf_filename", "wal_parallel"):
        if getattr(args, name) and not any(getattr(args, setting) for setting in _SETTINGS):
            raise ConfigurationError(
                f"--{name.replace('_', '-')} has no effect without recovery settings",
                hint="add --write-recovery-settings",
            )
    conf = args.recovery_conf_filename
    if conf is not None and (Path(conf).name != conf or conf in ("", "..")):
        raise ConfigurationError(
            f"--recovery-conf-filename {conf!r} is not the name of a file", hint="it is made in the restored directory"
        )


def run(args: Arguments) -> None:
    from barman_cloud.archive.allocator import keep_freed_buffers
    from barman_cloud.catalog.wal_archive import WalArchive
    from barman_cloud.cli.summaries import of_restore
    from barman_cloud.report.terminal import write
    from barman_cloud.restore import configuration, recovery_settings
    from barman_cloud.restore.places import parse_tablespace_rules

    keep_freed_buffers()
    target = Path(args.recovery_dir)
    wants_settings = any(getattr(args, name) for name in _SETTINGS)
    if args.backup_id == "auto" or wants_settings:
        point = recovery.target_time(args), recovery.target_lsn(args)
    else:
        point = None, None
        _tell_of_ignored_target(args)
    settings = _settings_from(args, *point) if wants_settings else None
    with options.repository_from(args) as repository:
        store, layout = repository.store, repository.layout
        archive = WalArchive(store, layout)
        info = _select(args, repository.catalog, archive, *point)
        rules = parse_tablespace_rules(args.tablespaces)
        if settings:
            settings.check(info)
        _check_wal(args, archive, info, settings)
        if args.delta and info.snapshots_info:
            raise ConfigurationError("--delta can't be used with a snapshot backup", hint="it has no files to compare")
        if args.dry_run:
            _describe(args, store, layout, info, rules, settings)
            return
        report = None
        with _scripts(args, repository, info):
            if info.snapshots_info:
                _restore_snapshots(args, store, layout, info, settings)
            else:
                report = _restore_archives(args, repository, info, rules, settings)
        args.summary = of_restore(info, report, target, _restore_command(args), has_settings=settings is not None)
    if settings:
        changes = configuration.explain_changes(target.absolute(), info)
        lines = [*recovery_settings.explain(settings, target), *changes]
        if args.tell:
            args.tell(lines)
        else:
            write("".join(f"{line}\n" for line in lines))
    else:
        configuration.warn_of_astray(target.absolute(), info)


def _scripts(args: Arguments, repository: Repository, info: BackupInfo) -> AbstractContextManager[None]:
    """Return the hook scripts of the command line's server as a context."""
    if args.server is None:
        return nullcontext()
    from barman_cloud.cli.hooks import around_restore

    return around_restore(args, repository.store, repository.layout, info)


def _restore_archives(
    args: Arguments, repository: Repository, info: BackupInfo, rules: dict[str, str], settings: RecoverySettings | None
) -> RestoreReport:
    from barman_cloud.report.terminal import write
    from barman_cloud.restore.room import mebibytes

    report = repository.restore(
        info,
        args.recovery_dir,
        tablespaces=rules,
        jobs=args.jobs,
        settings=settings,
        delta=args.delta,
        force=args.force,
    )
    if kept := report.comparison:
        write(
            f"Kept {kept.kept_files} files ({mebibytes(kept.kept_size)}), wrote {report.files} "
            f"({mebibytes(report.size)}), removed {kept.removed} that are not in the backup.\n"
        )
    return report


def _describe(
    args: Arguments,
    store: ObjectStore,
    layout: Layout,
    info: BackupInfo,
    rules: dict[str, str],
    settings: RecoverySettings | None,
) -> None:
    """Print what would be done."""
    from barman_cloud.report.terminal import write
    from barman_cloud.restore.dry_run import describe_restore
    from barman_cloud.restore.recovery_settings import explain

    target = Path(args.recovery_dir)
    if info.snapshots_info:
        lines = [f"Would write the backup_label of backup {info.backup_id} into {target}"]
    else:
        lines = describe_restore(store, layout, info, target, rules, args.jobs, delta=args.delta, force=args.force)
    write("".join(f"{line}\n" for line in [*lines, *(explain(settings, target) if settings else ())]))


def _tell_of_ignored_target(args: Arguments) -> None:
    """Say that a target has no effect, which the original command ignores without a word."""
    given = [name for name in _TARGETS if getattr(args, name) is not None]
    if given:
        log.warning(
            "%s without effect: with '%s' the whole backup is restored, and nothing tells PostgreSQL where to stop "
            "(hint: add --write-recovery-settings)",
            " and ".join(f"--{name.replace('_', '-')}" for name in given),
            args.backup_id,
        )


def _select(
    args: Arguments, catalog: Catalog, archive: WalArchive, time: datetime | None, lsn: int | None
) -> BackupInfo:
    from barman_cloud.catalog import selection, servers
    from barman_cloud.restore import reach

    if args.backup_id != selection.AUTO:
        return selection.resolve_for_restore(args.backup_id, catalog)
    if args.target_tli == "current":
        raise SelectionError("'auto' can't know the current timeline", hint="give 'latest' or the timeline's number")
    if args.target_name or args.target_xid:
        raise UsageError(
            "'auto' can't tell which backups come before a restore point or a transaction",
            hint="give the id of a backup that ended before it",
        )
    timeline = selection.latest_timeline(catalog) if args.target_tli == "latest" else args.target_tli
    return selection.select_auto(
        catalog.load(),
        time,
        lsn,
        timeline,
        missing_wal=partial(reach.missing_wal, archive),
        require_wal=_is_strict(args),
        hint=partial(servers.describe_unknown, catalog),
    )


def _is_strict(args: Arguments) -> bool:
    """Tell whether a restore that can't be recovered is refused.

    Without recovery settings the command only extracts, as the original: who calls it may have the WAL elsewhere.
    """
    return any(getattr(args, name) for name in _SETTINGS) and not args.force


def _check_wal(args: Arguments, archive: WalArchive, info: BackupInfo, settings: RecoverySettings | None) -> None:
    """Look whether recovery can get to its target, before anything is written."""
    from barman_cloud.restore import reach

    try:
        problems = reach.problems_of_backup(archive, info)
        if settings and not problems:
            problems = reach.problems_of_target(archive, info, settings)
    except AccessDeniedError as error:
        if _is_strict(args):
            raise
        log.warning("whether the WAL of the backup is there is not known: %s", error)
        return
    if settings:
        reach.require(problems, force=args.force)
    elif args.backup_id != "auto":  # which has told of it
        for problem in problems:
            log.warning("%s (hint: %s)", problem.message, problem.hint)


def _settings_from(args: Arguments, time: datetime | None, lsn: int | None) -> RecoverySettings:
    from barman_cloud.restore.recovery_settings import RecoverySettings

    return RecoverySettings(
        _restore_command(args),
        primary_conninfo=args.primary_conninfo,
        conf=args.recovery_conf_filename or "postgresql.auto.conf",
        time=time,
        lsn=lsn,
        name=args.target_name,
        xid=args.target_xid,
        immediate=args.target_immediate,
        timeline=args.target_tli,
        exclusive=args.target_exclusive,
        action=args.target_action,
        standby=args.standby_mode,
    )


def _restore_command(args: Arguments) -> str:
    # A standby never ends recovery by itself: it asks again, or streams.
    abort_on_error = not args.no_abort_recovery_on_error and not args.standby_mode
    return args.restore_command or recovery.command(args, abort_on_error=abort_on_error)


def _restore_snapshots(
    args: Arguments, store: ObjectStore, layout: Layout, info: BackupInfo, settings: RecoverySettings | None
) -> None:
    from barman_cloud.restore.configuration import neutralise
    from barman_cloud.restore.recovery_settings import write
    from barman_cloud.restore.snapshot import restore_snapshot_backup
    from barman_cloud.snapshots.base import SnapshotOptions

    target = Path(args.recovery_dir)
    given = {name: getattr(args, name) for name in SnapshotOptions.names() if getattr(args, name, None)}
    restore_snapshot_backup(
        store, layout, info, target, args.snapshot_recovery_instance, SnapshotOptions(**given), args.tablespaces
    )
    if settings:
        neutralise(target)
        write(target, settings, info.backup_id)


COMMAND = Command("restore", add_arguments, run, validate, interrupt_exit_code=1)


def main() -> int:
    return run_command(COMMAND)
