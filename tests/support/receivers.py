"""``barman-cloud wal-receive`` as a process, for tests that talk to it by signals and look at what it stores."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ObjectNotFoundError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from tests.support.commands import program
from tests.support.ports import end
from tests.support.postgres import PostgresServer, command_environment

LAYOUT = Layout("", "main")


class Receiver:
    """A running receiver; as a context it is killed at the end, if it still runs."""

    def __init__(
        self,
        server: PostgresServer,
        directory: Path,
        *arguments: str,
        url: str | None = None,
        environ: Mapping[str, str] | None = None,
        conninfo: str | None = None,
        direct: bool = False,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self._relayed = conninfo is not None and conninfo != server.conninfo
        self.store_directory = directory / "store"
        self.store_directory.mkdir(exist_ok=True)
        self.spool = directory / "spool"
        self.log = directory / "receiver.log"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    program("wal-receive").replace("barman-cloud-wal-receive", "barman-cloud"), "wal-receive", "-v",
                    url or f"file://{self.store_directory}", "main", "--dbname", conninfo or server.conninfo,
                    *(("--mode", "direct") if direct else ("--spool-dir", str(self.spool))), *arguments,
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=command_environment(environ),
            )  # fmt: skip

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_exc: object) -> None:
        end(self.process)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def stop(self, timeout: float = 120.0) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def spooled(self) -> list[str]:
        """Names of WAL files in the spool."""
        return sorted(path.name for path in self.spool.glob("receive-*/0*"))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def streams_from(self, server: PostgresServer) -> bool:
        """Whether it streams now: a receiver that has just ended may still be in the server's list."""
        assert self.process.poll() is None, self.said
        rows = server.query(
            "SELECT client_port FROM pg_stat_replication"
            " WHERE application_name = 'barman_cloud_receive' AND state = 'streaming'"
        )
        if self._relayed:
            return rows != []
        own = {found.laddr.port for found in psutil.Process(self.process.pid).net_connections() if found.laddr}
        return any(port in own for (port,) in rows)


def stored_wal(store: ObjectStore | Path) -> dict[str, bytes]:
    """Return every WAL file of server ``main`` in a store (or in the directory of one), decompressed, by its name."""
    opened = _opened(store)
    found = {}
    for name, key in _stored_keys(opened):
        with contextlib.suppress(ObjectNotFoundError):  # a partial copy goes when there is a better one
            found[name] = b"".join(map(bytes, decompress_stream([opened.get(key)], compression_of(key))))
    return found


def stored_names(store: ObjectStore | Path) -> list[str]:
    """Return the names of what is stored, without reading it."""
    return [name for name, _ in _stored_keys(_opened(store))]


def _opened(store: ObjectStore | Path) -> ObjectStore:
    return open_store(f"file://{store}") if isinstance(store, Path) else store


def _stored_keys(store: ObjectStore) -> Iterator[tuple[str, str]]:
    for item in store.list(LAYOUT.wals_dir):
        wal = LAYOUT.parse_wal_key(item.key)
        assert wal is not None, item.key
        yield wal.name, item.key
