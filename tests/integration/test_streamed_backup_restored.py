"""Streamed backups of servers that work meanwhile: restored, verified, recovered, checked."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment
from tests.support.repository import Completed, Repository

NewPostgres = Callable[..., PostgresServer]


STREAM = ("--method", "stream")


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


def succeeded(done: Completed) -> Completed:
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done


class TestRestoredBackup:
    """The whole circle: streamed, restored, checked by pg_verifybackup, recovered, compared."""

    @pytest.mark.long
    def test_while_the_server_works(self, new_postgres: NewPostgres, repository: Repository, server_dir: Path) -> None:
        server = new_postgres()
        repository.archive_from(server)
        server.create_tablespace("fast")
        server.query(
            "CREATE TABLE outside TABLESPACE fast AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 50000) g"
        )
        server.pgbench("-i", "-s", "2")
        load = subprocess.Popen(
            [server.installation.tool("pgbench"), "-n", "-T", "60", "-c", "2"],
            env=command_environment(server.client_environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            done = succeeded(repository.backup(server, *STREAM, "--lz4", "--name", "n", "--max-bandwidth", "30MB"))
        finally:
            load.terminate()
            load.wait()
        assert done.stderr == ""
        assert repository.info().backup_name == "n"
        with repository.restored(server_dir, server, as_server=True) as copy:
            assert copy.value("SELECT count(*) FROM pgbench_accounts") == 200_000
            assert copy.value("SELECT md5(string_agg(b, '' ORDER BY a)) FROM outside") == server.value(
                "SELECT md5(string_agg(b, '' ORDER BY a)) FROM outside"
            )
            if copy.installation.has("pg_amcheck"):
                copy.amcheck()

    def test_from_a_standby(self, new_postgres: NewPostgres, repository: Repository, server_dir: Path) -> None:
        server = new_postgres()
        repository.archive_from(server)
        server.create_tablespace("fast")
        server.query("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) AS a")
        standby = server.standby(server_dir / "standby")
        try:
            done = succeeded(repository.backup(standby, *STREAM, "--gzip"))
            assert "this is a standby that doesn't archive" in done.stderr
            assert "BACKUP FROM: standby" in str(repository.info().backup_label)
            assert "standby.signal" not in repository.files()
            server.wait_archived(server.switch_wal())
            with repository.restored(server_dir, standby, as_server=True) as copy:
                assert copy.value("SELECT count(*) FROM t") == 1000
        finally:
            standby.stop()

    @pytest.mark.parametrize("from_standby", [False, True])
    def test_with_its_wal_it_needs_no_archive(
        self, new_postgres: NewPostgres, repository: Repository, server_dir: Path, from_standby: bool
    ) -> None:
        server = new_postgres()
        server.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
        with contextlib.ExitStack() as stack:
            source = server
            if from_standby:
                # A promoted one: on the second timeline its history file is part of the WAL.
                source = server.standby(server_dir / "standby")
                stack.callback(source.stop)
                source.promote()
            done = succeeded(repository.backup(source, *STREAM, "--include-wal"))
            assert done.stderr == ""
            wait_for(lambda: source.query("SELECT 1 FROM pg_replication_slots") == [], what="the temporary slot to go")
            names = set(repository.files())
            info = repository.info()
            assert {f"pg_wal/{info.begin_wal}", f"pg_wal/archive_status/{info.begin_wal}.done"} <= names
            assert ("pg_wal/00000002.history" in names) is from_standby
            with repository.restored(server_dir, source, as_server=True, from_archive=False) as copy:
                assert copy.value("SELECT count(*) FROM t") == 1000

    def test_with_small_segments_a_linked_wal_directory_and_group_access(
        self, new_postgres: NewPostgres, repository: Repository, server_dir: Path
    ) -> None:
        server = new_postgres(initdb=["--wal-segsize=1", f"--waldir={server_dir / 'wal'}", "--allow-group-access"])
        repository.archive_from(server)
        server.query("CREATE TABLE t AS SELECT generate_series(1, 100000) AS a")
        succeeded(repository.backup(server, *STREAM))
        assert repository.info().xlog_segment_size == 1 << 20
        root, _ = repository.members("data.tar")[0]
        assert (root.name, root.kind, oct(root.mode)) == (".", "directory", "0o750")
        with repository.restored(server_dir, server, as_server=True) as copy:
            assert copy.value("SELECT count(*) FROM t") == 100_000
