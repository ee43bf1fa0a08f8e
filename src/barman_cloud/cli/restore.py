"""``barman-cloud-restore``: restore a base backup into a directory."""

from __future__ import annotations

import argparse
from functools import partial

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command, Parser
from barman_cloud.cli.command import main as run_command


def add_arguments(parser: Parser) -> None:
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
    settings = parser.add_argument_group("recovery settings", "With any of these, PostgreSQL is made ready to recover.")
    extend = partial(parser.add_extension, group=settings)
    extend(
        "--write-recovery-settings", action="store_true", help="write restore_command, the target and the signal file"
    )
    extend("--target-name", metavar="NAME", help="recover to this restore point")
    extend("--target-xid", metavar="XID", help="recover to this transaction")
    extend("--target-immediate", action="store_true", help="stop as soon as the cluster is consistent")
    extend("--target-exclusive", action="store_true", help="stop just before the target")
    extend(
        "--target-action",
        choices=("pause", "promote", "shutdown"),
        help="what to do there (PostgreSQL's default: pause)",
    )
    extend("--standby-mode", action="store_true", help="write standby.signal instead of recovery.signal")
    snapshot = parser.add_argument_group("backups that are disk snapshots")
    snapshot.add_argument("--snapshot-recovery-instance", help="the machine that the restored disks are attached to")
    snapshot.add_argument("--gcp-zone", "--snapshot-recovery-zone", dest="gcp_zone", help="Google: zone of the machine")
    snapshot.add_argument("--aws-region", help="AWS: region of the machine (default: that of the backup)")
    snapshot.add_argument("--azure-resource-group", help="Azure: resource group of the machine")


def run(args: argparse.Namespace) -> int | None:
    raise NotImplementedError


COMMAND = Command("restore", add_arguments, run, interrupt_exit_code=1)


def main() -> int:
    return run_command(COMMAND)
