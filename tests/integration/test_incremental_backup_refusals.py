"""Incremental backups: what is stored, and what is refused."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from barman_cloud.archive.manifest import ManifestReader
from tests.support.commands import run_command
from tests.support.installations import Installation
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, temporary_server_directory
from tests.support.repository import Completed, Repository

NewPostgres = Callable[..., PostgresServer]


FILES = ("--method", "files")


STREAM = ("--method", "stream")


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


def settings_for(installation: Installation) -> dict[str, str]:
    return {"summarize_wal": "on"} if installation.major >= 17 else {}


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


@pytest.fixture(scope="module")
def server(postgres_installation: Installation) -> Iterator[PostgresServer]:
    """A running server, shared by the tests of refusals."""
    settings = settings_for(postgres_installation)
    with (
        temporary_server_directory() as directory,
        PostgresServer.create(directory, postgres_installation, settings=settings) as server,
    ):
        yield server


@pytest.fixture
def based(server: PostgresServer, repository: Repository) -> Repository:
    """A store with a full backup of that server."""
    succeeded(repository.backup(server, "--name", "base"))
    return repository


def edit_info(repository: Repository, backup_id: str, **values: str) -> None:
    path = repository.path("backup.info", backup_id)
    text = path.read_text()
    for key, value in values.items():
        text = re.sub(rf"(?m)^{key}=.*$", f"{key}={value}", text)
    path.write_text(text)


def summarizer_of(server: PostgresServer) -> int:
    query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsummarizer'"
    wait_for(lambda: server.query(query), what="the summarizer to start")
    return int(server.value(query))


class TestStoredObjects:
    def test_backup_info_manifest_and_label(self, server: PostgresServer, based: Repository) -> None:
        (full,) = based.ids
        assert based.path("backup_manifest").read_bytes() == based.files()["backup_manifest"]
        begin = based.info(full).begin_xlog
        succeeded(based.backup(server, "--incremental", "last"))
        child = based.info()
        assert (child.parent_backup_id, child.children_backup_ids, child.status) == (full, None, "DONE")
        assert child.size == child.deduplicated_size == sum(based.path(name).stat().st_size for name in based.archives)
        assert child.size < sum(archive.stat().st_size for archive in based.path("", full).glob("*.tar")) / 2
        parent = based.info(full)
        assert (parent.children_backup_ids, parent.size, parent.status) == ([child.backup_id], None, "DONE")
        files = based.files()
        label = files["backup_label"].decode()
        assert label == child.backup_label
        assert label.endswith(f"INCREMENTAL FROM LSN: {begin}\nINCREMENTAL FROM TLI: 1\n")
        assert files["backup_manifest"].startswith(b'{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier"')
        assert based.path("backup_manifest").read_bytes() == files["backup_manifest"]
        listed = {file.path for file in ManifestReader([files["backup_manifest"]])}
        assert listed == files.keys() - {"backup_manifest"}
        assert {"global/INCREMENTAL.1262", "global/pg_control", "PG_VERSION"} <= listed

    @pytest.mark.parametrize("method", [FILES, STREAM])
    def test_a_parent_without_the_object_lends_the_manifest_of_its_archive(
        self, server: PostgresServer, based: Repository, method: tuple[str, ...]
    ) -> None:
        if method is STREAM and server.installation.major < 17:
            pytest.skip("streamed increments need PostgreSQL 17")
        based.path("backup_manifest").unlink()
        succeeded(based.backup(server, *method, "--incremental", "last-full"))
        assert based.info().parent_backup_id == based.ids[0]


class TestRefusals:
    def test_words_that_find_no_parent(self, server: PostgresServer, repository: Repository) -> None:
        refused(repository.backup(server, "--incremental", "last"), "'last' matches nothing", "fallback-full", 4)
        refused(repository.backup(server, "--incremental", "x"), "no backup is named 'x'", "fallback-full", 4)
        refused(repository.backup(server, "--incremental", "20200101T000000"), "doesn't exist", "fallback-full")
        refused(repository.backup(server, "--incremental", "auto"), "'auto' can't be a parent", "last-full", 4)
        assert repository.ids == []

    def test_options_that_go_with_it(self, server: PostgresServer, repository: Repository) -> None:
        for option in (["--fallback-full"], ["--summary-timeout", "5"]):
            done = repository.backup(server, *option)
            assert (done.returncode, "no effect without --incremental" in done.stderr) == (4, True)
        done = repository.backup(server, *STREAM, "--incremental", "last", "--summary-timeout", "5")
        assert (done.returncode, "no effect with --method stream" in done.stderr) == (4, True)

    def test_a_parent_that_is_none(self, server: PostgresServer, based: Repository) -> None:
        (full,) = based.ids
        identifier = based.info().systemid
        edit_info(based, full, systemid="7")
        refused(based.backup(server, "--incremental", "base"), "cluster 7, this server of cluster", "take a full")
        edit_info(based, full, systemid=str(identifier))
        manifest = based.path("backup_manifest")
        manifest.write_bytes(manifest.read_bytes()[:-10])
        refused(based.backup(server, "--incremental", "base"), "fails its own checksum", "fallback-full", 4)
        edit_info(based, full, status="FAILED")
        refused(based.backup(server, "--incremental", "base"), "it is FAILED, not DONE", "fallback-full", 4)
        assert based.ids == [full]
        done = succeeded(based.backup(server, "--incremental", "base", "--fallback-full"))
        assert "WARNING: a full backup is taken instead of an incremental one: backup " in done.stderr
        assert based.info().parent_backup_id is None
        assert "INCREMENTAL" not in str(based.info().backup_label)

    def test_what_the_server_itself_refuses(self, server: PostgresServer, based: Repository) -> None:
        if server.installation.major < 17:
            pytest.skip("streamed increments need PostgreSQL 17")
        manifest = based.path("backup_manifest")
        text, _, _ = manifest.read_bytes().rpartition(b'"Manifest-Checksum"')
        text = text.replace(str(based.info().systemid).encode(), b"7")
        checksum = hashlib.sha256(text).hexdigest().encode()
        manifest.write_bytes(text + b'"Manifest-Checksum": "' + checksum + b'"}\n')
        arguments = (*STREAM, "--incremental", "last")
        refused(based.backup(server, *arguments), "system identifier", "fallback-full")
        edit_info(based, based.ids[-1], status="FAILED")
        done = succeeded(based.backup(server, *STREAM, "--incremental", based.ids[0], "--fallback-full"))
        assert "WARNING: a full backup is taken instead of an incremental one: PostgreSQL refused" in done.stderr
        assert (based.info().status, based.info().parent_backup_id) == ("DONE", None)
        assert not any("INCREMENTAL" in name for name in based.files())

    @pytest.mark.parametrize("method", [FILES, STREAM])
    def test_a_server_without_summaries(
        self, server: PostgresServer, based: Repository, method: tuple[str, ...]
    ) -> None:
        if server.installation.major < 17:
            pytest.skip("there are WAL summaries since PostgreSQL 17")
        arguments = (*method, "--incremental", "last")
        server.configure(summarize_wal="off")
        try:
            refused(based.backup(server, *arguments), "summarize_wal is off", "summarize_wal = on")
        finally:
            server.configure(summarize_wal="on")
        server.switch_wal()
        server.query("CHECKPOINT")
        begin = based.info().begin_xlog
        covering = "SELECT count(*) FROM pg_available_wal_summaries() WHERE end_lsn > %s::pg_lsn"
        wait_for(lambda: server.value(covering, (begin,)) > 0, what="WAL summaries")
        for file in (server.data / "pg_wal" / "summaries").iterdir():
            file.unlink(missing_ok=True)  # one that is being written is renamed
        server.query("CREATE TABLE IF NOT EXISTS something AS SELECT 1 AS a")
        server.query("CHECKPOINT")
        wait_for(lambda: server.value(covering, (begin,)) > 0, what="another WAL summary")
        refused(based.backup(server, *arguments), "WAL summaries", "wal_summary_keep_time")
        done = succeeded(based.backup(server, *arguments, "--fallback-full"))
        assert "WARNING: a full backup is taken instead of an incremental one" in done.stderr
        assert based.info().parent_backup_id is None

    def test_a_summarizer_that_makes_no_progress_is_not_waited_for_without_end(
        self, new_postgres: NewPostgres, postgres_installation: Installation, repository: Repository
    ) -> None:
        if postgres_installation.major < 17:
            pytest.skip("there are WAL summaries since PostgreSQL 17")
        server = new_postgres(settings=settings_for(postgres_installation))
        succeeded(repository.backup(server))
        summarizer = summarizer_of(server)
        os.kill(summarizer, signal.SIGSTOP)
        try:
            arguments = ("--incremental", "last", "--summary-timeout", "1")
            refused(repository.backup(server, *arguments), "after 1 seconds .*no WAL summaries", "--summary-timeout")
            assert (repository.info().status, len(repository.ids)) == ("FAILED", 2)
            succeeded(repository.backup(server, *arguments, "--fallback-full"))
            assert (repository.info().status, repository.info().parent_backup_id) == ("DONE", None)
        finally:
            os.kill(summarizer, signal.SIGCONT)

    def test_a_parent_that_is_deleted_meanwhile(
        self, new_postgres: NewPostgres, postgres_installation: Installation, repository: Repository
    ) -> None:
        if postgres_installation.major < 17:
            pytest.skip("there are WAL summaries since PostgreSQL 17, and without them nothing to wait for")
        server = new_postgres(settings=settings_for(postgres_installation))
        succeeded(repository.backup(server))
        (full,) = repository.ids
        summarizer = summarizer_of(server)
        os.kill(summarizer, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(repository.backup, server, "--incremental", "last")
                wait_for(
                    lambda: len(repository.ids) == 2 and repository.path("backup.info").exists(),
                    what="the backup's begin",
                )
                done = run_command("backup-delete", "-b", full, repository.url, "main")
                assert f"incremental backups build on it: {repository.ids[1]}" in done.stderr
                repository.path("backup.info", full).unlink()
                os.kill(summarizer, signal.SIGCONT)
                refused(running.result(), f"its parent {full} was deleted while it was made", "take another backup")
        finally:
            os.kill(summarizer, signal.SIGCONT)
        assert repository.info().status == "FAILED"
        assert not repository.path("backup.info", full).exists()

    def test_older_servers_must_log_hint_bits(
        self, new_postgres: NewPostgres, postgres_installation: Installation, repository: Repository
    ) -> None:
        if postgres_installation.major >= 17:
            pytest.skip("from PostgreSQL 17 on WAL summaries tell what changed")
        server = new_postgres(initdb=())
        succeeded(repository.backup(server))
        arguments = ("--incremental", "last")
        refused(repository.backup(server, *arguments), "wal_log_hints is off", "wal_log_hints = on")
        refused(repository.backup(server, *STREAM, *arguments), "doesn't stream incremental backups", "method files")
        server.configure(wal_log_hints="on")
        server.restart()
        refused(repository.backup(server, *arguments), "it isn't known whether wal_log_hints was on", "take a full")
        succeeded(repository.backup(server))
        succeeded(repository.backup(server, *arguments))
        assert repository.info().parent_backup_id == repository.ids[-2]
