"""``barman-cloud verify``: every kind of damage to a real backup, its WAL and its metadata is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.archive.checksum import crc32c
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import NotFoundError, OperationError
from barman_cloud.store.open import open_store
from barman_cloud.verify.check import check
from barman_cloud.verify.findings import Level, Report
from barman_cloud.verify.ledger import ledger_key
from barman_cloud.verify.limits import Limits
from barman_cloud.verify.stored_backup import BackupVerdict, verify_backup
from barman_cloud.verify.verify import VerifyOptions, verify
from tests.support.commands import program
from tests.support.installations import newest_installation
from tests.support.postgres import PostgresServer, command_environment, temporary_server_directory
from tests.support.repository import Completed, Repository

HOUR = timedelta(hours=1)
UMBRELLA = program("backup").removesuffix("-backup")


@pytest.fixture(scope="module")
def made() -> Iterator[Repository]:
    """A backup of files and a streamed one, with the WAL up to three segments behind the last."""
    summarizes = newest_installation().major >= 17
    settings = {"archive_mode": "on", **({"summarize_wal": "on"} if summarizes else {})}
    with (
        temporary_server_directory() as directory,
        PostgresServer.create(
            directory / "server", initdb=("--data-checksums", "--wal-segsize=1"), settings=settings
        ) as server,
    ):
        repository = Repository(directory / "store")
        repository.archive_from(server)
        server.create_tablespace("fast")
        server.query("CREATE TABLE t AS SELECT g AS a, repeat('x', 200) FROM generate_series(1, 5000) g")
        server.query("CREATE TABLE u TABLESPACE fast AS SELECT g AS a FROM generate_series(1, 5000) g")
        for arguments in ([], ["--method", "stream", "--zstd"]):
            done = repository.backup(server, *arguments)
            assert done.returncode == 0, done.stderr
        server.wait_archived(server.switch_wal())  # nobody writes there while it is copied
        chain = Repository(Path(shutil.copytree(repository.directory, directory / "chain")))
        server.query("UPDATE t SET a = a + 1 WHERE a < 100")
        if summarizes:
            done = chain.backup(server, "--incremental", "latest")
            assert done.returncode == 0, done.stderr
        for _ in range(3):
            server.query("INSERT INTO t SELECT g, 'y' FROM generate_series(1, 100) g")
            last = server.switch_wal()
        server.wait_archived(last)
        shutil.copytree(repository.directory / "main/wals", chain.directory / "main/wals", dirs_exist_ok=True)
        (repository.directory / "table").write_text(str(server.value("SELECT pg_relation_filepath('t')")))
        yield repository


@pytest.fixture
def repository(made: Repository, tmp_path: Path) -> Repository:
    """A copy that may be damaged."""
    return Repository(Path(shutil.copytree(made.directory, tmp_path / "store", dirs_exist_ok=True)))


@pytest.fixture
def chain(made: Repository, tmp_path: Path) -> Repository:
    """A copy of the same with an incremental backup of the second."""
    repository = Repository(Path(shutil.copytree(made.directory.parent / "chain", tmp_path / "chain")))
    if len(repository.ids) < 3:
        pytest.skip("incremental backups need PostgreSQL 17")
    return repository


def catalog_of(repository: Repository) -> Catalog:
    store = open_store(repository.url)
    return Catalog(store, Layout.of(store.url, "main"))


def verified(repository: Repository, text: str | None = "all", newest: int | None = None, **options: object) -> Report:
    return verify(catalog_of(repository), text, newest, VerifyOptions(**options))  # type: ignore[arg-type]


def bad(report: Report) -> dict[str, str]:
    """What is critical, by subject."""
    return {finding.subject: finding.message for finding in report.findings if finding.level is Level.CRITICAL}


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def wals(repository: Repository) -> list[Path]:
    return sorted(path for path in (repository.directory / "main/wals").rglob("*") if len(path.name) == 24)


def in_table(repository: Repository, backup_id: str) -> tuple[Path, int]:
    """The archive with the table's file, and where in the archive its first page is."""
    name = (repository.directory / "table").read_text().encode()
    for path in sorted(repository.path(backup_id=backup_id).glob("data*.tar")):
        data = path.read_bytes()
        start = -1
        while (start := data.find(name + b"\0", start + 1)) >= 0:
            if start % 512 == 0:
                return path, start + 512
    raise AssertionError("no archive has the table")


