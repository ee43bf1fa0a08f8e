"""``barman-cloud-backup`` as Barman's ``post_backup_script``: storing a backup that is on a Barman server's disk."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo, Tablespace
from tests.support.commands import run_command
from tests.support.postgres import PostgresServer
from tests.support.privileges import server_account
from tests.support.repository import Completed, Repository

BACKUP_ID = "20260102T030405"


class BarmanBackup:
    """A backup as a Barman server keeps it: ``data``, one directory per tablespace, and ``backup.info``."""

    def __init__(self, directory: Path, repository: Repository, **fields: object) -> None:
        self.directory = directory
        self.repository = repository
        self.info = BackupInfo(BACKUP_ID, status="DONE", server_name="main", mode="postgres", **fields)  # type: ignore[arg-type]
        self.environ = {
            "BARMAN_HOOK": "backup_retry_script",
            "BARMAN_PHASE": "post",
            "BARMAN_BACKUP_DIR": str(directory),
            "BARMAN_BACKUP_ID": BACKUP_ID,
            "BARMAN_STATUS": "DONE",
            "BARMAN_BACKUP_INFO_PATH": str(directory / "backup.info"),
        }
        self.write_info()

    def write_info(self) -> None:
        self.directory.mkdir(exist_ok=True)
        (self.directory / "backup.info").write_text("# written by a Barman server\n" + backup_info.dump(self.info))

    def make(self, *paths: str) -> None:
        for path in paths:
            place = self.directory / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(path)

    def store(self, *arguments: str, without: str = "", **changes: str) -> Completed:
        environ = {name: value for name, value in {**self.environ, **changes}.items() if name != without}
        return run_command("backup", *arguments, self.repository.url, "main", environ=environ)


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


@pytest.fixture
def backup(server_dir: Path, repository: Repository) -> BarmanBackup:
    backup = BarmanBackup(
        server_dir / "backup", repository, version=180006, tablespaces=[Tablespace("fast", 16384, "/srv/ts1")]
    )
    backup.make(
        "data/PG_VERSION",
        "data/base/1/112",
        "data/base/1/t1_2",
        "data/global/pg_control",
        "data/backup_label",
        "data/pg_wal/000000010000000000000001",
        "data/postmaster.pid",
        "data/tablespace_map",
        "data/log/today",
        "16384/PG_18_202506291/5/16390",
        "16384/PG_17_202406281/5/16390",
    )
    return backup


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_the_backup_is_stored_as_it_lies(backup: BarmanBackup, repository: Repository, compression: str | None) -> None:
    done = backup.store(*([f"--{compression}"] if compression else []))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert repository.ids == [BACKUP_ID]
    assert repository.path("backup.info").read_bytes() == (backup.directory / "backup.info").read_bytes()
    assert sorted(repository.files()) == ["PG_VERSION", "backup_label", "base/1/112", "global/pg_control"]
    assert sorted(repository.files("16384")) == ["PG_18_202506291/5/16390"]
    assert repository.members(repository.archives[-1])[-1][0].name == "global/pg_control"
    suffixes = {re.sub(r"^[^.]+", "", name) for name in repository.archives}
    assert suffixes == {".tar" + {None: "", "gzip": ".gz", "zstd": ".zst"}[compression]}


@pytest.mark.parametrize(
    ("changes", "without", "code", "words"),
    [
        ({"BARMAN_HOOK": "archive_script"}, "", 4, "archive_script"),
        ({"BARMAN_PHASE": "pre"}, "", 4, "pre backup_retry_script"),
        ({}, "BARMAN_BACKUP_DIR", 4, "BARMAN_BACKUP_DIR"),
        ({}, "BARMAN_BACKUP_ID", 4, "BARMAN_BACKUP_ID"),
        ({}, "BARMAN_BACKUP_INFO_PATH", 4, "BARMAN_BACKUP_INFO_PATH"),
        ({}, "BARMAN_STATUS", 63, "not DONE"),
        ({"BARMAN_STATUS": "FAILED"}, "", 63, "FAILED, not DONE"),
        ({"BARMAN_BACKUP_INFO_PATH": "/nonexistent"}, "", 4, "/nonexistent"),
        ({"BARMAN_BACKUP_DIR": "/nonexistent"}, "", 1, "/nonexistent"),
    ],
)
def test_what_the_environment_must_say(
    backup: BarmanBackup, repository: Repository, changes: dict[str, str], without: str, code: int, words: str
) -> None:
    done = backup.store(without=without, **changes)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert repository.ids == []


def test_a_name_is_refused_before_the_status_is_looked_at(backup: BarmanBackup) -> None:
    assert backup.store("--name", "n", BARMAN_STATUS="FAILED").returncode == 4


def test_a_compressed_backup_is_refused(backup: BarmanBackup) -> None:
    backup.info.compression = "gzip"
    backup.write_info()
    done = backup.store()
    assert (done.returncode, "compressed by Barman" in done.stderr) == (4, True)


def test_a_failed_upload_leaves_no_backup(backup: BarmanBackup, repository: Repository) -> None:
    (backup.directory / "data/global/pg_control").unlink()
    done = backup.store()
    assert (done.returncode, "pg_control" in done.stderr) == (1, True)
    assert not repository.path("backup.info").exists()


def test_without_both_variables_it_is_a_normal_backup(backup: BarmanBackup) -> None:
    done = backup.store("-h", "127.0.0.1", "-p", "1", without="BARMAN_PHASE")
    assert (done.returncode, "cannot connect to PostgreSQL" in done.stderr) == (1, True)


def test_a_backup_by_pg_basebackup_is_restored_and_started(
    new_postgres: Callable[..., PostgresServer], repository: Repository, server_dir: Path
) -> None:
    server = new_postgres()
    repository.archive_from(server)
    location = server.create_tablespace("fast")
    server.query("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) AS a")
    oid = server.value("SELECT oid::int FROM pg_tablespace WHERE spcname = 'fast'")
    place = server_dir / "backup"
    place.mkdir()
    server_account().own(server_dir)
    server.run_tool(
        "pg_basebackup",
        "-D",
        str(place / "data"),
        "-X",
        "none",
        "-c",
        "fast",
        f"--tablespace-mapping={location}={place / str(oid)}",
    )
    backup = BarmanBackup(
        place,
        repository,
        version=server.value("SELECT current_setting('server_version_num')::int"),
        tablespaces=[Tablespace("fast", oid, str(location))],
    )
    done = backup.store("--lz4")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(place)
    server.wait_archived(server.switch_wal())
    with repository.restored(server_dir, server) as copy:
        assert copy.value("SELECT count(*) FROM t") == 1000
