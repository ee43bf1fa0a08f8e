"""Chains of backups, extracted from a repository and combined by PostgreSQL's own ``pg_combinebackup``."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.archive.tar import read_members
from barman_cloud.incremental.file_format import BLOCK, PREFIX, read_blocks, read_header
from tests.support.postgres import PostgresServer, adopt, run_as_server
from tests.support.privileges import server_account
from tests.support.repository import SERVER_NAME, Repository


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
    """Combine a chain of backups, the full one first, and return the new data directory.

    No ``pg_combinebackup`` takes the control file of a server before 17: :func:`overlay` does it there.
    """
    directory.mkdir()
    places = [directory / backup_id for backup_id in chain]
    for place in places:
        extract(repository, place.name, place)
    if server.installation.major < 17:
        return overlay(places, [int(t.oid) for t in repository.info(chain[-1]).tablespaces or ()])
    target = directory / "combined"
    moved = [
        f"--tablespace-mapping={places[-1]}-{tablespace.oid}={target}-{tablespace.oid}"
        for tablespace in repository.info(chain[-1]).tablespaces or ()
    ]
    run_as_server([server.installation.tool("pg_combinebackup"), "-o", target, *moved, *places])
    run_as_server([server.installation.tool("pg_verifybackup"), "-n", target])
    return target


def overlay(places: Sequence[Path], tablespaces: Sequence[int]) -> Path:
    """Make the newest of extracted backups whole, in place, from the older ones, and return it."""
    target = places[-1]
    for number in range(1, len(places)):
        for root in (places[number], *(Path(f"{places[number]}-{oid}") for oid in tablespaces)):
            before = Path(str(root).replace(str(places[number]), str(places[number - 1])))
            for file in list(root.rglob(f"{PREFIX}*")):
                data = file.read_bytes()
                header, rest = read_header(iter([data]), len(data), str(file))
                name = file.name.removeprefix(PREFIX)
                content = bytearray((before / file.relative_to(root).with_name(name)).read_bytes())
                del content[header.truncation * BLOCK :]
                content.extend(bytes(header.length * BLOCK - len(content)))
                for offset, run in read_blocks(header, rest, iter([]), str(file)):
                    content[offset : offset + len(run)] = run
                file.with_name(name).write_bytes(content)
                file.unlink()
    label = target / "backup_label"
    lines = label.read_text().splitlines(keepends=True)
    label.write_text("".join(line for line in lines if not line.startswith("INCREMENTAL")))
    server_account().own(target.parent)
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
