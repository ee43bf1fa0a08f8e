"""``barman-cloud-backup``: its session with the server, what it refuses, and what it takes of the host."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from barman_cloud.backup.archive_backup import BackupOptions, run_backup
from barman_cloud.backup.lifecycle import BackupRequest
from barman_cloud.backup.server_files import require_backup_mode_here, visible_data_directory
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import OperationError
from barman_cloud.postgres.backup_mode import BackupMode, BackupStart
from barman_cloud.postgres.connection import ConnectionParameters, connect, read_metadata
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.store.open import open_store
from tests.support.commands import program, run_command
from tests.support.postgres import PostgresServer, command_environment, run_as_server
from tests.support.privileges import server_account
from tests.support.repository import Completed, Repository
from tests.support.servers import StoreServer

NewPostgres = Callable[..., PostgresServer]


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


def succeeded(done: Completed) -> Completed:
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done


def failed(done: Completed, words: str, code: int = 1) -> Completed:
    assert done.returncode == code, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    return done


class TestSessions:
    @pytest.mark.parametrize("form", ["options", "conninfo", "quoted", "uri", "service"])
    def test_every_way_to_name_the_server(
        self, postgres: PostgresServer, repository: Repository, form: str, tmp_path: Path
    ) -> None:
        port = str(postgres.port)
        service = tmp_path / "services"
        service.write_text(f"[backup]\nhost=127.0.0.1\nport={port}\nuser=postgres\ndbname=postgres\n")
        arguments = {
            "options": ["-h", "127.0.0.1", "-p", port, "-U", "postgres"],
            "conninfo": ["-d", f"host=127.0.0.1 port={port} user=postgres dbname=postgres"],
            "quoted": ["-d", f"host='127.0.0.1' port={port} user=postgres dbname=postgres options='-c work_mem=5MB'"],
            "uri": ["-d", f"postgresql://postgres@127.0.0.1:{port}/postgres"],
            "service": ["-d", "service=backup"],
        }[form]
        succeeded(
            run_command(
                "backup",
                "--immediate-checkpoint",
                *arguments,
                repository.url,
                "main",
                environ={"PGSERVICEFILE": str(service)},
            )
        )
        assert repository.info().status == "DONE"

    def test_settings_of_the_role_do_not_matter(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        server.query("CREATE SCHEMA trap")
        server.query(
            "CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT '2001-01-01'::timestamptz$$"
        )
        server.query("CREATE FUNCTION trap.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'")
        with server.connect() as connection:  # one session, which none of them is for
            for setting in (
                "search_path = trap, pg_catalog",
                "DateStyle = 'German'",
                "statement_timeout = '100ms'",
                "idle_in_transaction_session_timeout = '100ms'",
                "idle_session_timeout = '200ms'",
                "lock_timeout = 1",
            ):
                connection.execute(f"ALTER ROLE postgres SET {setting}".encode())
        succeeded(repository.backup(server, "--max-bandwidth", "20MB"))
        info = repository.info()
        assert info.begin_time is not None
        assert info.begin_time.year > 2001

    def test_a_role_with_the_documented_privileges_is_enough(
        self, new_postgres: NewPostgres, repository: Repository
    ) -> None:
        server = new_postgres()
        new = server.installation.major >= 15
        start = "pg_backup_start(text, boolean)" if new else "pg_start_backup(text, boolean, boolean)"
        stop = "pg_backup_stop(boolean)" if new else "pg_stop_backup(boolean, boolean)"
        server.query("CREATE ROLE keeper LOGIN")
        refused = failed(repository.backup(server, "-U", "keeper"), "lacks .*pg_monitor.*pg_switch_wal")
        assert "hint" in refused.stderr
        info = repository.info()
        assert (info.status, info.end_time, info.begin_wal) == ("FAILED", None, None)
        assert str(info.error).startswith("failure uploading data (role keeper lacks")
        server.query("GRANT pg_monitor TO keeper")
        for function in (start, stop, "pg_switch_wal()", "pg_create_restore_point(text)"):
            server.query(f"GRANT EXECUTE ON FUNCTION {function} TO keeper")
        succeeded(repository.backup(server, "-U", "keeper"))
        assert repository.info().cluster_size is not None

    def test_a_server_that_cannot_be_reached(self, repository: Repository, postgres: PostgresServer) -> None:
        failed(repository.backup(postgres, "-h", "127.0.0.1", "-p", "1"), "cannot connect to PostgreSQL")
        failed(repository.backup(postgres, "-U", "nobody-like-that"), "nobody-like-that")
        assert repository.ids == []

    def test_a_connection_string_that_makes_no_sense(self, repository: Repository, postgres: PostgresServer) -> None:
        done = failed(repository.backup(postgres, "-d", "host=127.0.0.1 password=se cret"), "not understood", code=4)
        assert "cret" not in done.stderr

    def test_a_file_that_cannot_be_read(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        secret = server.data / "secret"
        secret.touch(mode=0)
        server_account().own(server.data)
        done = run_as_server([program("backup"), repository.url, "main"], environ=server.client_environ, check=False)
        failed(done, rf"user \S+ can't read {secret} \(owner \S+, mode 0000\) \(hint: run the backup as the user")
        info = repository.info()
        assert str(info.error).startswith("failure uploading data (user ")
        assert (info.status, info.end_time, info.begin_wal) == ("FAILED", None, None)

    def test_files_that_are_not_here_or_of_another_server(self, new_postgres: NewPostgres) -> None:
        server, other = new_postgres(), new_postgres()
        with connect(ConnectionParameters(server.conninfo)) as connection:
            metadata = read_metadata(connection)
        assert visible_data_directory(metadata) == str(server.data)
        with pytest.raises(OperationError, match="data directory /nonexistent can't be read here") as caught:
            visible_data_directory(replace(metadata, data_directory="/nonexistent"))
        assert "the server's machine" in str(caught.value.hint)
        assert "--method stream" in str(caught.value.hint)
        with pytest.raises(OperationError, match="belongs to cluster"):
            visible_data_directory(replace(metadata, data_directory=str(other.data)))

    def test_files_of_a_replica_at_the_same_path(self, new_postgres: NewPostgres, server_dir: Path) -> None:
        """Same system identifier, but their label would be another server's."""
        server = new_postgres()
        standby = server.standby(server_dir / "standby")
        try:
            with connect(ConnectionParameters(server.conninfo)) as connection:
                primary = read_metadata(connection)
                (redo,) = connection.execute("SELECT redo_lsn::text FROM pg_control_checkpoint()").fetchone() or ("",)
            with connect(ConnectionParameters(standby.conninfo)) as connection:
                replica = read_metadata(connection)
            assert visible_data_directory(replica) == str(standby.data)
            with pytest.raises(OperationError, match="that of a standby, but the server that was asked is a primary"):
                visible_data_directory(replace(primary, data_directory=str(standby.data)))
            with pytest.raises(OperationError, match="that of a primary, but"):
                visible_data_directory(replace(replica, data_directory=str(server.data)))
            require_backup_mode_here(str(server.data), parse_lsn(redo))
            with pytest.raises(OperationError, match=f"isn't that of the server in backup mode.* at {redo}, before"):
                require_backup_mode_here(str(server.data), parse_lsn(redo) + 1)
        finally:
            standby.stop()

    def test_a_tablespace_made_while_the_begin_waits_for_its_checkpoint(
        self,
        new_postgres: NewPostgres,
        repository: Repository,
        server_dir: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The backup's WAL has nothing of what was before that checkpoint, so the files must be in the backup."""
        server = new_postgres()
        repository.archive_from(server)
        # The backup runs in this process, maybe as root: what the archiver needs in the store is to be there by then.
        server.wait_archived(server.switch_wal())
        begin = BackupMode.start

        def make_tablespace_and_begin(mode: BackupMode, label: str, *, immediate_checkpoint: bool) -> BackupStart:
            server.create_tablespace("late")
            server.query("CREATE TABLE t TABLESPACE late AS SELECT generate_series(1, 1000) AS a")
            return begin(mode, label, immediate_checkpoint=immediate_checkpoint)

        monkeypatch.setattr(BackupMode, "start", make_tablespace_and_begin)
        request = BackupRequest(ConnectionParameters(server.conninfo), immediate_checkpoint=True)
        run_backup(open_store(repository.url), Layout("", "main"), BackupOptions(request))
        server_account().own(repository.directory)
        assert [tablespace.name for tablespace in repository.info().tablespaces or ()] == ["late"]
        assert "late" not in caplog.text
        with repository.restored(server_dir, server) as copy:
            assert copy.value("SELECT count(*) FROM t") == 1000

    def test_a_missing_bucket_is_found_before_the_server_is_bothered(
        self, postgres: PostgresServer, moto: StoreServer
    ) -> None:
        environ = {**postgres.client_environ, **moto.environ}
        done = run_command("backup", *moto.options, "s3://no-such-bucket/x", "main", environ=environ)
        failed(done, "no-such-bucket")

    def test_a_store_that_cannot_be_reached(self, postgres: PostgresServer, moto: StoreServer) -> None:
        environ = {**postgres.client_environ, **moto.environ, "AWS_MAX_ATTEMPTS": "1"}
        environ.pop("AWS_ENDPOINT_URL", None)
        done = run_command(
            "backup", "--endpoint-url", "http://127.0.0.1:1", "s3://b/x", "main", environ=environ, timeout=290
        )
        failed(done, "127.0.0.1|s3://b")


class TestHost:
    @pytest.mark.long
    @pytest.mark.parametrize("jobs", [1, 8])
    def test_memory_stays_within_the_documented_formula(
        self, new_postgres: NewPostgres, rclone_s3: StoreServer, jobs: int
    ) -> None:
        server = new_postgres()
        for number in range(jobs + 1):
            (server.data / "base" / f"noise-{number}").write_bytes(os.urandom(56 << 20))
        environ = {**server.client_environ, **rclone_s3.environ}
        arguments = ["--jobs", str(jobs), *rclone_s3.options, f"{rclone_s3.new_bucket()}/x", "main"]
        process = subprocess.Popen(
            [program("backup"), "--immediate-checkpoint", *arguments], env=command_environment(environ)
        )
        peak = 0
        while process.poll() is None:
            # Not ru_maxrss: that of a child begins with what its parent had.
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")))
            time.sleep(0.01)
        assert process.returncode == 0
        assert 40 < peak / 1024 < 80 + (jobs + 1) * 6 * 8  # docs/explanation/memory.md
