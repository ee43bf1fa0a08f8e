"""The commands under test and those of real Barman, the peer that we must get along with (run, never read)."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import run_as_server
from tests.support.privileges import PROJECT


@dataclass(frozen=True)
class Commands:
    """The programs of one installation; they run as the servers' user, as they do in life."""

    bin: Path
    version: tuple[int, ...]

    @property
    def python(self) -> Path:
        """The interpreter of the installation."""
        return self.bin / "python"

    def path(self, name: str) -> str:
        """Return the path of a program, such as ``barman-cloud-backup``."""
        return str(self.bin / name)

    def run(
        self,
        name: str,
        *arguments: str | os.PathLike[str],
        environ: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program; RuntimeError with its stderr if ``check`` and it fails."""
        return run_as_server([self.path(name), *arguments], environ=environ, check=check)


def our_commands() -> Commands:
    """Return our own commands, as installed beside the running interpreter."""
    from barman_cloud import __version__

    return Commands(Path(sys.executable).parent, _parse(__version__))


@functools.cache
def find_barman() -> Commands | None:
    """Return the Barman in ``.peers/barman``, or None if ``make peers`` hasn't put one there."""
    program = PROJECT / ".peers" / "barman" / "bin" / "barman-cloud-backup"
    if not program.exists():
        return None
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        return None
    return Commands(program.parent, _parse(shown.stdout.split()[-1]))


def _parse(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
