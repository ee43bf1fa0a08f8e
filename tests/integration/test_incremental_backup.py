"""``barman-cloud-backup --incremental`` on real servers: chains of both methods, combined and compared."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.chains import combined
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
    @pytest.mark.long
    @pytest.mark.parametrize("seed", [1])
    def test_each_method_and_mixed_ones_on_a_busy_schema(
        self,
        new_postgres: NewPostgres,
        postgres_installation: Installation,
        repository: Repository,
        server_dir: Path,
        seed: int,
    ) -> None:
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

    @pytest.mark.long
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
            env=command_environment(server.client_environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
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

    @pytest.mark.long
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
