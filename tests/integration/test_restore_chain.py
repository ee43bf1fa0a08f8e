"""Chains of incremental backups that PostgreSQL itself took, restored by ours, beside ``pg_combinebackup``."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from barman_cloud.archive.manifest import ManifestReader
from barman_cloud.catalog.layout import Layout
from barman_cloud.restore import merge
from barman_cloud.restore.archive_restore import restore_backup
from barman_cloud.store.open import open_store
from tests.support.commands import run_command
from tests.support.incrementals import SUMMARIZED, Chain
from tests.support.installations import Installation, find_installations
from tests.support.postgres import PostgresServer, adopt, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.repository import SERVER_NAME, Completed, Repository

WITH_INCREMENTALS = [found for found in find_installations() if found.major >= 17 and found.has("pg_combinebackup")]
OLD = [found for found in find_installations() if found.major == 16]


def restore(chain: Chain, backup_id: str, target: Path, *arguments: str) -> Completed:
    """Restore by our command, tablespaces to ``<target>-<oid>``."""
    rules = [
        f"--tablespace={name}:{target}-{oid}" for name, oid, _ in chain.repository.info(backup_id).tablespaces or ()
    ]
    return run_command("restore", *rules, *arguments, chain.repository.url, SERVER_NAME, backup_id, target)


def restore_in_place(chain: Chain, backup_id: str, target: Path) -> None:
    """Restore as chains are that don't fit into memory."""
    info = chain.repository.info(backup_id)
    rules = {name: f"{target}-{oid}" for name, oid, _ in info.tablespaces or ()}
    with patch.object(merge, "LIMIT", 0), open_store(chain.repository.url) as store:
        restore_backup(store, Layout.of(store.url, SERVER_NAME), info, target, rules, 2)


def manifest(path: Path) -> tuple[list[tuple[object, ...]], object, object]:
    reader = ManifestReader(iter([path.read_bytes()]))
    files = sorted((file.path, file.size, file.algorithm, file.checksum) for file in reader)
    return files, reader.system_identifier, reader.wal_ranges


def tree(root: Path) -> dict[str, bytes | str]:
    """Files with their content and links with their text, of PGDATA and its tablespaces; not the manifest."""
    found: dict[str, bytes | str] = {}
    for base in [root, *root.parent.glob(f"{root.name}-*")]:
        for path in base.rglob("*"):
            name = str(path).removeprefix(str(root))
            if path.is_symlink():
                found[name] = os.readlink(path).removeprefix(str(root))
            else:
                found[name] = path.read_bytes() if path.is_file() else "directory"
    del found["/backup_manifest"]
    return found


def check_equal(chain: Chain, backups: list[str], directory: Path) -> Path:
    """Restore a chain by ours and by ``pg_combinebackup``, compare file by file, and return our directory."""
    ours, theirs = directory / "ours", directory / "theirs"
    done = restore(chain, backups[-1], ours)
    assert done.returncode == 0, done.stderr
    in_place = directory / "in-place"
    restore_in_place(chain, backups[-1], in_place)
    server_account().own(directory)
    chain.combine(backups, theirs)
    mine, expected = tree(ours), tree(theirs)
    assert tree(in_place) == mine
    assert mine.keys() == expected.keys()
    assert [path for path in mine if mine[path] != expected[path]] == []
    assert manifest(ours / "backup_manifest") == manifest(theirs / "backup_manifest")
    chain.verify(ours)
    return ours


NEWEST_FIRST = [
    pytest.param(found, id=str(found.major), marks=pytest.mark.long if number else ())
    for number, found in enumerate(WITH_INCREMENTALS)
]


@pytest.fixture(params=NEWEST_FIRST)
def chain(request: pytest.FixtureRequest, new_postgres: Callable[..., PostgresServer]) -> Iterator[Chain]:
    installation: Installation = request.param
    with temporary_server_directory() as directory:
        server = new_postgres(installation, settings=SUMMARIZED)
        (directory / "store").mkdir()
        yield Chain(Repository(directory / "store"), server, directory)


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_server_directory() as directory:
        yield directory


