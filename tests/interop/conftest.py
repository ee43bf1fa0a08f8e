"""One PostgreSQL and one S3 server that real Barman and our commands share."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.installations import Installation
from tests.support.peers import Commands
from tests.support.ports import tail
from tests.support.postgres import SUPERUSER, PostgresServer, adopt, server_directory
from tests.support.privileges import server_account
from tests.support.servers import StoreServer

SERVER_NAME = "main"


@dataclass
class Shop:
    """A cluster with some data and a tablespace, archived by our command into a bucket of its own."""

    server: PostgresServer
    store: StoreServer
    url: str

    @property
    def options(self) -> tuple[str, ...]:
        """Command line options that reach the store; both tools take them."""
        return self.store.options

    @property
    def environ(self) -> dict[str, str]:
        """Environment for both tools: the store's credentials and the connection to the server."""
        return {**self.store.environ, **self.server.client_environ}

    def fingerprint(self, server: PostgresServer) -> object:
        """Return what must be the same in every restored copy."""
        return server.query(
            "SELECT (SELECT sum(abalance)::text || count(*) FROM pgbench_accounts),"
            " (SELECT md5(string_agg(v, ',' ORDER BY n)) FROM elsewhere)"
        )

    def back_up(self, commands: Commands, name: str, compression: str | None, *more: str) -> str:
        """Take a backup with the commands of one side and return its id."""
        flags = [f"--{compression}"] if compression else []
        commands.run(
            "barman-cloud-backup",
            *(*flags, "--name", name, "--immediate-checkpoint", "--user", SUPERUSER, *self.options, *more),
            *(self.url, SERVER_NAME),
            environ=self.environ,
        )
        base = self.store.directory
        assert base is not None
        infos = (base / self.url.removeprefix("s3://") / SERVER_NAME / "base").glob("*/backup.info")
        return next(info.parent.name for info in infos if f"backup_name={name}\n" in info.read_text())

    def restore(self, commands: Commands, backup: str, directory: Path) -> PostgresServer:
        """Restore a backup and prepare its recovery with the commands of one side; return the server, not started."""
        server_directory(directory)
        target, tablespace = directory / "data", directory / "elsewhere"
        commands.run(
            "barman-cloud-restore",
            *("--tablespace", f"elsewhere:{tablespace}", *self.options),
            *(self.url, SERVER_NAME, backup, target),
            environ=self.environ,
        )
        restored = adopt(target, self.server.installation)
        restored.environ.update(self.environ)
        wal_restore = [commands.path("barman-cloud-wal-restore"), *self.options, self.url, SERVER_NAME, "%f", "%p"]
        restored.recover_with(" ".join(wal_restore))
        return restored


@pytest.fixture(scope="package")
def shop(postgres_installation: Installation, rclone_s3: StoreServer, ours: Commands) -> Iterator[Shop]:
    """The cluster that interoperability tests back up; they add backups and WAL but don't change its tables."""
    url = rclone_s3.new_bucket()
    directory = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
    server_account().own(directory)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        server = PostgresServer.create(directory, postgres_installation, environ=rclone_s3.environ)
        stack.enter_context(server)
        archive = [ours.path("barman-cloud-wal-archive"), "--gzip", *rclone_s3.options, url, SERVER_NAME, "%p"]
        server.archive_with(" ".join(archive))
        server.pgbench("-i", "-s", "1")
        server.create_tablespace("elsewhere")
        server.query(
            "CREATE TABLE elsewhere TABLESPACE elsewhere AS"
            " SELECT n, md5(n::text) AS v FROM generate_series(1, 20000) n"
        )
        yield Shop(server, rclone_s3, url)
        assert server.value("SELECT failed_count FROM pg_stat_archiver") == 0, tail(server.log, size=20_000)


@pytest.fixture
def directories() -> Iterator[Callable[[], Path]]:
    """A function that makes short temporary directories for restored clusters."""
    with contextlib.ExitStack() as stack:

        def make() -> Path:
            directory = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            return server_account().own(directory)

        yield make
