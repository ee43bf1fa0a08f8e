"""What the scenarios share: how large everything is, the stores, the peers, a directory to work in."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.installations import Installation
from tests.support.postgres import command_environment, server_directory
from tests.support.privileges import server_account
from tests.support.servers import StoreServer

from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from benchmarks.results import Results

NONE = "none"
CODECS = (NONE, "gzip", "lz4", "zstd", "snappy")
PLAIN_CODECS = (NONE, "lz4")
"""Also measured without TLS."""
FROM_DISK = ("lz4", "zstd")
"""Also measured with the data on the disk instead of in the page cache."""

ETAG = "xxh3"
"""Quick: rclone reads and hashes an object again whenever it is listed or looked at, which no cloud does."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    pgbench_scale: int
    """15 MiB each."""
    rows: int
    """Of the realistic data set, about 0.6 KiB each with their index entries."""
    segments: int
    backups: int
    wal_objects: int
    start_rounds: int


FULL = Scale(2, 300, 3_200_000, 200, 1000, 200_000, 7)
QUICK = Scale(1, 8, 80_000, 40, 100, 10_000, 3)


@dataclass(frozen=True)
class Bench:
    """One run of the benchmarks."""

    scale: Scale
    scratch: Path
    results: Results
    secure: StoreServer
    """S3 over TLS, as clouds are; pgBackRest speaks nothing else."""
    plain: StoreServer
    """S3 over HTTP."""
    installation: Installation
    jobs: int = 2
    write: bool = False
    """Whether scenarios that have a place in a page of the documentation write their tables there."""

    @property
    def described(self) -> str:
        """The machine, and the day."""
        return f"{self.results.description['machine']}, {self.results.description['date']}"

    def directory(self, name: str) -> Path:
        """Return an empty directory of the servers' user."""
        path = self.scratch / name
        shutil.rmtree(path, ignore_errors=True)
        return server_directory(path)

    def new_directory(self, name: str) -> Path:
        """Return an empty directory of the servers' user that nobody else is given."""
        taken = sum(1 for _ in self.scratch.glob(f"{name}-*"))
        return server_directory(self.scratch / f"{name}-{taken}")


@dataclass(frozen=True)
class Place:
    """A bucket of its own, and a directory for what a contestant keeps on this machine."""

    store: StoreServer
    url: str
    directory: Path

    @classmethod
    def new(cls, store: StoreServer, directory: Path) -> Place:
        return cls(store, store.new_bucket(), directory)

    @property
    def bucket(self) -> str:
        return self.url.removeprefix(self.store.prefix)

    @property
    def environ(self) -> dict[str, str]:
        return command_environment(self.store.environ)

    def open(self) -> ObjectStore:
        """Return a client of the bucket."""
        return open_store(self.url, environ=self.store.environ)

    def stored_bytes(self) -> int:
        """Return the size of everything in the bucket."""
        return sum(path.stat().st_size for path in self._files.rglob("*") if path.is_file())

    def forget(self) -> None:
        """Free the disk that the bucket takes; it isn't used again."""
        shutil.rmtree(self._files, ignore_errors=True)

    @property
    def _files(self) -> Path:
        if self.store.directory is None:
            raise ValueError(f"{self.store.name} doesn't keep its objects as files")
        return self.store.directory / self.bucket


@dataclass(frozen=True)
class Command:
    """A program to measure, run by the servers' user."""

    argv: list[str]
    environ: Mapping[str, str]

    @classmethod
    def of(cls, *argv: str | Path, environ: Mapping[str, str]) -> Command:
        return cls(server_account().command(argv), environ)
