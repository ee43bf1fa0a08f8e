"""What the receiver of a server last said of itself: ``maintenance/wal-receive.json``, written every half minute.

Whoever has the bucket can read it: ``check``, ``status``, a backup that wants to know how WAL gets into the archive.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta

from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import IntegrityError, ObjectNotFoundError
from barman_cloud.store.base import ObjectStore

INTERVAL = 30.0
"""Seconds between two writings."""
SILENT = timedelta(minutes=5)
"""After so long without a word a receiver is taken for dead; clocks may differ by a part of it."""
_LARGEST = 64 << 10
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """A receiver at :attr:`time`. LSNs are int and 0 if not known, sizes are bytes."""

    time: datetime
    started: datetime
    mode: str
    """``spool`` or ``direct``."""
    host: str
    pid: int
    application_name: str
    """By this it is known in ``pg_stat_replication`` and ``synchronous_standby_names``."""
    slot: str | None = None
    running: bool = True
    """False: it has ended, as its last word."""
    connected: bool = False
    timeline: int = 0
    server_lsn: int = 0
    """How far the server has written, as it said last."""
    received_lsn: int = 0
    flushed_lsn: int = 0
    """How far it was acknowledged: is in the spool, or in the bucket."""
    waiting_bytes: int = 0
    """What isn't in the bucket yet: of the spool, or of memory."""
    waiting_limit: int = 0
    """From where on nothing more is taken from the server."""
    problem: str | None = None
    """What is in the way now, or why it ended; one line."""

    @property
    def lag_bytes(self) -> int:
        """What the server has and isn't acknowledged."""
        return max(0, self.server_lsn - self.flushed_lsn)

    def is_alive(self, now: datetime) -> bool:
        """Tell whether it runs, as far as can be told from here."""
        return self.running and now - self.time < SILENT

    def to_json(self) -> dict[str, object]:
        """Return the object's content; times in ISO 8601."""
        return {"version": _VERSION, **asdict(self), "time": self.time.isoformat(), "started": self.started.isoformat()}


def write(store: ObjectStore, layout: Layout, state: ReceiverState) -> None:
    """Replace what was said before."""
    store.put(key(layout), json.dumps(state.to_json()).encode())


def read(store: ObjectStore, layout: Layout) -> ReceiverState | None:
    """Return what was said last; None if no receiver ever ran. ``IntegrityError`` if it can't be understood."""
    try:
        content = store.get(key(layout), limit=_LARGEST)
    except ObjectNotFoundError:
        return None
    return parse(content, store.object_url(key(layout)))


def parse(content: bytes, where: str) -> ReceiverState:
    """Return what the content of the object ``where`` says; keys that aren't known are passed over."""
    try:
        document = json.loads(content)
        known = {field.name: document[field.name] for field in fields(ReceiverState) if field.name in document}
        for name in ("time", "started"):
            moment = datetime.fromisoformat(known[name])
            known[name] = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        state = ReceiverState(**known)
        _require_types(state)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise IntegrityError(
            f"{where} isn't understood ({error!r})",
            hint="delete the object: a receiver that runs writes it again",
        ) from None
    return state


_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "bool": bool,
    "str": str,
    "str | None": (str, type(None)),
    "datetime": datetime,
}


def _require_types(state: ReceiverState) -> None:
    for field in fields(ReceiverState):
        value = getattr(state, field.name)
        if not isinstance(value, _TYPES[str(field.type)]):
            raise TypeError(field.name)
        if isinstance(value, int) and not 0 <= value < 1 << 64:
            raise ValueError(field.name)


def key(layout: Layout) -> str:
    """Return the key of the object."""
    return f"{layout.maintenance_dir}wal-receive.json"
