"""``import-state``: what a Barman server knows only on its own host goes into the bucket, once.

Barman keeps its catalogue in ``<backup_directory>/meta``: keeps, the manifests that the next incremental backup needs,
and every ``backup.info``, which is in the bucket as well. WAL that it has received and not archived is in its
``streaming`` and ``incoming`` directories. All of it is stored where nothing is yet; nothing in the bucket is replaced
and no file of Barman's removed, except WAL once it is stored. An object in the bucket remembers that it was done, so
that a keep that is released later doesn't come back.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.layout import BACKUP_ID
from barman_cloud.cli.server import incoming
from barman_cloud.cli.server.session import add_servers
from barman_cloud.errors import (
    BarmanCloudError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from barman_cloud.report.text import counted
from barman_cloud.schedule import locks

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import OneServer, Session

_FILE = re.compile(rf"({BACKUP_ID})-(backup\.info|backup_manifest|keep|delete_this)")
_LARGEST = 4 << 30
_PARTIAL = ".partial"


def import_state_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)
    parser.add_argument("--again", action="store_true", help="although it was done: keeps that were released come back")


def import_state(session: Session, args: Namespace) -> None:
    session.each(args.server_name, lambda server: _import(server, again=args.again))


def import_once(server: OneServer) -> None:
    """Import if there is something that never was; without Barman's directory this costs nothing."""
    if not _meta(server).is_dir() or _was_imported(server):
        return
    try:
        _import(server, again=False)
    except ConflictError as error:
        server.output.warning(f"what Barman has on this machine is not imported: {error} ({error.hint})")


def _import(server: OneServer, *, again: bool) -> None:
    meta = _meta(server)
    if not meta.is_dir() and not incoming.waiting(Path(server["streaming_wals_directory"])):
        raise NotFoundError(f"there is no state of a Barman server in {server['backup_directory']}")
    running = locks.running(server["barman_lock_directory"], server.name)
    tasks = [task for task in running if running[task] != os.getpid()]
    if tasks:
        raise ConflictError(
            f"{', '.join(tasks)} of server {server.name} runs on this machine",
            hint=f"stop it and Barman's cron first: barman terminate-process {server.name} {tasks[0]}",
        )
    if not again and _was_imported(server):
        server.output.info(f"The state of server {server.name} in {server['backup_directory']} was imported before")
        return
    count = _import_meta(server, meta) if meta.is_dir() else 0
    files = incoming.archive_waiting(server, say_nothing=True) + _import_partials(server)
    mark = {
        "host": socket.gethostname(),
        "directory": server["backup_directory"],
        "time": datetime.now(UTC).isoformat(),
    }
    server.base.store.put(_mark_key(server), json.dumps(mark).encode())
    server.output.info(
        f"Imported the state of server {server.name} from {server['backup_directory']}: {counted(count, 'object')} and "
        f"{counted(files, 'WAL file')}"
    )


def _meta(server: OneServer) -> Path:
    return Path(server["backup_directory"]) / "meta"


def _mark_key(server: OneServer) -> str:
    where = f"{socket.gethostname()}\0{server['backup_directory']}"
    return f"{server.base.layout.maintenance_dir}imported/{hashlib.sha256(where.encode()).hexdigest()[:32]}"


def _was_imported(server: OneServer) -> bool:
    try:
        server.base.store.head(_mark_key(server))
    except ObjectNotFoundError:
        return False
    return True


def _import_meta(server: OneServer, meta: Path) -> int:
    """Store what the directory has and the bucket lacks, and return how many objects that were."""
    stored = 0
    names = [found for path in sorted(meta.iterdir()) if (found := _FILE.fullmatch(path.name))]
    # backup.info last: with it a backup begins to exist.
    for found in sorted(names, key=lambda match: match[2] == "backup.info"):
        backup_id, kind = found[1], found[2]
        path = meta / found[0]
        if kind == "delete_this":
            server.output.warning(
                f"Barman has not finished deleting backup {backup_id}; go on: delete {server.name} {backup_id}"
            )
        elif not _has_archives(server, backup_id):
            if kind == "backup.info":
                server.output.warning(f"backup {backup_id} has no archives in {server.base.store.url.text}: left out")
        elif kind == "backup.info":
            stored += _import_info(server, backup_id, path)
        else:
            stored += _put(server, _key(server, backup_id, kind), path)
    return stored


def _key(server: OneServer, backup_id: str, kind: str) -> str:
    layout = server.base.layout
    return layout.keep(backup_id) if kind == "keep" else layout.manifest(backup_id)


def _has_archives(server: OneServer, backup_id: str) -> bool:
    level = server.base.store.list_level(server.base.layout.backup_dir(backup_id))
    return bool(level.objects)


def _import_info(server: OneServer, backup_id: str, path: Path) -> int:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    try:
        backup_info.parse(text, backup_id)
    except BarmanCloudError as error:
        server.output.warning(f"{path} is left out: {error}")
        return 0
    if not text.strip():
        return 0
    return _put(server, server.base.layout.backup_info(backup_id), path)


def _put(server: OneServer, key: str, path: Path) -> int:
    """Store a file unless there is an object of that name; returns 1 if it was stored."""
    if path.stat().st_size > _LARGEST:
        raise IntegrityError(f"{path} is larger than anything that Barman writes there")
    store = server.base.store
    try:
        store.head(key)
    except ObjectNotFoundError:
        pass
    else:
        return 0
    try:
        store.put(key, path.read_bytes(), if_absent=True)
    except ObjectExistsError:
        return 0
    server.output.info(f"\t{path.name}")
    return 1


def _import_partials(server: OneServer) -> int:
    """Store segments that ``pg_receivewal`` had begun: they may be the last WAL of a server that is lost."""
    directory = Path(server["streaming_wals_directory"])
    try:
        paths = sorted(path for path in directory.iterdir() if path.name.endswith(_PARTIAL) and path.is_file())
    except OSError:
        return 0
    if not paths:
        return 0
    stored = 0
    with incoming.archiver_of(server) as archiver:
        for path in paths:
            try:
                archiver.archive(str(path))
            except (ConflictError, IntegrityError) as error:
                server.output.warning(f"{path} isn't stored: {error}")
                continue
            stored += 1
    return stored
