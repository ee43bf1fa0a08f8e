"""Archiving the WAL files that wait in a server's incoming directory, as Barman's ``archive-wal`` does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

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

_SETTLED = 60.0
"""Seconds after which a file that isn't whole counts as damaged: before, it may still be written."""


def archive_incoming(configuration: Configuration, server: Server) -> int:
    """Archive what waits, oldest first, and remove what is stored; returns 1 if something had to be set aside.

    A file that is damaged, or whose name is taken by other content, goes to ``errors_directory``. Errors of the store
    are raised: all files stay, for the next time.
    """
    files = waiting_files(server)
    if limit := server["archiver_batch_size"]:
        files = files[:limit]
    if not files:
        return 0
    command = load("wal-archive")
    words, _ = completed(command, [server.name, str(files[0])], configuration, server)
    args = parse(command, words, f"barman-cloud {command.name}")
    set_aside = 0
    with options.store_from(args) as store:
        archiver = archiver_from(args, store)
        args.configuration_file, args.server = configuration.file, server
        hook_archiver(args, archiver, store, options.layout_from(args, store))
        for path in files:
            set_aside += not _archived(archiver, server, path)
    return 1 if set_aside else 0


def _archived(archiver: Archiver, server: Server, path: Path) -> bool:
    try:
        archiver.archive(str(path))
    except (BarmanCloudError, OSError) as error:
        if not path.exists():
            return True  # somebody else has archived and removed it
        if not isinstance(error, ConflictError | IntegrityError):
            raise
        if isinstance(error, IntegrityError) and time.time() - path.stat().st_mtime < _SETTLED:
            log.info("%s isn't whole yet: %s", path, error)
            return True
        _set_aside(Path(server["errors_directory"]), path, error)
        return False
    path.unlink(missing_ok=True)
    log.info("archived %s", path.name)
    return True


def _set_aside(directory: Path, path: Path, error: BarmanCloudError) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / f"{path.name}.{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    path.replace(place)
    log.error("%s is not archived and moved to %s: %s", path.name, place, error)
