"""A sign of life of a backup that is being made: an object beside it, renewed again and again, and removed at the end.

``backup.info`` says STARTED both of a backup that runs and of one whose process was killed. The sign tells them apart.
Some credentials may create objects and not replace them. Their signs could never be renewed, and would make a running
backup look dead: so the first sign says nothing, and only one that has replaced it counts.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from barman_cloud import logs
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ObjectNotFoundError
from barman_cloud.store.base import ObjectStore, Tags

log = logs.get_logger(__name__)

FIRST = 10.0
"""Seconds until the first sign: a backup that is done by then needs none."""
INTERVAL = 60.0
"""Seconds between two signs."""
SILENCE = timedelta(hours=1)
"""After so long without a sign nobody makes the backup any more. A store that is out of reach ends it much earlier."""
MAX_SIZE = 4096
_PATIENCE = 5.0


class Heartbeat:
    """Gives signs of life from :meth:`start` to :meth:`stop`, in a thread. None of its troubles disturb the backup."""

    def __init__(
        self, store: ObjectStore, layout: Layout, backup_id: str, tags: Tags | None = None, first: float = FIRST
    ) -> None:
        self._store = store
        self._key = layout.heartbeat(backup_id)
        self._tags = tags
        self._first = first
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, once ``backup.info`` says STARTED."""
        self._thread.start()

    def stop(self) -> None:
        """Remove the sign; a store that doesn't answer isn't waited for. May be called without :meth:`start`."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        if self._ended.wait(self._first):
            return
        try:
            self._put(None)
            while not self._ended.is_set():
                self._put(datetime.now(UTC))
                self._ended.wait(INTERVAL)
        except Exception as error:  # noqa: BLE001 - the backup matters, its signs of life don't
            log.info("the backup gives no more signs of life: %s", error)
        self._ended.wait()
        try:
            self._store.delete([self._key])
        except Exception as error:  # noqa: BLE001 - it is small, and is deleted with the backup
            log.info("%s stays: %s", self._store.object_url(self._key), error)

    def _put(self, moment: datetime | None) -> None:
        sign = {"host": socket.gethostname(), "pid": os.getpid(), "renewed": moment.isoformat() if moment else None}
        self._store.put(self._key, json.dumps(sign).encode() + b"\n", tags=self._tags)


@dataclass(frozen=True, slots=True)
class Sign:
    """The last sign of life of a backup."""

    host: str
    pid: int
    renewed: datetime
    """By the clock of that host or of the store, whichever is later."""

    def is_alive(self, now: datetime) -> bool:
        return now - self.renewed <= SILENCE

    def describe(self) -> str:
        return f"process {self.pid} on {self.host}"


def read_sign(store: ObjectStore, layout: Layout, backup_id: str) -> Sign | None:
    """Return the last sign of life; None if there is none that counts, such as of a backup that Barman makes."""
    key = layout.heartbeat(backup_id)
    try:
        found = json.loads(store.get(key, limit=MAX_SIZE))
        renewed = datetime.fromisoformat(found["renewed"])
        sign = Sign(str(found["host"]), int(found["pid"]), renewed if renewed.tzinfo else renewed.replace(tzinfo=UTC))
        stored = store.head(key).last_modified
    except ObjectNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Sign(sign.host, sign.pid, max(sign.renewed, stored) if stored else sign.renewed)
