"""wal-receive: what the server was told is safe, is safe, whatever became of the receiver."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from barman_cloud.errors import BarmanCloudError
from barman_cloud.postgres.wal import parse_lsn, parse_wal_name, segment_name
from tests.faults.harness.material import COMPARED, SERVER
from tests.faults.harness.process import Disturbance, Outcome, Runner
from tests.faults.harness.scenarios.base import Scenario, succeeded
from tests.support.commands import run_command
from tests.support.ports import wait_for
from tests.support.receivers import stored_wal

SEGMENT = 16 << 20
PARTIAL = ".partial"


class Receiving(Scenario):
    """WAL is received into a spool and stored. What the slot says was taken is in the archive or in the spool."""

    name = "wal-receive"
    codes = frozenset({0, 1, 2, 4})
    """0 too: it waits for a store or a server that stays away until it is told to end."""
    mode: ClassVar[tuple[str, ...]] = ()
    PATIENCE: ClassVar[float] = 20.0
    """Seconds in which all is stored, as long as nothing is wrong."""

    def prepare(self) -> None:
        self.slot = f"torture_{self.place.root.name.replace('-', '_')}"
        server = self.material.server
        server.query("SELECT pg_create_physical_replication_slot(%s, true)", [self.slot])
        self.reserved = self._acknowledged()
        self.begin = self.reserved // SEGMENT * SEGMENT
        self.last = ""

    @property
    def spool(self) -> Path:
        return self.place.root / "spool"

    def command(self) -> list[str]:
        how = self.mode or ("--spool-dir", str(self.spool))
        server = ("--dbname", self.material.server.conninfo, "--slot", self.slot)
        return ["wal-receive", *how, *server, "--lz4", *self.place.options, self.place.url, SERVER]

    def disturbed(self, disturbance: Disturbance | None, **arguments: object) -> Outcome:
        """Run it while WAL is written, and end it by a signal when all is stored, or it takes too long."""
        return self._run(self.runner, disturbance, **arguments)

    def again(self) -> Outcome:
        return self._run(self.runner, None)

    def events(self, process: str) -> list[str]:
        runner, trace = self.runner.traced(process)
        self._run(runner, None)
        return trace()

    def _run(self, runner: Runner, disturbance: Disturbance | None, **arguments: object) -> Outcome:
        runner.process = None
        ended = threading.Event()
        driver = threading.Thread(target=self._drive, args=(runner, ended))
        driver.start()
        try:
            return runner.run(self.command(), disturbance, **arguments)  # type: ignore[arg-type]
        finally:
            ended.set()
            driver.join()

    def _drive(self, runner: Runner, ended: threading.Event) -> None:
        server = self.material.server
        for _ in range(2):
            server.query("CREATE TABLE received AS SELECT md5(n::text) FROM generate_series(1, 5000) n")
            server.query("DROP TABLE received")
            self.last = server.switch_wal()
        until = time.monotonic() + self.PATIENCE
        while not ended.is_set() and time.monotonic() < until and self.last not in self._stored():
            time.sleep(0.2)
        while not ended.is_set():
            with suppress(ProcessLookupError):
                runner.send(signal.SIGTERM)
            ended.wait(20)

    def _stored(self) -> dict[str, bytes]:
        with suppress(BarmanCloudError), self.place.store() as store:
            return stored_wal(store)
        return {}

    def _acknowledged(self) -> int:
        query = "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
        return parse_lsn(str(self.material.server.value(query, [self.slot])))

    def _free(self) -> None:
        query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active"
        wait_for(lambda: not self.material.server.query(query, [self.slot]), what="the slot to be free")

    def after(self, outcome: Outcome) -> Iterator[str]:
        self._free()
        end = self._acknowledged()
        stored = self._stored()
        yield from self._whole(stored)
        if end <= self.reserved:
            return  # nothing was acknowledged
        for begin in range(self.begin, end, SEGMENT):
            name = segment_name(1, begin, SEGMENT)
            length = min(SEGMENT, end - begin)
            expected = self._written(name)[:length]
            if not any(copy[:length] == expected for copy in self._copies(name, stored)):
                yield f"{length} bytes of {name} were acknowledged and are nowhere"

    def _whole(self, stored: dict[str, bytes]) -> Iterator[str]:
        for name, content in stored.items():
            COMPARED["bytes"] += len(content)
            wal = parse_wal_name(name)
            if wal is not None and len(name) == 24 and content != self._written(name):
                yield f"the archive holds a wrong {name}"

    def _copies(self, name: str, stored: dict[str, bytes]) -> Iterator[bytes]:
        """Yield what there is of a segment."""
        yield from (content for key, content in stored.items() if key[:24] == name)
        for path in self.spool.rglob(f"{name}*"):
            yield path.read_bytes()

    def _written(self, name: str) -> bytes:
        return (self.material.server.data / "pg_wal" / name).read_bytes()

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        stored = self._stored()
        yield from self._whole(stored)
        last = parse_wal_name(self.last)
        assert last is not None
        for begin in range(self.begin, last.start_lsn(SEGMENT) + 1, SEGMENT):
            if (name := segment_name(1, begin, SEGMENT)) not in stored:
                yield f"{name} isn't in the archive"

    def close(self) -> None:
        with suppress(TimeoutError):
            self._free()
        self.material.server.query(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [self.slot]
        )


class ReceivingDirectly(Receiving):
    """The same without a disk: what was acknowledged is in the bucket, and wal-restore puts it together."""

    name = "wal-receive-direct"
    mode = ("--mode", "direct")

    def _copies(self, name: str, stored: dict[str, bytes]) -> Iterator[bytes]:
        target = self.place.root / "RECOVERYXLOG"
        done = run_command("wal-restore", self.place.url, SERVER, name, target, environ=dict(self.place.environ))
        if done.returncode == 0:
            yield target.read_bytes()
            target.unlink()
