"""Real Barman, the peer that we must get along with. It is run, never read."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.privileges import PROJECT


@dataclass(frozen=True)
class BarmanPeer:
    """An installed Barman in an environment of its own."""

    bin: Path
    version: tuple[int, ...]

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.bin / "python"

    def command(self, name: str) -> str:
        """Return the path of one of its programs, such as ``barman-cloud-backup``."""
        return str(self.bin / name)

    def run(
        self, name: str, *arguments: str, environ: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of its programs; RuntimeError with its stderr if ``check`` and it fails."""
        done = subprocess.run(
            [self.command(name), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={
                "PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]]),
                "HOME": "/nonexistent",
                **(environ or {}),
            },
            check=False,
            timeout=300,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{name} {' '.join(arguments)} failed with {done.returncode}: {done.stderr.strip()}")
        return done


@functools.cache
def find_barman() -> BarmanPeer | None:
    """Return the Barman in ``.peers/barman``, or None if ``make peers`` hasn't put one there."""
    program = PROJECT / ".peers" / "barman" / "bin" / "barman-cloud-backup"
    if not program.exists():
        return None
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        return None
    version = shown.stdout.split()[-1]
    return BarmanPeer(program.parent, tuple(int(part) for part in version.split(".") if part.isdigit()))
