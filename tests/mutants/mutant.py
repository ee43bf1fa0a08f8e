"""One small mistake, and a copy of the source tree to make it in."""

from __future__ import annotations

import compileall
import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "src/barman_cloud"

Change = tuple[str, str, str] | tuple[str, str, str, str]
"""Old text, new text, what goes wrong; and for a mutant that no test can or need notice, why."""


@dataclass(frozen=True)
class Mutant:
    """``old`` in ``file`` (below ``src/barman_cloud``), which occurs once there, becomes ``new``."""

    file: str
    old: str
    new: str
    harm: str
    """What goes wrong, in a phrase."""
    tests: tuple[str, ...]
    """Test files below ``tests``, or tests in them, the quickest first."""
    excuse: str = ""
    """Why it may survive."""

    @property
    def path(self) -> Path:
        return Path(PACKAGE) / self.file

    def line(self) -> int:
        """Return the line of the file where the old text begins."""
        return (ROOT / self.path).read_text().split(self.old)[0].count("\n") + 1

    def applied(self, text: str) -> str:
        """Return the text of the file with the mistake; ValueError unless the old text is there exactly once."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.file} has the old text {found} times: {self.old!r}")
        return text.replace(self.old, self.new)

    def __str__(self) -> str:
        return f"{self.file}:{self.line()} {self.harm}"


def of(file: str, tests: Sequence[str], changes: Sequence[Change]) -> list[Mutant]:
    """Return the mutants of one file."""
    return [Mutant(file, change[0], change[1], change[2], tuple(tests), *change[3:]) for change in changes]


class Copy:
    """A copy of the source tree in ``directory``, with its bytecode: a process that uses it starts as quickly."""

    def __init__(self, directory: Path) -> None:
        self.source = directory / "src"
        shutil.copytree(ROOT / "src", self.source, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(self.source, quiet=2)

    @contextmanager
    def with_mistake(self, mutant: Mutant) -> Iterator[None]:
        """Make the mistake while the block runs. The bytecode of that file goes, and must not be written."""
        path = self.source.parent / mutant.path
        bytecode = Path(importlib.util.cache_from_source(str(path)))
        right, compiled = path.read_text(), bytecode.read_bytes()
        status = path.stat()
        path.write_text(mutant.applied(right))
        bytecode.unlink()
        try:
            yield
        finally:
            path.write_text(right)
            # Bytecode is held against size and time of its source.
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            bytecode.write_bytes(compiled)
