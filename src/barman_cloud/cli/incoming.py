"""Archiving WAL files that other programs brought to this machine: for ``cron`` and Barman's server commands."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.cli import options
from barman_cloud.cli.command import load, parse
from barman_cloud.cli.hooks import hook_archiver
from barman_cloud.cli.names import completed
from barman_cloud.cli.wal_archive import archiver_from
from barman_cloud.errors import BarmanCloudError, ConflictError, IntegrityError
from barman_cloud.schedule.plan import waiting_files

if TYPE_CHECKING:
    from barman_cloud.config.reader import Configuration
    from barman_cloud.config.server import Server
    from barman_cloud.wal.archiver import Archiver

log = logs.get_logger(__name__)

_JOBS = 4
_SETTLED = 60.0
"""Seconds after which a file that isn't whole counts as damaged: before, it may still be written."""
_ANY_WAL = "000000010000000000000001"


class Outcome(NamedTuple):
    """What became of one file."""

    path: Path
    is_stored: bool
    error: BarmanCloudError | None = None
    """What is wrong with the file, if it was set aside."""
    place: Path | None = None
    """Where it is then."""


def archive_incoming(configuration: Configuration, server: Server) -> int:
    """Archive what waits in the incoming directory; returns 1 if something had to be set aside."""
    files = waiting_files(server)
    set_aside = 0
    for outcome in archive_files(configuration, server, files[: server["archiver_batch_size"] or None]):
        if outcome.error is not None:
            log.error("%s is not archived and moved to %s: %s", outcome.path.name, outcome.place, outcome.error)
            set_aside = 1
        elif outcome.is_stored:
            log.info("archived %s", outcome.path.name)
    return set_aside


def archive_files(configuration: Configuration, server: Server, files: Sequence[Path]) -> Iterator[Outcome]:
    """Archive files with the server's hook scripts around each, and yield what became of each, in their order.

    What is stored is removed. A file that is damaged, or whose name is taken by other content, goes to
    ``errors_directory``. Errors of the store, and a script that forbids it, are raised: what isn't stored stays.
    """
    if not files:
        return
    with archiver_for(configuration, server) as (archiver, has_scripts):
        if has_scripts:  # which expect one file after the other, in the order of WAL
            for path in files:
                yield _outcome(server, path, _archive(archiver, path))
            return
        with ThreadPoolExecutor(_JOBS, thread_name_prefix="archive") as pool:
            done = pool.map(lambda path: _archive(archiver, path), files)
            for path, error in zip(files, done, strict=True):
                yield _outcome(server, path, error)


@contextmanager
def archiver_for(configuration: Configuration, server: Server) -> Iterator[tuple[Archiver, bool]]:
    """An archiver as the configuration says, which runs its hook scripts; and whether there are any."""
    command = load("wal-archive")
    words, _ = completed(command, [server.name, _ANY_WAL], configuration, server)
    args = parse(command, words, f"barman-cloud {command.name}")
    args.configuration_file, args.server = configuration.file, server
    with options.store_from(args) as store:
        archiver = archiver_from(args, store)
        yield archiver, hook_archiver(args, archiver, store, options.layout_from(args, store))


def _archive(archiver: Archiver, path: Path) -> BarmanCloudError | None:
    """Store a file and remove it; returns what is wrong with the file itself."""
    try:
        archiver.archive(str(path))
    except (BarmanCloudError, OSError) as error:
        if not path.exists():
            return None  # somebody else has archived and removed it
        if not isinstance(error, ConflictError | IntegrityError):
            raise
        return error
    path.unlink(missing_ok=True)
    return None


def _outcome(server: Server, path: Path, error: BarmanCloudError | None) -> Outcome:
    if error is None:
        return Outcome(path, is_stored=True)
    if isinstance(error, IntegrityError) and time.time() - path.stat().st_mtime < _SETTLED:
        log.info("%s isn't whole yet: %s", path, error)
        return Outcome(path, is_stored=False)
    directory = Path(server["errors_directory"])
    directory.mkdir(parents=True, exist_ok=True)
    what = "duplicate" if isinstance(error, ConflictError) else "unknown"
    place = directory / f"{path.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{what}"
    path.replace(place)
    return Outcome(path, is_stored=False, error=error, place=place)