def record_as_it_is(repository: Repository, backup_id: str, archive: Path) -> None:
    """Let ``archives.json`` say what the archive is now."""
    sidecar = repository.path("archives.json", backup_id)
    document = json.loads(sidecar.read_text())
    for record in document["archives"]:
        if record["name"] == archive.name:
            record["checksum"] = f"{crc32c(archive.read_bytes()):08x}"
    sidecar.write_text(json.dumps(document))


def test_whole_backups_and_wal_are_told_to_be_whole(repository: Repository) -> None:
    pytest.importorskip("numpy")
    report = verified(repository, wal=True)
    assert report.level is Level.OK, report.findings
    assert report.metrics["verified_backups"] == 2
    assert report.metrics["verified_pages"] > 1000
    assert report.metrics["verified_wal_files"] >= len(wals(repository))
    assert len(report.recoverable) == 1
    told = [finding.message for finding in report.findings if finding.subject == "manifest"]
    assert len(told) == 2
    assert all("files of" in message and "are as its manifest says" in message for message in told)


@pytest.mark.long
def test_what_was_verified_is_remembered_until_it_changes(repository: Repository) -> None:
    first, second = repository.ids
    verified(repository, wal=True)
    again = verified(repository, wal=True, max_age=HOUR)
    assert again.metrics["skipped_backups"] == 2
    assert "verified_wal_files" not in again.metrics
    assert again.level is Level.OK
    assert verified(repository, max_age=timedelta(0)).metrics["verified_backups"] == 2
    archive = repository.path("data.tar", first)
    os.utime(archive, ns=(1, 1))
    flip(archive, 5000)
    found = verified(repository, max_age=HOUR)
    assert found.metrics["verified_backups"] == 1
    assert f"can't be restored: {first}; what can be restored: {second}" in bad(found)["restorable"]
    assert verified(repository, max_age=HOUR).metrics["verified_backups"] == 1, "what is broken is read again"


def test_check_tells_what_verify_found(repository: Repository) -> None:
    def subject(max_age: timedelta | None = None) -> list[tuple[Level, str]]:
        catalog = catalog_of(repository)
        report = check(catalog.store, catalog.layout, Limits(max_verified_age=max_age))
        return [(finding.level, finding.message) for finding in report.findings if finding.subject == "verified"]

    assert subject() == [(Level.OK, "no backup was verified yet")]
    assert subject(HOUR)[0][0] is Level.CRITICAL
    verified(repository)
    ((level, message),) = subject(HOUR)
    assert (level, message.partition(",")[0]) == (Level.OK, "2 of 2 backups were verified")
    flip(repository.path("data.tar", repository.ids[0]), 5000)
    verified(repository)
    assert subject()[0][0] is Level.CRITICAL
    assert f"{repository.ids[0]} was found broken" in subject()[0][1]


