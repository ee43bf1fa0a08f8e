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


def words(name: str) -> list[str]:
    """Return the words that begin a command of this name: a program of its own, or a subcommand of ``barman-cloud``."""
    own = program(name)
    return [own] if Path(own).exists() else [str(Path(own).with_name("barman-cloud")), name]


def run_command(
    name: str,
    *arguments: str | os.PathLike[str],
    environ: Mapping[str, str] | None = None,
    timeout: float = 280.0,
    account: Account = UNCHANGED,
) -> subprocess.CompletedProcess[str]:
    """Run the command ``name`` with only ``environ`` beside a minimal environment.

    ``account`` is the user that runs it. The exit code isn't checked.
    """
    return subprocess.run(
        account.command([*words(name), *arguments]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=command_environment(environ),
        timeout=timeout,
        check=False,
    )


_STARTER = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
assert status == 0
print(usage.ru_maxrss)
"""
"""A process begins with the peak of the one that starts it, so that must be a small one."""


def peak_memory(name: str, *arguments: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> float:
    """Run ``barman-cloud-<name>``, which must succeed, and return its peak resident size in MiB."""
    starter = [sys.executable, "-I", "-S", "-c", _STARTER]
    done = subprocess.run(
        [*starter, program(name), *(os.fspath(argument) for argument in arguments)],
        env=command_environment(environ),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout) / 1024
