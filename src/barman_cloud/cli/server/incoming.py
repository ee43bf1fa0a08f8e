"""``put-wal`` and ``archive-wal``: WAL files that other programs brought to this machine.

``put-wal`` stores what it gets in the bucket before it ends, so nothing acknowledged is only here. ``archive-wal``
stores what a Barman server or its ``pg_receivewal`` left in the incoming and streaming directories.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from barman_cloud.cli.server.session import add_server
from barman_cloud.errors import IntegrityError, UsageError
from barman_cloud.postgres.wal import is_wal_name
from barman_cloud.schedule import locks

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import OneServer, Session
    from barman_cloud.wal.archiver import Archiver

ARCHIVE = "archive-wal"
_SUMS = {"SHA256SUMS": "sha256", "MD5SUMS": "md5"}
_LARGEST_SUMS = 1 << 20
_PIECE = 1 << 20


@contextmanager
def archiver_of(server: OneServer) -> Iterator[Archiver]:
    """An archiver with the compression, tags, encryption and hook scripts of the configuration."""
    from barman_cloud.cli.incoming import archiver_for

    with archiver_for(server.session.configuration, server.config) as (archiver, _):
        yield archiver


def archive_wal_arguments(parser: ArgumentParser) -> None:
    add_server(parser)


def archive_wal(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    busy = f"Another archive-wal process is already running for server {server.name}"
    with locks.held(server["barman_lock_directory"], server.name, ARCHIVE, busy):
        archive_waiting(server)


def archive_waiting(server: OneServer, *, say_nothing: bool = False) -> int:
    """Store what waits in the server's directories, and return how many files were stored.

    What is damaged, or has the name of other content, is moved to ``errors_directory``. Errors of the store are raised:
    everything stays for the next time.
    """
    from barman_cloud.cli.incoming import archive_files

    stored = 0
    for kind, limit in _sources(server):
        directory = Path(server["streaming_wals_directory" if kind == "streaming" else "incoming_wals_directory"])
        files = waiting(directory)
        chosen = files[:limit] if limit else files
        if not say_nothing or chosen:
            size = f" (batch size: {len(chosen)})" if chosen else ""
            server.output.info(f"Processing xlog segments from {kind} for {server.name}{size}")
        if not chosen:
            if not say_nothing:
                server.output.info("\tno file found")
            continue
        for outcome in archive_files(server.session.configuration, server.config, chosen):
            if outcome.error is not None:
                server.output.error(
                    f"{outcome.path.name} is not archived and moved to {outcome.place}: {outcome.error}"
                )
            elif outcome.is_stored:
                stored += 1
                server.output.info(f"\t{outcome.path.name}")
    return stored


def _sources(server: OneServer) -> list[tuple[str, int]]:
    """Return the kinds of directories that are looked into, and how many files of each at most."""
    sources = []
    if server["archiver"] or waiting(Path(server["incoming_wals_directory"])):
        sources.append(("file archival", server["archiver_batch_size"]))
    if server["streaming_archiver"] or not sources or waiting(Path(server["streaming_wals_directory"])):
        sources.append(("streaming", server["streaming_archiver_batch_size"]))
    return sources


def waiting(directory: Path) -> list[Path]:
    """Return the WAL files in a directory, history files first, then by name; unfinished segments are left out."""
    try:
        found = [path.name for path in directory.iterdir() if path.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = [name for name in found if is_wal_name(name) and not name.endswith(".partial")]
    return [directory / name for name in sorted(names, key=lambda name: (not name.endswith(".history"), name))]


def put_wal_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("-t", "--test", action="store_true", help="tell whether WAL files would be taken")


def put_wal(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    if args.test:
        server.wals.store.check()
        session.output.info(f"Ready to accept WAL files for the server {server.name}")
        return
    incoming = Path(server["incoming_wals_directory"])
    incoming.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".put-wal-", dir=incoming) as scratch:
        names = unpack(sys.stdin.buffer, Path(scratch))
        if not names:
            raise UsageError(
                "there is no WAL file on standard input", hint="put-wal takes a tar, as barman-wal-archive sends it"
            )
        with archiver_of(server) as archiver:
            for name in names:
                archiver.archive(str(Path(scratch) / name))


def unpack(stream: IO[bytes], directory: Path) -> list[str]:
    """Write the WAL files of a tar into a directory, and return their names; each must have its checksum in the tar.

    ``IntegrityError`` for a wrong or missing one, for members that are no WAL files, and for what is no tar.
    """
    found: dict[str, dict[str, str]] = {}
    expected: dict[str, tuple[str, str]] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                name = member.name.removeprefix("./")
                if content is None:
                    raise IntegrityError(f"'{name}' on standard input is no file")
                if name in _SUMS:
                    lines = content.read(_LARGEST_SUMS).decode("ascii", "replace").splitlines()
                    expected.update(_sums(lines, _SUMS[name], expected))
                elif is_wal_name(name) and name not in found:
                    found[name] = _copy(content, directory / name)
                else:
                    raise IntegrityError(f"'{name}' on standard input is not the name of a WAL file, or there twice")
    except tarfile.TarError as error:
        raise IntegrityError(f"standard input is no tar: {error}") from None
    for name, digests in found.items():
        if name not in expected:
            raise IntegrityError(f"Missing checksum for file '{name}'")
        kind, digest = expected[name]
        if digests[kind] != digest:
            raise IntegrityError(f"Bad file checksum '{digests[kind]}' (should be {digest}) for file '{name}'")
    if missing := set(expected) - set(found):
        raise IntegrityError(f"'{sorted(missing)[0]}' has a checksum on standard input, and isn't there")
    return sorted(found, key=lambda name: (not name.endswith(".history"), name))


def _sums(lines: list[str], kind: str, known: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-fA-F]+) [ *](.+)", line)
        if match is None:
            raise IntegrityError(f"a line of checksums on standard input isn't understood: {line[:80]!r}")
        if kind == "sha256" or match[2] not in known:
            found[match[2].removeprefix("./")] = (kind, match[1].lower())
    return found


def _copy(content: IO[bytes], path: Path) -> dict[str, str]:
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in _SUMS.values()}
    with path.open("xb") as file:
        while piece := content.read(_PIECE):
            file.write(piece)
            for digest in digests.values():
                digest.update(piece)
    return {kind: digest.hexdigest() for kind, digest in digests.items()}
