"""``barman-cloud-backup`` on real servers: what it stores, that it can be restored, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from barman_cloud.archive import archives_json
from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.compression import compression_of
from tests.support.commands import program, run_command
from tests.support.postgres import PostgresServer, command_environment
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


class TestRestoredBackup:
    """The whole circle: WAL archived, backup taken under load, restored, verified, recovered, checked."""

    def test_while_nothing_happens(self, new_postgres: NewPostgres, repository: Repository, server_dir: Path) -> None:
        server = new_postgres()
        repository.archive_from(server)
        server.create_tablespace("fast")
        server.query("CREATE TABLE inside AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 100000) g")
        server.query("CREATE TABLE outside (a int PRIMARY KEY) TABLESPACE fast")
        server.query("INSERT INTO outside SELECT generate_series(1, 50000)")
        done = succeeded(repository.backup(server, "--lz4", "--name", "nightly", "--max-archive-size", "20MB"))
        assert done.stderr == ""
        assert repository.info().version == server.value("SELECT current_setting('server_version_num')::int")
        with repository.restored(server_dir, server) as copy:
            assert copy.value("SELECT count(*) FROM inside") == 100_000
            assert copy.value("SELECT count(*) FROM outside") == 50_000
            if copy.installation.has("pg_amcheck"):
                copy.amcheck()

    def test_files_that_change_vanish_and_grow_meanwhile(
        self, new_postgres: NewPostgres, repository: Repository, server_dir: Path
    ) -> None:
        server = new_postgres()
        repository.archive_from(server)
        server.pgbench("-i", "-s", "4")
        stopped, rounds = threading.Event(), 0
        # Older servers copy the template's files and make a checkpoint for it.
        strategy = " STRATEGY wal_log" if server.installation.major >= 15 else ""

        def disturb() -> None:
            nonlocal rounds
            with server.connect() as connection:
                while not stopped.is_set():
                    connection.execute("CREATE TABLE fleeting AS SELECT generate_series(1, 20000) AS a")
                    connection.execute("TRUNCATE pgbench_history")
                    connection.execute("UPDATE pgbench_tellers SET filler = filler || ''")
                    connection.execute("DROP TABLE fleeting")
                    connection.execute(f"CREATE DATABASE passing{strategy}")
                    connection.execute("DROP DATABASE passing")
                    rounds += 1

        disturber = threading.Thread(target=disturb)
        load = subprocess.Popen(
            [server.installation.tool("pgbench"), "-n", "-T", "60", "-c", "2"],
            env=command_environment(server.client_environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        disturber.start()
        try:
            succeeded(repository.backup(server, "--zstd", "--max-bandwidth", "8MB", "--jobs", "3"))
        finally:
            stopped.set()
            load.terminate()
            load.wait()
            disturber.join()
        assert rounds > 0
        with repository.restored(server_dir, server) as copy:
            assert copy.value("SELECT count(*) FROM pgbench_accounts") == 400_000
            copy.amcheck()

    def test_from_a_standby(self, new_postgres: NewPostgres, repository: Repository, server_dir: Path) -> None:
        server = new_postgres()
        repository.archive_from(server)
        server.create_tablespace("fast")
        server.query("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) AS a")
        standby = server.standby(server_dir / "standby")
        try:
            done = succeeded(repository.backup(standby, "--gzip"))
            assert "standby" in done.stderr
            assert "BACKUP FROM: standby" in str(repository.info().backup_label)
            server.wait_archived(server.switch_wal())
            with repository.restored(server_dir, standby) as copy:
                assert copy.value("SELECT count(*) FROM t") == 1000
        finally:
            standby.stop()

    def test_with_small_segments_and_a_linked_wal_directory(
        self, new_postgres: NewPostgres, repository: Repository, server_dir: Path
    ) -> None:
        wal = server_dir / "wal"
        server = new_postgres(initdb=["--wal-segsize=1", f"--waldir={wal}"])
        repository.archive_from(server)
        server.query("CREATE TABLE t AS SELECT generate_series(1, 100000) AS a")
        succeeded(repository.backup(server))
        assert repository.info().xlog_segment_size == 1 << 20
        with repository.restored(server_dir, server) as copy:
            assert copy.value("SELECT count(*) FROM t") == 100_000


class TestStoredObjects:
    @pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "snappy", "lz4", "zstd"])
    def test_every_compression(self, postgres: PostgresServer, repository: Repository, compression: str | None) -> None:
        succeeded(repository.backup(postgres, *([f"--{compression}"] if compression else [])))
        info = repository.info()
        assert (info.status, info.compression) == ("DONE", None)
        assert {compression_of(name) for name in repository.archives} == {compression}
        assert repository.files()["PG_VERSION"] == f"{postgres.installation.major}\n".encode()

    def test_backup_info_says_what_the_server_says(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres(settings={"timezone": "Asia/Kolkata"})
        location = server.create_tablespace("fast")
        server.configure(work_mem="5MB")
        succeeded(repository.backup(server, "--name", "nightly"))
        text = repository.path("backup.info").read_text()
        keys = [line.partition("=")[0] for line in text.splitlines()]
        assert keys == sorted(keys)
        info = repository.info()
        data = str(server.data)
        assert (info.status, info.backup_name, info.server_name) == ("DONE", "nightly", "cloud")
        assert (info.pgdata, info.config_file) == (data, f"{data}/postgresql.conf")
        assert (info.hba_file, info.ident_file) == (f"{data}/pg_hba.conf", f"{data}/pg_ident.conf")
        assert info.included_files == [f"{data}/postgresql.auto.conf"]
        assert info.tablespaces == [
            ("fast", server.value("SELECT oid::int FROM pg_tablespace WHERE spcname = 'fast'"), str(location))
        ]
        assert info.systemid == str(server.value("SELECT system_identifier FROM pg_control_system()"))
        assert (info.timeline, info.xlog_segment_size, info.data_checksums) == (1, 16 << 20, "on")
        assert info.begin_time is not None
        assert info.end_time is not None
        assert info.begin_time.utcoffset() == timedelta(hours=5, minutes=30)
        assert info.begin_time <= info.end_time
        assert f"START WAL LOCATION: {info.begin_xlog} (file {info.begin_wal})" in str(info.backup_label)
        assert f"LABEL: Barman backup cloud {info.backup_id}\n" in str(info.backup_label)
        assert (info.error, info.mode, info.size, info.parent_backup_id) == (None, None, None, None)
        assert info.cluster_size is not None
        assert info.cluster_size > 1 << 20
        assert list(info.copy_stats or {}) == [
            "total_time",
            "number_of_workers",
            "analysis_time",
            "analysis_time_per_item",
            "copy_time_per_item",
            "serialized_copy_time_per_item",
            "copy_time",
            "serialized_copy_time",
        ]

    def test_archives_have_barmans_structure(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        server.create_tablespace("fast")
        server.query("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) AS a")
        server.query("CREATE TABLE u AS SELECT generate_series(1, 1000000) AS a")
        succeeded(repository.backup(server, "--max-archive-size", "10MB"))
        first, *_, last = [name for name in repository.archives if name.startswith("data")]
        assert first == "data.tar"
        raw = repository.path(first).read_bytes()
        assert len(raw) % 10240 == 0
        assert raw[1024:1027] == b"./\0"
        members = [member for member, _ in repository.members(first)]
        assert [members[0].kind, oct(members[0].mode)] == ["directory", "0o700"]
        directories = [member.name for member in members if member.kind == "directory"]
        assert {"base", "global", "pg_wal", "pg_tblspc", "pg_stat_tmp", "pg_twophase"} <= set(directories)
        assert "./PG_VERSION" in [member.name for member in members]
        assert [member.name for member, _ in repository.members(last)] == [
            "global/pg_control",
            "backup_manifest",
            "backup_label",
        ]
        label, content = repository.members(last)[-1]
        owner = server.data.stat()
        assert (label.mode, label.uid, label.gid) == (0o644, owner.st_uid, owner.st_gid)
        assert content.decode() == repository.info().backup_label
        everything = [member.name for name in repository.archives[1:-1] for member, _ in repository.members(name)]
        assert not any(name.endswith("/") for name in everything)
        tablespace = repository.members(next(name for name in repository.archives if name[0].isdigit()))
        assert re.fullmatch(r"PG_\d+_\d+", tablespace[0][0].name)

    def test_no_archive_is_above_the_limit(self, postgres: PostgresServer, repository: Repository) -> None:
        succeeded(repository.backup(postgres, "--max-archive-size", "3MB"))
        sizes = {name: repository.path(name).stat().st_size for name in repository.archives}
        assert len(sizes) > 5
        assert max(sizes.values()) <= 3 << 20 | 10240

    def test_the_sidecar_describes_what_is_stored(self, postgres: PostgresServer, repository: Repository) -> None:
        succeeded(repository.backup(postgres, "--lz4", "--max-archive-size", "8MB"))
        records = archives_json.parse(repository.path("archives.json").read_text())
        assert [record.name for record in records] == repository.archives
        for record in records:
            stored = repository.path(record.name).read_bytes()
            assert (record.size, record.checksum) == (len(stored), crc32c(stored))
            assert record.members == len(repository.members(record.name))

    def test_configuration_outside_pgdata_replaces_its_namesake_inside(
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
        done = succeeded(repository.backup(server))
        assert repository.files()["pg_hba.conf"] == rules.encode()
        assert f"{outside}/extra.conf" in done.stderr
        last = [member.name for member, _ in repository.members(repository.archives[-1])]
        assert last == ["global/pg_control", "pg_hba.conf", "backup_manifest", "backup_label"]

    def test_temporary_relations_stay_out(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        with server.connect() as connection:
            connection.execute("CREATE TEMPORARY TABLE t AS SELECT generate_series(1, 10000) AS a")
            succeeded(repository.backup(server))
        assert not [path for path in repository.files() if re.search(r"/t\d+_\d+", path)]

    def test_tags_are_on_every_object(self, postgres: PostgresServer, moto: StoreServer) -> None:
        bucket = moto.new_bucket()
        arguments = ["--tag", "team,blue", "--tag", "tier,gold", *moto.options, f"{bucket}/prod", "main"]
        environ = {**postgres.client_environ, **moto.environ}
        succeeded(run_command("backup", "--immediate-checkpoint", "--gzip", *arguments, environ=environ))
        name = bucket.removeprefix("s3://")
        client = boto3.client(
            "s3", endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
        )
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=name)["Contents"]]
        assert sorted(key.rpartition("/")[2] for key in keys) == [
            "archives.json",
            "backup.info",
            "backup_manifest",
            "data.tar.gz",
            "data_0001.tar.gz",
            "system_identifiers",
        ]
        for key in keys:
            tags = client.get_object_tagging(Bucket=name, Key=key)["TagSet"]
            assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "blue", "tier": "gold"}

    def test_two_backups_in_one_second_get_two_ids(self, postgres: PostgresServer, repository: Repository) -> None:
        both = [
            subprocess.Popen(
                [program("backup"), "--immediate-checkpoint", repository.url, "main"],
                env=command_environment(postgres.client_environ),
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        outcomes = [process.communicate()[1] if process.wait() else "" for process in both]
        # Either the second waited for the next second, or it lost the race for the id and says so.
        done = [backup_id for backup_id in repository.ids if repository.info(backup_id).status == "DONE"]
        assert len(done) == outcomes.count("")
        assert all("another backup took the id" in text for text in outcomes if text)

    def test_a_name_that_is_taken_is_warned_of(self, postgres: PostgresServer, repository: Repository) -> None:
        succeeded(repository.backup(postgres, "--name", "weekly"))
        first = repository.ids[0]
        done = succeeded(repository.backup(postgres, "--name", "weekly"))
        assert f"weekly is also that of backup {first}" in done.stderr
