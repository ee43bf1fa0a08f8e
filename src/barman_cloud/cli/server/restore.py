"""``restore`` (``recover``): Barman's words turned into a run of the plain ``restore``."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barman_cloud.cli import values
from barman_cloud.cli.server.session import add_backup, say_without_effect
from barman_cloud.errors import BarmanCloudError, NotFoundError, OperationError, SelectionError
from barman_cloud.report.text import duration

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from barman_cloud.cli.server.session import OneServer, Session

_IN_PLACE = "increments are restored in place, in one pass"
_RSYNC = "only copies by rsync have it"
_FETCHED = "recovery always fetches WAL from the bucket"
_WITHOUT_EFFECT = {
    "staging_wal_directory": _FETCHED,
    "no_get_wal": _FETCHED,
    "partial_wal": "a segment that isn't complete is fetched by itself where recovery ends",
    "staging_path": _IN_PLACE,
    "local_staging_path": _IN_PLACE,
    "recovery_staging_path": _IN_PLACE,
    "staging_location": _IN_PLACE,
    "combine_mode": _IN_PLACE,
    "network_compression": _RSYNC,
    "jobs_start_batch_period": _RSYNC,
    "jobs_start_batch_size": _RSYNC,
    "bwlimit": "a restore isn't throttled",
    "recovery_option_port": "nothing is started",
}
_TARGETS = ("target_time", "target_xid", "target_lsn", "target_name", "target_immediate")


def restore_arguments(parser: ArgumentParser) -> None:
    add_backup(parser)
    parser.add_argument("destination_directory", help="directory to restore into: empty, or not there yet")
    target = parser.add_argument_group("recovery target")
    target.add_argument("--target-tli", metavar="TLI", help="timeline: current, latest or a number")
    target.add_argument("--target-time", metavar="TIME", help="recover to this time")
    target.add_argument("--target-xid", metavar="XID", help="recover to this transaction")
    target.add_argument("--target-lsn", metavar="LSN", help="recover to this LSN")
    target.add_argument("--target-name", metavar="NAME", help="recover to this restore point")
    target.add_argument("--target-immediate", action="store_true", help="stop as soon as the cluster is consistent")
    target.add_argument("--exclusive", action="store_true", help="stop just before the target")
    target.add_argument("--target-action", choices=("shutdown", "pause", "promote"), help="what to do there")
    parser.add_argument(
        "--tablespace",
        action="append",
        default=[],
        metavar="NAME:LOCATION",
        help="put a tablespace elsewhere; repeatable",
    )
    parser.add_argument("--standby-mode", action="store_true", help="make it a standby")
    parser.add_argument("-j", "--jobs", "--njobs", type=values.positive, metavar="N", help="parallel workers")
    parser.add_argument("--restore-command", metavar="COMMAND", help="write this restore_command")
    parser.add_argument("--recovery-conf-filename", metavar="FILE", help="write recovery settings to this file instead")
    delta = parser.add_mutually_exclusive_group()
    delta.add_argument(
        "--delta-restore", action="store_true", help="write only what differs in a directory that is there"
    )
    delta.add_argument("--no-delta-restore", action="store_false", dest="delta_restore", help="into an empty directory")
    parser.add_argument("--force", action="store_true", help="although WAL, timeline or target is not in the archive")
    parser.add_argument("--skip-archive-wal", action="store_true", help="don't store the WAL that waits here first")
    parser.add_argument("--remote-ssh-command", metavar="COMMAND", help="refused: run the command on that machine")
    parser.add_argument("--snapshot-recovery-instance", metavar="NAME", help="machine of the restored disks")
    parser.add_argument("--gcp-zone", "--snapshot-recovery-zone", dest="gcp_zone", help="Google: zone of the machine")
    parser.add_argument("--aws-region", help="AWS: region of the machine")
    parser.add_argument("--azure-resource-group", help="Azure: resource group of the machine")
    parser.add_argument("--retry-times", type=values.non_negative, metavar="N", help="try again after a failure")
    parser.add_argument("--retry-sleep", type=values.non_negative, metavar="SECONDS", help="seconds before that")
    parser.add_argument("--no-retry", action="store_const", const=0, dest="retry_times", help="don't")
    _add_without_effect(parser)


def _add_without_effect(parser: ArgumentParser) -> None:
    for option in ("staging-wal-directory", "staging-path", "local-staging-path", "recovery-staging-path", "bwlimit",
                   "jobs-start-batch-period", "jobs-start-batch-size", "recovery-option-port"):  # fmt: skip
        parser.add_argument(f"--{option}", help="no effect")
    parser.add_argument("--staging-location", choices=("local", "remote"), help="no effect")
    parser.add_argument("--combine-mode", choices=("copy", "link", "clone", "copy-file-range"), help="no effect")
    for option in ("get-wal", "no-get-wal", "partial-wal", "network-compression", "no-network-compression"):
        parser.add_argument(f"--{option}", action="store_true", help="no effect")


def restore(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    if args.remote_ssh_command:
        raise OperationError(
            "--remote-ssh-command isn't supported: nothing is copied by ssh",
            hint="run this command on that machine; it needs the configuration, or 'barman-cloud restore URL SERVER …'",
        )
    say_without_effect(session, args, _WITHOUT_EFFECT)
    target = Path(args.destination_directory).absolute()
    backup_id = _choose(server, args)
    if not args.skip_archive_wal:
        _store_waiting(server)
    began, clock = datetime.now(UTC), time.monotonic()
    output = session.output
    output.info(f"Starting local restore for server {server.name} using backup {backup_id}")
    output.info(f"Destination directory: {target}")
    if line := _target_line(args):
        output.info(line)
    output.info("Copying the base backup.")
    plain = server.plain("restore", restore_words(server, args, backup_id, target))
    lines: list[str] = []
    plain.tell = lines.extend
    _run(plain)
    output.info("Generating recovery configuration")
    output.info("Identify dangerous settings in destination directory.")
    _end(server, lines, began, time.monotonic() - clock)


def _run(plain: Any) -> None:
    from barman_cloud.cli.restore import COMMAND

    COMMAND.run(plain)


def _choose(server: OneServer, args: Namespace) -> str:
    """Return the id of the backup to restore, or ``auto``, which the plain command resolves."""
    if args.backup_id == "auto":
        return "auto"
    info = server.backup(args.backup_id)
    if not info.is_complete:
        raise NotFoundError(
            f"Cannot restore from backup '{info.backup_id}' of server '{server.name}': backup status is not DONE "
            f"({info.status})"
        )
    return info.backup_id


def _store_waiting(server: OneServer) -> None:
    """Store the WAL that waits on this machine; a failure must not keep anyone from restoring."""
    from barman_cloud.cli.server.incoming import archive_waiting

    try:
        archive_waiting(server, say_nothing=True)
    except (BarmanCloudError, OSError) as error:
        server.output.warning(f"WAL that waits on this machine isn't stored: {error}")


def restore_words(server: OneServer, args: Namespace, backup_id: str, target: Path) -> Sequence[str]:
    """Return the command line of the plain ``restore`` for Barman's."""
    words = [backup_id, str(target), "--write-recovery-settings"]
    options = ("target_tli", "target_time", "target_xid", "target_lsn", "target_name", "target_action", "jobs",
               "restore_command", "recovery_conf_filename", "snapshot_recovery_instance", "gcp_zone", "aws_region",
               "azure_resource_group")  # fmt: skip
    given = {name: getattr(args, name) for name in options}
    words += [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    flags = {"target_immediate": "--target-immediate", "exclusive": "--target-exclusive",
             "standby_mode": "--standby-mode", "delta_restore": "--delta", "force": "--force"}  # fmt: skip
    words += [option for name, option in flags.items() if getattr(args, name)]
    words += [f"--tablespace={rule}" for rule in args.tablespace]
    return words


def _target_line(args: Namespace) -> str | None:
    given = {name: getattr(args, name) for name in _TARGETS if getattr(args, name)}
    if len(given) > 1:
        raise SelectionError("You cannot specify multiple targets for the recovery operation")
    if not given:
        return None
    name, value = next(iter(given.items()))
    word = name.removeprefix("target_")
    return f"Doing PITR. Recovery target {word}: {True if value is True else repr(str(value))}"


def _end(server: OneServer, lines: list[str], began: datetime, seconds: float) -> None:
    output = server.output
    output.text("".join(["\n", *(f"{line}\n" for line in lines), "\n"]))
    start = began.isoformat(" ")
    output.text(
        f"Restore operation completed (start time: {start}, elapsed time: {duration(seconds)})\n"
        "Your PostgreSQL server has been successfully prepared for recovery!\n"
    )
    if output.as_json:
        for line in lines:
            output.info(line)
    output.result(None, {
        "changes": [], "changes_count": 0, "missing_files": [], "warnings": [], "warnings_count": 0,
        "recovery_start_time": start, "recovery_start_time_timestamp": str(int(began.timestamp())),
        "recovery_elapsed_time": duration(seconds), "recovery_elapsed_time_seconds": seconds,
    })  # fmt: skip
