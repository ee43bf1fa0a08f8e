"""Chains of backups, extracted from a repository and combined by PostgreSQL's own ``pg_combinebackup``."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.archive.tar import read_members
from tests.support.installations import find_installations
from tests.support.postgres import PostgresServer, adopt, run_as_server
from tests.support.privileges import server_account
from tests.support.repository import SERVER_NAME, Repository

MANIFEST = "backup_manifest"


def extract(repository: Repository, backup_id: str, target: Path) -> None:
    """Extract a backup as it is stored into ``target``; each tablespace beside it, with its link."""
    for archive in sorted(repository.path("", backup_id).iterdir()):
        found = re.match(r"(data|\d+)(?:_\d+)?\.tar", archive.name)
        if not found:
            continue
        root = target if found[1] == "data" else target.with_name(f"{target.name}-{found[1]}")
        for member, content in read_members(decompress_stream([archive.read_bytes()], compression_of(archive.name))):
            place = root / member.name
            data = b"".join(map(bytes, content))
            if member.kind == "directory":
                place.mkdir(parents=True, exist_ok=True)
            elif member.kind == "file":
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
    for tablespace in repository.info(backup_id).tablespaces or ():
        (target / "pg_tblspc" / str(tablespace.oid)).symlink_to(target.with_name(f"{target.name}-{tablespace.oid}"))
    target.chmod(0o700)
    server_account().own(target.parent)


def combine(repository: Repository, server: PostgresServer, chain: Sequence[str], directory: Path) -> Path:
    """Combine a chain of backups, the full one first, and return the new data directory, which is verified.

    Servers before 17 have no such program: that of another installation which takes their control file does it, and
    as it refuses manifests of version 1, it gets none.
    """
    directory.mkdir()
    places = [directory / backup_id for backup_id in chain]
    for place in places:
        extract(repository, place.name, place)
    target = directory / "combined"
    moved = [
        f"--tablespace-mapping={places[-1]}-{tablespace.oid}={target}-{tablespace.oid}"
        for tablespace in repository.info(chain[-1]).tablespaces or ()
    ]
    major = server.installation.major
    installation = server.installation
    options = []
    if major < 17:
        installation = next(found for found in find_installations() if found.major == 17)
        options = ["--no-manifest"]
        for place in places:
            (place / MANIFEST).unlink()
    run_as_server([installation.tool("pg_combinebackup"), "-o", target, *moved, *options, *places])
    if major >= 17:
        run_as_server([installation.tool("pg_verifybackup"), "-n", target])
    return target


@contextlib.contextmanager
def combined(
    repository: Repository, server: PostgresServer, chain: Sequence[str], directory: Path
) -> Iterator[PostgresServer]:
    """The newest backup of a chain, combined and recovered to its end only, running."""
    target = combine(repository, server, chain, directory)
    copy = adopt(target, server.installation)
    copy.recover_with(f"barman-cloud-wal-restore {repository.url} {SERVER_NAME} %f %p", recovery_target="immediate")
    with copy:
        copy.wait_recovered()
        yield copy
    shutil.rmtree(directory)
