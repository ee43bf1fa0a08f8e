"""``barman-cloud-backup --incremental`` on real servers: chains of both methods, combined and compared."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from barman_cloud.archive.manifest import ManifestReader
from tests.support.chains import combined
from tests.support.commands import run_command
from tests.support.installations import Installation
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment, temporary_server_directory
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


class Workload:
    """Random changes of all kinds, and what the tables hold after them."""

    def __init__(self, server: PostgresServer, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._strategies = ["file_copy", "wal_log"]
        for name in ("grows", "shrinks", "rewritten", "emptied", "recreated", "moved"):
            self._create(name)
        server.query("CREATE TABLE there (a int, b text) TABLESPACE fast")
        server.query("INSERT INTO there SELECT g, 'new' FROM generate_series(1, 9000) g")
        server.query("CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 5000) AS a")
        server.query("CREATE SEQUENCE numbers")

    def _create(self, name: str) -> None:
        rows = self._random.randrange(4000, 9000)
        self._server.query(
            f"CREATE TABLE {name} AS SELECT g AS a, md5(g::text || {self._random.random()}) AS b"
            f" FROM generate_series(1, {rows}) g"
        )
        self._server.query(f"ALTER TABLE {name} ADD PRIMARY KEY (a)")

    def run(self) -> None:
        """Do one of everything, in random order, with random figures."""
        draw = self._random
        low, high = draw.randrange(1, 2000), draw.randrange(2000, 9000)

        def do(*statements: str) -> Callable[[], object]:
            return lambda: [self._server.query(statement) for statement in statements]

        steps = [
            do(f"INSERT INTO grows SELECT max(a) + g, 'more' FROM grows, generate_series(1, {high}) g GROUP BY g"),
            do(
                f"DELETE FROM shrinks WHERE a > {low}",
                "VACUUM shrinks",
                f"INSERT INTO shrinks SELECT g, 'again' FROM generate_series({low} + 1, {high}) g",
            ),
            do(f"UPDATE rewritten SET b = 'x' WHERE a % {low} = 0", "VACUUM FULL rewritten"),
            do("TRUNCATE emptied", f"INSERT INTO emptied SELECT g, 'new' FROM generate_series(1, {low}) g"),
            lambda: (self._server.query("DROP TABLE recreated"), self._create("recreated")),
            do(f"UPDATE grows SET b = 'changed' WHERE a BETWEEN {low} AND {low + 200}"),
            do("SELECT nextval('numbers') FROM generate_series(1, 100)"),
            do("INSERT INTO unlogged SELECT generate_series(1, 100)"),
            do(
                f"ALTER TABLE moved SET TABLESPACE {draw.choice(['fast', 'pg_default'])}",
                f"DELETE FROM moved WHERE a % {low} = 1",
                "VACUUM moved",
            ),
            do(f"UPDATE there SET b = 'changed' WHERE a % {low} = 2"),
        ]
        strategy = self._strategies.pop()
        option = f" STRATEGY {strategy}" if self._server.installation.major >= 15 else ""
        steps.append(do(f"CREATE DATABASE by_{strategy}{option}"))
        draw.shuffle(steps)
        for step in steps:
            step()

    def state(self, server: PostgresServer) -> dict[str, object]:
        """What a server holds: this one or a copy of it."""
        tables = ("grows", "shrinks", "rewritten", "emptied", "recreated", "moved", "there")
        found: dict[str, object] = {
            name: server.query(f"SELECT count(*), md5(string_agg(a || b, ',' ORDER BY a)) FROM {name}")
            for name in tables
        }
        found["databases"] = server.query("SELECT datname FROM pg_database ORDER BY 1")
        for (name,) in server.query("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1"):
            with server.connect(str(name)) as connection:
                found[f"classes of {name}"] = connection.execute(
                    "SELECT count(*), sum(length(relname)) FROM pg_class"
                ).fetchall()
        return found


class TestChains:
    @pytest.mark.parametrize("seed", [1])
    def test_each_method_and_mixed_ones_on_a_busy_schema(
        self, new_postgres: NewPostgres, postgres_installation: Installation, repository: Repository,
        server_dir: Path, seed: int,
    ) -> None:  # fmt: skip
        server = new_postgres(settings=settings_for(postgres_installation))
        repository.archive_from(server)
        server.create_tablespace("fast")
        workload = Workload(server, seed)
        parents: dict[str, str] = {}
        states: dict[str, dict[str, object]] = {}

        def take(name: str, method: tuple[str, ...], parent: str | None) -> None:
            arguments = ["--incremental", parents[parent]] if parent else []
            done = succeeded(repository.backup(server, *method, "--name", name, *arguments))
            assert "WARNING" not in done.stderr, done.stderr
            parents[name] = repository.ids[-1]
            states[name] = workload.state(server)
            assert repository.info().parent_backup_id == (parents[parent] if parent else None)

        streams = postgres_installation.major >= 17
        take("F", FILES, None)
        workload.run()
        take("FF", FILES, "F")
        if streams:
            take("FS", STREAM, "F")
        workload.run()
        take("FFF", FILES, "FF")
        if streams:
            take("FSF", FILES, "FS")
        server.wait_archived(server.switch_wal())
        chains = ["FFF", "FSF"] if streams else ["FFF"]
        for chain in chains:
            ids = [parents[chain[: length + 1]] for length in range(len(chain))]
            with combined(repository, server, ids, server_dir / chain) as copy:
                assert workload.state(copy) == states[chain]
                if copy.installation.has("pg_amcheck"):
                    copy.run_tool("pg_amcheck", "--install-missing", "--heapallindexed", "postgres")

    def test_while_the_server_works(
        self, new_postgres: NewPostgres, postgres_installation: Installation, repository: Repository, server_dir: Path
    ) -> None:
        server = new_postgres(settings=settings_for(postgres_installation))
        repository.archive_from(server)
        server.pgbench("-i", "-s", "2")
        succeeded(repository.backup(server))
        methods = [FILES, STREAM, FILES] if postgres_installation.major >= 17 else [FILES, FILES]
        load = subprocess.Popen(
            [server.installation.tool("pgbench"), "-n", "-T", "60", "-c", "2"],
            env=command_environment(server.client_environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for method in methods:
                server.query("TRUNCATE pgbench_history")
                succeeded(repository.backup(server, *method, "--lz4", "--incremental", "last"))
        finally:
            load.terminate()
            load.wait()
        server.wait_archived(server.switch_wal())
        with combined(repository, server, repository.ids, server_dir / "chain") as copy:
            assert copy.value("SELECT count(*) FROM pgbench_accounts") == 200_000
            sums = copy.query(
                "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),"
                " (SELECT sum(bbalance) FROM pgbench_branches)"
            )
            assert len(set(sums[0])) == 1
            if copy.installation.has("pg_amcheck"):
                copy.run_tool("pg_amcheck", "--install-missing", "--heapallindexed", "postgres")

    def test_from_a_standby_and_after_its_promotion(
        self, new_postgres: NewPostgres, postgres_installation: Installation, repository: Repository, server_dir: Path
    ) -> None:
        server = new_postgres(settings=settings_for(postgres_installation))
        repository.archive_from(server)
        server.query("CREATE TABLE t AS SELECT g AS a, 'old' AS b FROM generate_series(1, 20000) g")
        standby = server.standby(server_dir / "standby")
        try:
            succeeded(repository.backup(server, "--name", "full"))
            server.query("UPDATE t SET b = 'new' WHERE a < 100")
            server.query("CHECKPOINT")
            lsn = server.value("SELECT pg_current_wal_lsn()::text")
            wait_for(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,)), what="the standby")
            standby.query("CHECKPOINT")
            done = succeeded(repository.backup(standby, "--name", "standby", "--incremental", "full"))
            assert "full backup is taken instead" not in done.stderr
            server.wait_archived(server.switch_wal())
            server.stop()
            standby.promote()
            standby.query("UPDATE t SET b = 'promoted' WHERE a BETWEEN 500 AND 600")
            standby.archive_with(f"barman-cloud-wal-archive {repository.url} main %p")
            chains = [["full", "standby", "promoted"]]
            succeeded(repository.backup(standby, "--name", "promoted", "--incremental", "standby"))
            if postgres_installation.major >= 17:
                chains.append(["full", "streamed"])
                succeeded(repository.backup(standby, *STREAM, "--name", "streamed", "--incremental", "full"))
            standby.wait_archived(standby.switch_wal())
            ids = {repository.info(backup_id).backup_name: backup_id for backup_id in repository.ids}
            assert repository.info(ids["promoted"]).timeline == 2
            assert repository.info(ids["full"]).children_backup_ids is not None
            for chain in chains:
                with combined(repository, standby, [ids[name] for name in chain], server_dir / chain[-1]) as copy:
                    found = copy.query("SELECT b, count(*) FROM t GROUP BY b ORDER BY b")
                    assert found == [("new", 99), ("old", 19800), ("promoted", 101)]
        finally:
            standby.stop()


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
            file.unlink()
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
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsummarizer'"
        summarizer = int(server.value(query))
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
        summarizer = int(server.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsummarizer'"))
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
