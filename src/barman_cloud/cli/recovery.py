"""What ``restore`` and ``drill`` tell PostgreSQL about recovery: its target, and the command that fetches WAL."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import SelectionError

if TYPE_CHECKING:
    from datetime import datetime

    from barman_cloud.cli.plain import Arguments

log = logs.get_logger(__name__)

_WAL_RESTORE = "barman-cloud-wal-restore"
_STORE_OPTIONS = (
    "cloud_provider",
    "endpoint_url",
    "aws_profile",
    "read_timeout",
    "addressing_style",
    "sse_customer_key",
    "azure_credential",
)


def target_time(args: Arguments) -> datetime | None:
    """Return the value of ``--target-time``; ``SelectionError`` (4, as Barman) if it isn't a time."""
    from barman_cloud.catalog.times import doubt_about, parse_time

    if args.target_time is None:
        return None
    try:
        time = parse_time(args.target_time)
        if doubt := doubt_about(args.target_time):
            log.warning("--target-time '%s': %s", args.target_time, doubt)
    except ValueError as error:
        raise SelectionError(f"--target-time: {error}", hint="write for example '2026-11-22 14:30:00+01:00'") from error
    return time


def target_lsn(args: Arguments) -> int | None:
    """Return the value of ``--target-lsn``; ``SelectionError`` (4, as Barman) if it isn't an LSN."""
    from barman_cloud.catalog.selection import parse_target_lsn

    return parse_target_lsn(args.target_lsn) if args.target_lsn is not None else None


def command(args: Arguments, *, abort_on_error: bool = True) -> str:
    """Return the ``restore_command`` for the store and server of the command line."""
    from barman_cloud.restore.recovery_settings import restore_command

    beside = Path(sys.argv[0]).resolve().with_name(_WAL_RESTORE)
    given = {name: getattr(args, name) for name in _STORE_OPTIONS}
    if ahead := getattr(args, "wal_parallel", 0):
        given["parallel"] = ahead
    return restore_command(
        str(beside) if beside.exists() else _WAL_RESTORE,
        [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None],
        args.source_url,
        args.server_name,
        abort_on_error=abort_on_error,
        environ=_region(args),
    )


def _region(args: Arguments) -> dict[str, str]:
    """Return the variable that says the bucket's region, if that comes from a configuration.

    The recovered machine has neither that configuration nor, maybe, the variable.
    """
    server = getattr(args, "server", None)
    region = server["aws_region"] if server is not None else None
    return {"AWS_DEFAULT_REGION": region} if region and os.environ.get("AWS_DEFAULT_REGION", region) == region else {}
