"""Where PostgreSQL's own programs are on this machine."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from barman_cloud.errors import NotFoundError

_KNOWN_PLACES = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/usr/local/pgsql/bin")
"""Debian's packages, the PGDG's for Red Hat's systems, and PostgreSQL's own default."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one PostgreSQL version."""

    version: str
    directory: Path

    @property
    def major(self) -> int:
        """18 for ``18.6``, ``18beta1`` and ``18devel``."""
        found = re.match(r"\d+", self.version)
        return int(found[0]) if found else 0

    def path(self, name: str) -> str | None:
        """Return the path of a program, or None if this installation doesn't have it."""
        path = self.directory / name
        return str(path) if os.access(path, os.X_OK) else None

    @property
    def environ(self) -> dict[str, str]:
        """What programs that were unpacked somewhere need to load their own libpq, and not the system's."""
        libraries = self.directory.parent / "lib"
        return {"LD_LIBRARY_PATH": str(libraries)} if (libraries / "libpq.so.5").exists() else {}

    @property
    def library_directories(self) -> tuple[Path, ...]:
        """Where loadable modules can be."""
        root = self.directory.parent
        return (root / "lib", root / "lib" / "postgresql", root / "lib64")


def find_server(major: int, path_prefix: str | None = None) -> Programs:
    """Return the programs of a server of ``major``; ``NotFoundError`` says where it was looked for.

    ``path_prefix`` (directories separated by colons) comes first, then the usual places, then ``PATH``.
    """
    looked: dict[str, str] = {}
    for directory in _directories(major, path_prefix):
        if str(directory) in looked:
            continue
        found = Programs(_version(directory / "postgres") or "", directory)
        if found.major == major:
            return found
        looked[str(directory)] = f"{directory}, which has {found.version}" if found.version else str(directory)
    raise NotFoundError(
        f"no PostgreSQL {major} on this machine (looked in {', '.join(looked.values())})",
        hint=f"install the server of PostgreSQL {major}, or name its directory with --pg-bin",
    )


def _directories(major: int, path_prefix: str | None) -> Iterator[Path]:
    for directory in (path_prefix or "").split(":"):
        if directory:
            yield Path(directory)
    for pattern in _KNOWN_PLACES:
        yield Path(pattern.format(major=major))
    for directory in os.environ.get("PATH", "").split(":"):
        if directory and os.path.exists(Path(directory, "postgres")):
            yield Path(directory)


def _version(program: Path) -> str | None:
    if not os.access(program, os.X_OK):
        return None
    libraries = Programs("", program.parent).environ
    try:
        shown = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, **libraries},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+\S*)", shown.stdout)
    return found[1] if found else None
