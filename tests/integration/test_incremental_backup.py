"""``barman-cloud-backup --incremental`` on real servers: chains of both methods, combined and compared."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.chains import combined
from tests.support.installations import Installation
from tests.support.postgres import PostgresServer
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
        option = f" STRATEGY {self._strategies.pop()}" if self._server.installation.major >= 15 else ""
        steps.append(do(f"CREATE DATABASE made{len(self._strategies)}{option}"))
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
            take("FFS", STREAM, "FF")
            take("FSF", FILES, "FS")
        server.wait_archived(server.switch_wal())
        chains = ["FFF", "FFS", "FSF"] if streams else ["FFF"]
        for chain in chains:
            ids = [parents[chain[: length + 1]] for length in range(len(chain))]
            with combined(repository, server, ids, server_dir / chain) as copy:
                assert workload.state(copy) == states[chain]
                if copy.installation.has("pg_amcheck"):
                    copy.run_tool("pg_amcheck", "--install-missing", "--heapallindexed", "postgres")
