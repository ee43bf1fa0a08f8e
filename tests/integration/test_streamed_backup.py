"""``barman-cloud-backup --method stream`` on real servers: what it stores, that it can be restored, what it refuses."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from barman_cloud.archive.compression import compression_of
from barman_cloud.archive.manifest import ManifestReader
from tests.support.commands import program, run_command
from tests.support.installations import Installation
from tests.support.poolers import has_old_pgbouncer, old_pgbouncer, pgbouncer
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.repository import Completed, Repository
from tests.support.servers import StoreServer

NewPostgres = Callable[..., PostgresServer]
STREAM = ("--method", "stream")


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


@pytest.fixture(scope="module")
def server(postgres_installation: Installation) -> Iterator[PostgresServer]:
    """A running server with a tablespace, shared by the tests that only read it."""
    with temporary_server_directory() as directory, PostgresServer.create(directory, postgres_installation) as server:
        server.create_tablespace("fast")
        server.query("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) AS a")
        server.query("CREATE TABLE u AS SELECT generate_series(1, 400000) AS a")
        server.query("CREATE ROLE reader LOGIN")
        server.query("CREATE ROLE streamer LOGIN REPLICATION")
        yield server


def succeeded(done: Completed) -> Completed:
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done


def refused(done: Completed, words: str, hint: str, code: int = 1) -> None:
    """One line that says what is wrong, and what to do."""
    assert done.returncode == code, done.stderr
    line, *before = reversed(done.stderr.splitlines())
    assert all(" WARNING: " in text for text in before), done.stderr
    assert re.search(rf"ERROR: .*{words}.* \(hint: .*{hint}.*\)", line), line


def accepts_replication(server: PostgresServer) -> bool:
    try:
        psycopg.connect(server.conninfo, replication="true").close()
    except psycopg.OperationalError:
        return False
    return True


def no_session_is_left(server: PostgresServer) -> bool:
    return server.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'barman_cloud_backup'") == []


class TestStoredObjects:
    @pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "snappy", "lz4", "zstd"])
    def test_every_compression(self, postgres: PostgresServer, repository: Repository, compression: str | None) -> None:
        succeeded(repository.backup(postgres, *STREAM, *([f"--{compression}"] if compression else [])))
        assert repository.info().status == "DONE"
        assert {compression_of(name) for name in repository.archives} == {compression}
        assert repository.files()["PG_VERSION"] == f"{postgres.installation.major}\n".encode()

    def test_backup_info_is_as_barmans_server_writes_it(self, server: PostgresServer, repository: Repository) -> None:
        succeeded(repository.backup(server, *STREAM, "--name", "nightly", PGTZ="Asia/Kolkata"))
        info = repository.info()
        keys = [line.partition("=")[0] for line in repository.path("backup.info").read_text().splitlines()]
        assert keys == sorted(keys)
        assert (info.status, info.mode, info.server_name, info.backup_name) == ("DONE", "postgres", "main", "nightly")
        assert (info.parent_backup_id, info.children_backup_ids, info.error) == (None, None, None)
        oid = server.value("SELECT oid::int FROM pg_tablespace WHERE spcname = 'fast'")
        assert info.tablespaces == [("fast", oid, str(server.directory / "tablespace-fast"))]
        stored = sum(repository.path(name).stat().st_size for name in repository.archives)
        assert (info.size, info.deduplicated_size) == (stored, stored)
        assert info.begin_time is not None
        assert info.end_time is not None
        assert info.begin_time <= info.end_time
        assert {info.begin_time.utcoffset(), info.end_time.utcoffset()} == {timedelta(hours=5, minutes=30)}
        assert f"START WAL LOCATION: {info.begin_xlog} (file {info.begin_wal})" in str(info.backup_label)
        assert f"LABEL: Barman backup main {info.backup_id}\n" in str(info.backup_label)
        assert (info.pgdata, info.timeline, info.data_checksums) == (str(server.data), 1, "on")
        assert len(info.copy_stats or {}) == 8

    def test_the_manifest_of_the_server_is_kept_byte_for_byte(
        self, postgres: PostgresServer, repository: Repository
    ) -> None:
        succeeded(repository.backup(postgres, *STREAM, "--zstd"))
        last = repository.members(repository.archives[-1])
        assert [member.name for member, _ in last] == ["global/pg_control", "backup_manifest", "backup_label"]
        manifest = last[1][1]
        assert repository.path("backup_manifest").read_bytes() == manifest
        reader = ManifestReader([manifest])
        listed = {entry.path: entry for entry in reader}
        files = repository.files()
        assert listed.keys() == files.keys() - {"backup_manifest"}
        assert all(entry.size == len(files[path]) for path, entry in listed.items())
        assert last[2][1].decode() == repository.info().backup_label

    def test_links_of_tablespaces_are_left_to_the_reader(self, server: PostgresServer, repository: Repository) -> None:
        succeeded(repository.backup(server, *STREAM))
        members = [member for name in repository.archives for member, _ in repository.members(name)]
        assert {member.kind for member in members} == {"file", "directory"}
        assert not any(member.name in ("tablespace_map", "postmaster.pid") for member in members)
        oid = server.value("SELECT oid::int FROM pg_tablespace WHERE spcname = 'fast'")
        first, _ = repository.members(f"{oid}.tar")[0]
        assert re.fullmatch(r"PG_\d+_\d+", first.name)

    def test_the_stream_is_dealt_to_several_archives(self, server: PostgresServer, repository: Repository) -> None:
        succeeded(repository.backup(server, *STREAM, "--max-archive-size", "5MB", "--jobs", "3"))
        sizes = {name: repository.path(name).stat().st_size for name in repository.archives}
        assert len(sizes) > 4
        # A file is never split: only an archive of one large file alone is above the limit.
        above = [name for name, size in sizes.items() if size > 5 << 20 | 10240]
        assert [len(repository.members(name)) for name in above] == [1]

    @pytest.mark.long
    def test_configuration_outside_pgdata_is_stored_beside_the_archives(
        self, new_postgres: NewPostgres, repository: Repository, server_dir: Path
    ) -> None:
        server = new_postgres()
        outside = server_dir / "conf"
        outside.mkdir()
        rules = (server.data / "pg_hba.conf").read_text() + "# outside\n"
        (outside / "pg_hba.conf").write_text(rules)
        (outside / "extra.conf").write_text("work_mem = 5MB\n")
        with (server.data / "postgresql.conf").open("a") as file:
            file.write(f"hba_file = '{outside}/pg_hba.conf'\nident_file = '{outside}/missing.conf'\n")
            file.write(f"include '{outside}/extra.conf'\n")
        server_account().own(server_dir)
        server.restart()
        repository.archive_from(server)
        succeeded(repository.backup(server, *STREAM))
        with tarfile.open(fileobj=io.BytesIO(repository.path("configuration.tar").read_bytes())) as tar:
            found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        inside = str(outside).lstrip("/")
        assert found == {f"{inside}/pg_hba.conf": rules.encode(), f"{inside}/extra.conf": b"work_mem = 5MB\n"}
        with repository.restored(server_dir, server, as_server=True) as copy:
            assert copy.value("SHOW work_mem") == "5MB"
        told = run_command("restore", repository.url, "main", repository.ids[-1], server_dir / "again")
        assert f"are in {repository.url}/main/base/{repository.ids[-1]}/configuration.tar" in told.stderr
        # A role that may stream but not read files gets a backup too, and is told what it lacks.
        server.query("CREATE ROLE streamer LOGIN REPLICATION")
        server.query("GRANT pg_monitor TO streamer")
        done = succeeded(repository.backup(server, *STREAM, "-U", "streamer"))
        assert f"{outside}/pg_hba.conf is outside PGDATA and is not in the backup: permission denied" in done.stderr
        assert not repository.path("configuration.tar").exists()
        assert repository.info().status == "DONE"
        deleted = run_command("backup-delete", "--backup-id", repository.ids[0], repository.url, "main")
        assert deleted.returncode == 0, deleted.stderr
        assert len(repository.ids) == 1

    def test_a_role_that_may_only_stream_is_enough(self, server: PostgresServer, repository: Repository) -> None:
        done = succeeded(repository.backup(server, *STREAM, "-U", "streamer"))
        assert "backup.info won't tell where the data directory was" in done.stderr
        info = repository.info()
        assert (info.status, info.pgdata, info.cluster_size) == ("DONE", None, None)

    def test_a_stream_of_its_own_connection_string(self, server: PostgresServer, repository: Repository) -> None:
        succeeded(
            repository.backup(
                server,
                *STREAM,
                "-U",
                "reader",
                "--streaming-conninfo",
                f"host=127.0.0.1 port={server.port} user=streamer",
            )
        )
        assert repository.info().status == "DONE"

    def test_through_the_umbrella_command_with_tags_and_encryption(
        self, postgres: PostgresServer, moto: StoreServer
    ) -> None:
        bucket = moto.new_bucket()
        done = subprocess.run(
            [
                str(Path(program("backup")).with_name("barman-cloud")),
                "backup",
                *STREAM,
                "--immediate-checkpoint",
                "--wal-timeout",
                "0",
                "--tag",
                "team,blue",
                "--encryption",
                "AES256",
                *moto.options,
                f"{bucket}/prod",
                "main",
            ],
            env=command_environment({**postgres.client_environ, **moto.environ}),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        client = moto_client(moto)
        name = bucket.removeprefix("s3://")
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=name)["Contents"]]
        assert {"archives.json", "backup.info", "backup_manifest", "data.tar"} <= {k.rpartition("/")[2] for k in keys}
        for key in keys:
            assert client.get_object_tagging(Bucket=name, Key=key)["TagSet"] == [{"Key": "team", "Value": "blue"}]
            assert client.head_object(Bucket=name, Key=key)["ServerSideEncryption"] == "AES256"


class TestSpeedAndMemory:
    def test_the_server_is_asked_to_send_no_faster(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres(settings={"log_replication_commands": "on"})
        succeeded(repository.backup(server, *STREAM, "--max-bandwidth", "50MB", "--jobs", "4"))
        commands = [line for line in server.log.read_text().splitlines() if "BASE_BACKUP" in line]
        assert any(re.search(r"MAX_RATE 51200\b", line) for line in commands)

    @pytest.mark.long
    @pytest.mark.parametrize("jobs", [1, 4])
    def test_memory_stays_within_the_documented_formula(
        self, new_postgres: NewPostgres, rclone_s3: StoreServer, jobs: int
    ) -> None:
        server = new_postgres()
        for number in range(jobs + 1):
            (server.data / "base" / f"noise-{number}").write_bytes(os.urandom(48 << 20))
        server_account().own(server.data)
        environ = {**server.client_environ, **rclone_s3.environ}
        arguments = ["--jobs", str(jobs), *rclone_s3.options, f"{rclone_s3.new_bucket()}/x", "main"]
        process = subprocess.Popen(
            [program("backup"), *STREAM, "--immediate-checkpoint", *arguments], env=command_environment(environ)
        )
        peak = 0
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")))
            time.sleep(0.01)
        assert process.returncode == 0
        assert 40 < peak / 1024 < 80 + (jobs + 1) * (6 * 8 + 10)  # docs/explanation/memory.md


class TestRefusals:
    """Each names the setting and its value, and what to do; nothing is left in the store or on the server."""

    def test_a_role_without_replication(self, server: PostgresServer, repository: Repository) -> None:
        refused(
            repository.backup(server, *STREAM, "-U", "reader"),
            "role reader may not stream: it has neither REPLICATION nor SUPERUSER",
            "ALTER ROLE reader REPLICATION",
        )
        assert repository.ids == []
        wait_for(lambda: no_session_is_left(server), what="the session to be closed")

    def test_no_line_for_replication_in_pg_hba(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        (server.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
        server.query("SELECT pg_reload_conf()")
        wait_for(lambda: not accepts_replication(server), what="the new rules to be in force")
        refused(
            repository.backup(server, *STREAM),
            "pg_hba.conf allows no replication connection of role postgres",
            f"host replication postgres ADDRESS .*{server.data}/pg_hba.conf",
        )
        assert repository.ids == []

    def test_no_wal_sender_is_free(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres(settings={"max_wal_senders": "1"})
        with psycopg.connect(server.conninfo, replication="true", autocommit=True):
            refused(
                repository.backup(server, *STREAM),
                "max_wal_senders is 1 on the server, and all of them are in use",
                "raise max_wal_senders",
            )
        assert repository.ids == []

    def test_a_server_that_writes_too_little_wal(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres(settings={"wal_level": "minimal", "max_wal_senders": "0"})
        refused(repository.backup(server, *STREAM), "wal_level is minimal", "wal_level = replica")
        assert repository.ids == []

    def test_a_server_that_streams_to_nobody(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres(settings={"max_wal_senders": "0"})
        refused(repository.backup(server, *STREAM), "max_wal_senders is 0", "max_wal_senders = 10")
        assert repository.ids == []

    def test_tls_that_the_server_does_not_have(self, postgres: PostgresServer, repository: Repository) -> None:
        done = repository.backup(postgres, *STREAM, "-d", f"{postgres.conninfo} sslmode=require")
        refused(done, "does not support SSL, but SSL was required", "sslmode is require here")
        done = repository.backup(postgres, *STREAM, "--streaming-conninfo", f"{postgres.conninfo} sslmode=verify-full")
        assert done.returncode == 1
        assert "sslmode is verify-full here" in done.stderr
        assert repository.ids == []

    def test_a_pooler_in_between(self, postgres: PostgresServer, repository: Repository) -> None:
        with old_pgbouncer() as port:
            done = repository.backup(
                postgres, *STREAM, "--streaming-conninfo", f"host=127.0.0.1 port={port} user=postgres"
            )
        refused(done, f"a connection pooler answers at 127.0.0.1, port {port}", "connect to PostgreSQL itself")
        assert repository.ids == []

    @pytest.mark.skipif(not has_old_pgbouncer(), reason="no pgbouncer before 1.23 is on the PATH")
    @pytest.mark.parametrize("mode", ["session", "transaction"])
    def test_a_real_pooler_in_between(
        self, postgres: PostgresServer, repository: Repository, server_dir: Path, mode: str
    ) -> None:
        with pgbouncer(postgres, server_dir / "pooler", mode) as port:
            for way in (
                ("--streaming-conninfo", f"host=127.0.0.1 port={port} user=postgres"),
                ("--host", "127.0.0.1", "--port", str(port), "--user", "postgres"),
            ):
                done = repository.backup(postgres, *STREAM, *way)
                refused(done, f"a connection pooler answers at 127.0.0.1, port {port}", "connect to PostgreSQL itself")
                assert repository.ids == []

    def test_a_stream_from_another_cluster(
        self, postgres: PostgresServer, server: PostgresServer, repository: Repository
    ) -> None:
        done = repository.backup(postgres, *STREAM, "--streaming-conninfo", server.conninfo)
        refused(done, "the replication connection leads to cluster", "both must reach the same server")
        assert repository.ids == []
        wait_for(lambda: no_session_is_left(server), what="the session to be closed")

    def test_a_stream_from_a_replica_of_the_server(
        self, new_postgres: NewPostgres, repository: Repository, server_dir: Path
    ) -> None:
        server = new_postgres()
        standby = server.standby(server_dir / "standby")
        try:
            done = repository.backup(server, *STREAM, "--streaming-conninfo", standby.conninfo)
            refused(done, "leads to another server than the ordinary one, which is a primary", "the same server")
            assert repository.info().status == "FAILED"
            assert repository.archives == []
        finally:
            standby.stop()

    def test_options_that_do_not_go_together(self, postgres: PostgresServer, repository: Repository) -> None:
        refused_options = {
            ("--include-wal",): "--include-wal needs --method stream",
            ("--streaming-conninfo", "host=x"): "--streaming-conninfo needs --method stream",
            (*STREAM, "--snapshot-instance", "i", "--snapshot-disk", "d"): "makes no disk snapshots",
        }
        for options, words in refused_options.items():
            done = repository.backup(postgres, *options)
            assert (done.returncode, words in done.stderr) == (4, True), done.stderr
        hook = repository.backup(postgres, *STREAM, BARMAN_HOOK="backup_script", BARMAN_PHASE="post")
        assert (hook.returncode, "can't be given in a hook script" in hook.stderr) == (4, True)
        assert repository.ids == []


def moto_client(moto: StoreServer):  # type: ignore[no-untyped-def]
    import boto3

    return boto3.client(
        "s3", endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