def test_a_byte_that_changed_is_noticed_in_every_archive(repository: Repository) -> None:
    for backup_id in repository.ids:
        for archive in sorted(repository.path(backup_id=backup_id).glob("*.tar*")):
            if archive.name == "configuration.tar":
                continue
            flip(archive, archive.stat().st_size // 2)
            found = verified(repository, backup_id)
            assert f"main/base/{backup_id}/{archive.name}" in bad(found)["archives"]
            assert backup_id in bad(found)["restorable"]
            flip(archive, archive.stat().st_size // 2)
    assert not bad(verified(repository))


@pytest.mark.parametrize("quick", [True, False])
def test_a_cut_or_missing_archive_is_noticed(repository: Repository, quick: bool) -> None:
    first, second = repository.ids
    archive = repository.path("data.tar", first)
    data = archive.read_bytes()
    archive.write_bytes(data[:-512])
    found = verified(repository, quick=quick)
    assert f"data.tar has {len(data) - 512} bytes instead of {len(data)}" in bad(found)["archive-sizes"]
    archive.unlink()
    found = verified(repository, quick=quick)
    assert f"{first} lacks the archive" in bad(found)["archives"]
    assert f"what can be restored: {second}" in bad(found)["restorable"]
    assert found.recoverable[0].start == repository.info(second).end_time


def test_a_backup_that_is_deleted_meanwhile_is_not_called_broken(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = repository.ids

    def delete_and_verify(*arguments: Any, **options: Any) -> BackupVerdict:
        if arguments[1].backup_id == first:
            shutil.rmtree(repository.path(backup_id=first))
        return verify_backup(*arguments, **options)

    monkeypatch.setattr("barman_cloud.verify.verify.verify_backup", delete_and_verify)
    report = verified(repository)
    assert not bad(report)
    assert f"{first} was deleted meanwhile" in [finding.message for finding in report.findings]
    assert [finding.objects for finding in report.findings if finding.subject == "restorable"] == [(second,)]


def test_quick_reads_no_archive(repository: Repository) -> None:
    catalog = catalog_of(repository)
    flip(repository.path("data.tar", repository.ids[0]), 5000)
    report = verify(catalog, "all", None, VerifyOptions(quick=True))
    assert report.level is Level.OK, report.findings
    assert report.metrics["verified_bytes"] == 0
    assert not catalog.store.requests.counts.get("put"), "sizes don't make a backup verified"


def test_a_file_that_differs_from_the_manifest_is_named(repository: Repository) -> None:
    """The archive is as it was recorded, and what is in it isn't."""
    backup_id = repository.ids[0]
    archive, page = in_table(repository, backup_id)
    flip(archive, page + 4000)
    record_as_it_is(repository, backup_id, archive)
    found = bad(verified(repository, backup_id))
    table = (repository.directory / "table").read_text()
    assert found["manifest"] == f"{backup_id} doesn't match its manifest: {table} has another checksum"
    assert "archives" not in found


def test_damaged_pages_are_named_in_a_backup_without_records(repository: Repository) -> None:
    """As Barman makes them: no ``archives.json``, and no manifest."""
    pytest.importorskip("numpy")
    backup_id = repository.ids[0]
    archive, page = in_table(repository, backup_id)
    for block in (0, 3, 4):
        flip(archive, page + block * 8192 + 4000)
    repository.path("archives.json", backup_id).unlink()
    table = (repository.directory / "table").read_text()
    found = verified(repository, backup_id)
    assert f"{table}: 0, 3-4" in bad(found)["page-checksums"]


def test_without_numpy_page_checksums_are_told_to_be_left_out(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("barman_cloud.postgres.page_checksum.is_available", lambda: False)
    report = verified(repository)
    assert report.level is Level.WARNING
    assert {finding.subject for finding in report.problems} == {"page-checksums"}


def test_damage_to_the_wal_that_a_backup_needs_breaks_it(repository: Repository) -> None:
    first, second = repository.ids
    needed = next(path for path in wals(repository) if path.name == repository.info(second).begin_wal)
    flip(needed, repository.info(second).begin_offset + 25)  # its first record, on the only page that isn't empty
    found = bad(verified(repository))
    assert needed.name in found["backup-wal-content"]
    assert f"can't be restored: {second}; what can be restored: {first}" in found["restorable"]


def test_damage_to_later_wal_ends_what_can_be_recovered(repository: Repository) -> None:
    whole = verified(repository)
    assert whole.level is Level.OK
    later = wals(repository)[-2]
    flip(later, 8192 + 8)  # the LSN of its second page
    assert verified(repository).level is Level.OK, "only --wal reads it"
    found = verified(repository, wal=True)
    assert later.name in bad(found)["wal-content"]
    assert later.name in bad(found)["wal-gap"]
    assert "restorable" not in bad(found)
    assert found.recoverable[0].end <= whole.recoverable[0].end


def test_wal_of_another_cluster_is_told(repository: Repository) -> None:
    later = wals(repository)[-2]
    data = bytearray(later.read_bytes())
    data[24:32] = (1234567890).to_bytes(8, "little")
    later.write_bytes(data)
    assert "belongs to another cluster" in bad(verified(repository, wal=True))["wal-content"]


def test_a_ledger_that_makes_no_sense_costs_only_time(repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    catalog = catalog_of(repository)
    key = ledger_key(catalog.layout)
    for nonsense in (b"", b"[]", b"\xff", b'{"version": 1}', b'{"version": 1, "backups": [], "wal": 3}'):
        catalog.store.put(key, nonsense)
        report = verified(repository, repository.ids[0], max_age=HOUR, quick=False)
        assert report.metrics["verified_backups"] == 1
        assert "can't be read, so nothing counts as verified" in caplog.text
        caplog.clear()
    assert json.loads(catalog.store.get(key))["backups"][repository.ids[0]]["state"] == "whole"


def test_the_newest_is_the_default(repository: Repository) -> None:
    first, second = repository.ids
    report = verified(repository, None)
    assert [finding.objects for finding in report.findings if finding.subject == "archives"] == [(second,)]
    assert verified(repository, None, 2).metrics["verified_backups"] == 2
    assert verified(repository, first).metrics["verified_backups"] == 1


def test_what_is_not_there_or_not_complete_is_an_error(repository: Repository) -> None:
    with pytest.raises(NotFoundError, match="backup 20200101T000000 doesn't exist"):
        verified(repository, "20200101T000000")
    catalog = catalog_of(repository)
    with pytest.raises(NotFoundError, match=r"there is no server 'other' below .*there are: main"):
        verify(Catalog(catalog.store, Layout("", "other")), "all", None, VerifyOptions())
    info = repository.info()
    info.status = "STARTED"
    catalog.save(info)
    with pytest.raises(OperationError, match=f"backup {info.backup_id} is STARTED, not DONE"):
        verified(repository, info.backup_id)
    assert verified(repository, "all").metrics["verified_backups"] == 1


def test_incremental_backups_are_verified_and_fall_with_their_parents(chain: Repository) -> None:
    first, parent, incremental = chain.ids
    whole = verified(chain)
    assert whole.level is Level.OK, whole.findings
    assert any("INCREMENTAL." in name for name in chain.files()), "the test must see such files"
    magic = (0xD3AE1F0D).to_bytes(4, "little")
    archive = next(path for path in chain.path(backup_id=incremental).glob("data*.tar") if magic in path.read_bytes())
    data = archive.read_bytes()
    flip(archive, data.index(magic))
    record_as_it_is(chain, incremental, archive)
    assert "not an incremental file" in bad(verified(chain, incremental))["archives"]
    archive.write_bytes(data)
    record_as_it_is(chain, incremental, archive)
    assert not bad(verified(chain, incremental))
    flip(chain.path("data.tar.zst", parent), 5000)
    found = bad(verified(chain, parent))
    assert f"can't be restored: {parent}, {incremental}; what can be restored: {first}" in found["restorable"]


class TestCommand:
    def run(self, repository: Repository, *arguments: str) -> Completed:
        command = [UMBRELLA, "verify", repository.url, "main", *arguments]
        return subprocess.run(command, env=command_environment(), capture_output=True, text=True, check=False)

    def test_damage_is_exit_1_in_text_and_json(self, repository: Repository) -> None:
        done = self.run(repository, "all")
        assert (done.returncode, done.stderr) == (0, "")
        flip(repository.path("data.tar", repository.ids[0]), 5000)
        done = self.run(repository, "all", "--format", "json")
        assert done.returncode == 1
        (server,) = json.loads(done.stdout)["servers"]
        assert (server["command"], server["level"], server["server"]) == ("verify", "critical", "main")
        assert server["metrics"]["broken_backups"] == 1
        assert self.run(repository, "all").stdout.startswith(f"verify of main at {repository.url}: FAILED")

    def test_options_that_make_no_sense_together(self, repository: Repository) -> None:
        assert self.run(repository, "all", "--newest", "2").returncode == 3
        assert self.run(repository, "--quick", "--wal").returncode == 3
