"""``barman-cloud wal-receive`` as a process, for tests that talk to it by signals and look at what it stores."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.catalog.layout import Layout
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

    def stop(self, timeout: float = 60.0) -> int:
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


def stored_wal(store: ObjectStore | Path) -> dict[str, bytes]:
    """Return every WAL file of server ``main`` in a store (or in the directory of one), decompressed, by its name."""
    opened = open_store(f"file://{store}") if isinstance(store, Path) else store
    found = {}
    for item in opened.list(LAYOUT.wals_dir):
        wal = LAYOUT.parse_wal_key(item.key)
        assert wal is not None, item.key
        found[wal.name] = b"".join(map(bytes, decompress_stream([opened.get(item.key)], compression_of(item.key))))
    return found
