"""Chains of a PostgreSQL whose WAL summaries lack what visibility maps lose: deleted rows must stay deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.restore import merge
from barman_cloud.restore.archive_restore import restore_backup
from barman_cloud.store.open import open_store
from tests.integration.test_consolidate import consolidated
from tests.integration.test_incremental_backup import settings_for
from tests.support.chains import combined
from tests.support.installations import PEERS, Installation
from tests.support.postgres import PostgresServer, adopt
from tests.support.privileges import server_account
from tests.support.repository import SERVER_NAME, Repository

AFFECTED = Installation(17, "17.10", PEERS / "releases" / "17.10" / "bin")
FILE = "SELECT pg_relation_filenode('t')"
NewPostgres = Callable[..., PostgresServer]


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


def delete_after_a_full_backup(server: PostgresServer, repository: Repository, method: str) -> None:
    """Take a full backup of a table whose map is full, and an increment without some of its rows."""
    repository.archive_from(server)
    server.query("CREATE EXTENSION pg_visibility")
    server.query("CREATE TABLE t AS SELECT i AS id, repeat('x', 100) AS text FROM generate_series(1, 20000) i")
    server.query("CREATE INDEX ON t (id)")
    server.query("CHECKPOINT")
    server.query("VACUUM (FREEZE, ANALYZE) t")
    assert marks(server) > 300
    assert repository.backup(server).returncode == 0
    server.query("DELETE FROM t WHERE id % 1000 = 5")
    done = repository.backup(server, "--method", method, "--incremental", "last")
    assert done.returncode == 0, done.stderr
    assert ("pg_combinebackup and Barman make maps" in done.stderr) is (method == "stream" and is_affected(server))
    server.wait_archived(server.switch_wal())


def is_affected(server: PostgresServer) -> bool:
    return server.installation is AFFECTED


def marks(server: PostgresServer) -> int:
    return int(server.value("SELECT all_visible FROM pg_visibility_map_summary('t')"))


def rows(server: PostgresServer) -> tuple[int, int]:
    """What an index-only scan counts, and how many rows the map is wrong about."""
    with server.connect() as connection:
        for way in ("seqscan", "bitmapscan"):
            connection.execute(f"SET enable_{way} = off".encode())
        found = connection.execute("SELECT count(*) FROM t WHERE id > 0").fetchone()
        wrong = connection.execute("SELECT count(*) FROM pg_check_visible('t')").fetchone()
    assert found and wrong
    return int(found[0]), int(wrong[0])


def recovered_in_place(repository: Repository, server: PostgresServer, target: Path) -> PostgresServer:
    """Restore as chains are that don't fit into memory."""
    with patch.object(merge, "LIMIT", 0), open_store(repository.url) as store:
        restore_backup(store, Layout.of(store.url, SERVER_NAME), repository.info(), target, {}, 2)
    server_account().own(target.parent)
    copy = adopt(target, server.installation)
    copy.recover_with(f"barman-cloud-wal-restore {repository.url} {SERVER_NAME} %f %p")
    return copy


def test_increments_of_files_have_maps_whole(
    new_postgres: NewPostgres, postgres_installation: Installation, repository: Repository, server_dir: Path
) -> None:
    server = new_postgres(settings={**settings_for(postgres_installation), "autovacuum": "off"})
    delete_after_a_full_backup(server, repository, "files")
    files = repository.files()
    assert [name for name in files if "INCREMENTAL" in name and "_vm" in name] == []
    assert any(name.endswith(f"/{server.value(FILE)}_vm") for name in files)
    with repository.restored(server_dir, server, as_server=True) as copy:
        assert rows(copy) == (19980, 0)


@pytest.mark.long
@pytest.mark.skipif(not AFFECTED.has("postgres"), reason="PostgreSQL 17.10 is not here (make peers)")
def test_maps_of_streamed_increments_are_mended(
    new_postgres: NewPostgres, repository: Repository, server_dir: Path
) -> None:
    server = new_postgres(AFFECTED, settings={"summarize_wal": "on", "autovacuum": "off"})
    delete_after_a_full_backup(server, repository, "stream")
    left = marks(server)
    # So this release is really one of those.
    with combined(repository, server, repository.ids, server_dir / "theirs") as copy:
        assert rows(copy) == (20000, 20)
    with repository.restored(server_dir, server, as_server=True) as copy:
        assert (rows(copy), marks(copy)) == ((19980, 0), left)
    (server_dir / "in-place").mkdir()
    with recovered_in_place(repository, server, server_dir / "in-place" / "data") as copy:
        copy.wait_recovered()
        assert (rows(copy), marks(copy)) == ((19980, 0), 0)
    consolidated(repository)
    (server_dir / "consolidated").mkdir()
    with repository.restored(server_dir / "consolidated", server, as_server=True) as copy:
        assert (rows(copy), marks(copy)) == ((19980, 0), left)
