"""Running our commands as a user does: as processes, by their installed names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.postgres import command_environment
from tests.support.privileges import UNCHANGED, Account


def program(name: str) -> str:
    """Return the installed program of a command, such as ``backup`` or ``wal-archive``."""
    return str(Path(sys.executable).parent / f"barman-cloud-{name}")


def run_command(
    name: str,
    *arguments: str | os.PathLike[str],
    environ: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    account: Account = UNCHANGED,
) -> subprocess.CompletedProcess[str]:
    """Run ``barman-cloud-<name>`` with only ``environ`` beside a minimal environment.

    ``account`` is the user that runs it. The exit code isn't checked.
    """
    return subprocess.run(
        account.command([program(name), *arguments]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=command_environment(environ),
        timeout=timeout,
        check=False,
    )