class Changes:
    """What happens to a database between two backups, by the dice of ``seed``."""

    def __init__(self, server: PostgresServer, seed: int) -> None:
        self.server = server
        self.dice = random.Random(seed)
        self.count = 0
        for statement in (
            "CREATE TABLE t AS SELECT i AS id, repeat('x', 400) AS text FROM generate_series(1, 5000) i",
            "CREATE INDEX ON t (id)",
            "CREATE TABLE s (id int, text text) TABLESPACE fast",
            "CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 1000) AS id",
        ):
            server.query(statement)

    def make(self, number: int) -> None:
        for change in self.dice.sample(self.all(), number):
            self.count += 1
            change()

    def all(self) -> list[Callable[[], None]]:
        return [self.update, self.shrink, self.grow, self.recreate, self.vacuum_full, self.database, self.space,
                self.truncate, self.move]  # fmt: skip

    def update(self) -> None:
        self.server.query(f"UPDATE t SET text = text || '{self.count}' WHERE id % 50 = {self.dice.randrange(50)}")

    def shrink(self) -> None:
        self.server.query(f"DELETE FROM t WHERE id > {self.dice.randrange(1000, 4000)}")
        self.server.query("VACUUM t")

    def grow(self) -> None:
        self.server.query(
            f"INSERT INTO t SELECT i, repeat('y', 900) FROM generate_series(1, {self.dice.randrange(3000)}) i"
        )

    def recreate(self) -> None:
        self.server.query("DROP TABLE IF EXISTS again")
        self.server.query(f"CREATE TABLE again AS SELECT generate_series(1, {self.dice.randrange(9000)}) AS id")

    def vacuum_full(self) -> None:
        self.server.query("VACUUM FULL t")

    def database(self) -> None:
        strategy = self.dice.choice(["wal_log", "file_copy"])
        self.server.query(f"CREATE DATABASE d{self.count} STRATEGY {strategy}")

    def space(self) -> None:
        self.server.query("INSERT INTO s SELECT i, repeat('z', 300) FROM generate_series(1, 2000) i")

    def truncate(self) -> None:
        self.server.query("TRUNCATE s")

    def move(self) -> None:
        self.server.query(f"ALTER TABLE u SET TABLESPACE {self.dice.choice(['fast', 'pg_default'])}")


def test_any_member_of_a_chain_is_what_pg_combinebackup_makes(chain: Chain, place: Path) -> None:
    newest = chain.server.installation.major >= 18
    chain.compression = "lz4" if newest else None
    chain.manifest_inside = newest
    chain.server.create_tablespace("fast")
    changes = Changes(chain.server, chain.server.installation.major)
    chain.take()
    for _ in range(3):
        changes.make(4)
        chain.take(chain.ids[-1])
    for length in (2, 4):
        (place / str(length)).mkdir()
        ours = check_equal(chain, chain.ids[:length], place / str(length))
    # The newest one starts, and what it holds is right.
    rows = chain.server.query("SELECT count(*), sum(id), sum(length(text)) FROM t")
    for link in (ours / "pg_tblspc").iterdir():
        server_account().own(Path(os.readlink(link)))
    shutil.copytree(
        chain.server.data / "pg_wal", ours / "pg_wal", dirs_exist_ok=True, ignore=shutil.ignore_patterns("temp.summary")
    )  # which comes and goes
    with adopt(ours, chain.server.installation) as copy:
        copy.wait_recovered()
        assert copy.query("SELECT count(*), sum(id), sum(length(text)) FROM t") == rows
        copy.amcheck()


@pytest.mark.long
@pytest.mark.parametrize("installation", [find_installations()[0], *OLD], ids=lambda found: str(found.major))
def test_our_own_increments_are_restored(
    installation: Installation, new_postgres: Callable[..., PostgresServer], place: Path
) -> None:
    """Of local files and, where PostgreSQL has them, streamed; recovered from the archive to the newest moment."""
    server = new_postgres(installation, settings=SUMMARIZED if installation.major >= 17 else {"wal_log_hints": "on"})
    (place / "store").mkdir()
    repository = Repository(place / "store")
    repository.archive_from(server)
    server.query("CREATE TABLE t AS SELECT i AS id, repeat('x', 400) AS text FROM generate_series(1, 5000) i")
    methods: list[tuple[str, ...]] = [(), ("--incremental", "last"), ("--incremental", "last")]
    if installation.major >= 17:
        methods.append(("--method", "stream", "--incremental", "last"))
    for number, method in enumerate(methods):
        server.query(f"DELETE FROM t WHERE id > {4000 - 500 * number}")
        server.query("VACUUM t")
        server.query(f"UPDATE t SET text = '{number}' WHERE id % 40 = 0")
        done = repository.backup(server, *method, "--lz4")
        assert done.returncode == 0, done.stderr
    assert repository.info().parent_backup_id
    server.wait_archived(server.switch_wal())
    with repository.restored(place, server, as_server=True) as copy:
        assert copy.query("SELECT * FROM t ORDER BY id") == server.query("SELECT * FROM t ORDER BY id")
        if installation.has("pg_amcheck"):
            copy.amcheck()
