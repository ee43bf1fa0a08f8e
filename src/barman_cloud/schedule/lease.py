"""Leases in the bucket: one owner of a job at a time, on however many hosts.

A lease is the object of the highest number below ``maintenance/leases/<name>/``. It names its owner and when it ends.
Whoever finds it ended creates the next number, which the store lets only one do (conditional create). An owner that was
slow finds a higher number when it renews or checks, and stops: the number is its fencing token. Where a store has no
conditional create, two hosts could both believe to be the owner; :attr:`Lease.exclusive` is False then.

Hosts compare the end of a lease with their own clocks, so these may differ by no more than :data:`SKEW`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from barman_cloud import logs
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ConflictError, IntegrityError, ObjectExistsError, ObjectNotFoundError
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

SKEW = timedelta(minutes=1)
"""How far the clocks of two hosts may differ."""

_NUMBER_DIGITS = 12
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class LeaseHeldError(ConflictError):
    """Somebody else owns the lease."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that can own leases."""

    host: str
    boot: str
    """Where its number means something: start of the machine and process namespace; empty where that isn't known."""
    pid: int
    started: int
    """When the process started, in ticks since the machine did: tells a process from a later one of the same number."""

    @classmethod
    def this_process(cls) -> Owner:
        return cls(socket.gethostname(), _boot_id(), os.getpid(), _start_of(os.getpid()))

    def is_gone(self) -> bool:
        """Whether the owner has surely ended: only processes of this machine can be told."""
        here = Owner.this_process()
        if self.host != here.host or not self.boot or not here.boot:
            return False
        return self.boot != here.boot or _start_of(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class Holding:
    """What a lease's object says."""

    number: int
    owner: Owner
    until: datetime

    def ended(self, now: datetime) -> bool:
        return now > self.until + SKEW or self.owner.is_gone()


class Lease:
    """A lease that this process owns, until :attr:`until`. :meth:`renew` it in time, :meth:`release` it at the end."""

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        name: str,
        holding: Holding,
        duration: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._layout = layout
        self._duration = duration
        self._clock = clock
        self._name = name
        self._holding = holding
        self.exclusive = store.capabilities.conditional_create
        """Whether the store lets only one create a number; False: only this host's own locks tell owners apart."""

    @property
    def number(self) -> int:
        """The fencing number: higher than that of every earlier owner."""
        return self._holding.number

    @property
    def until(self) -> datetime:
        return self._holding.until

    def renew(self) -> None:
        """Own it for the full duration from now on; ``LeaseHeldError`` if somebody took it over meanwhile."""
        self.check()
        self._holding = Holding(self.number, self._holding.owner, self._clock() + self._duration)
        self._store.put(_key(self._layout, self._name, self.number), _dump(self._holding))
        self.check()  # who took it over between the two looks did so before our new end could be seen

    def check(self) -> None:
        """Raise ``LeaseHeldError`` if somebody else took it over."""
        current = read(self._store, self._layout, self._name)
        if current is not None and current.number > self.number:
            raise LeaseHeldError(f"the lease {self._name} was taken over by {current.owner}")

    def release(self) -> None:
        """Give it back at once; harmless if it was lost."""
        ended = Holding(self.number, self._holding.owner, self._clock() - SKEW - timedelta(seconds=1))
        self._store.put(_key(self._layout, self._name, self.number), _dump(ended))

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


def acquire(
    store: ObjectStore,
    layout: Layout,
    name: str,
    duration: timedelta,
    *,
    owner: Owner | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Lease:
    """Own the lease ``name`` for ``duration``; ``LeaseHeldError`` names the owner if there is one."""
    current = read(store, layout, name)
    if current is not None and not current.ended(clock()):
        raise LeaseHeldError(
            f"{current.owner} does this ({name}) for server {layout.server} until {current.until:%Y-%m-%d %H:%M:%S}Z",
            hint="wait until it has ended; a lease whose owner is gone ends by itself",
        )
    number = current.number + 1 if current else 1
    holding = Holding(number, owner or Owner.this_process(), clock() + duration)
    try:
        store.put(_key(layout, name, number), _dump(holding), if_absent=True)
    except ObjectExistsError:
        found = read(store, layout, name)
        if found is None or found.number != number or found.owner != holding.owner:
            raise LeaseHeldError(
                f"another process took the lease {name} of server {layout.server} at the same moment"
            ) from None
    if current is not None:
        log.info("took over the lease %s from %s", name, current.owner)
        store.delete(_key(layout, name, old) for old in range(max(1, number - 8), number))
    return Lease(store, layout, name, holding, duration, clock)


def read(store: ObjectStore, layout: Layout, name: str) -> Holding | None:
    """Return who owns a lease, or owned it last; None if nobody ever did."""
    folder = _folder(layout, name)
    for _ in range(3):
        numbers = [item.key.removeprefix(folder) for item in store.list(folder)]
        known = sorted(int(text) for text in numbers if text.isdecimal())
        if not known:
            return None
        try:
            return _parse(store.get(_key(layout, name, known[-1])), known[-1], store.object_url(folder))
        except ObjectNotFoundError:
            continue  # it was taken over and removed between the two requests
    raise ConflictError(f"the lease {name} of server {layout.server} changes all the time", hint="try again")


def _folder(layout: Layout, name: str) -> str:
    return f"{layout.maintenance_dir}leases/{name}/"


def _key(layout: Layout, name: str, number: int) -> str:
    return f"{_folder(layout, name)}{number:0{_NUMBER_DIGITS}d}"


def _dump(holding: Holding) -> bytes:
    return json.dumps({"owner": asdict(holding.owner), "until": holding.until.isoformat()}).encode()


def _parse(data: bytes, number: int, where: str) -> Holding:
    try:
        document = json.loads(data)
        return Holding(number, Owner(**document["owner"]), datetime.fromisoformat(document["until"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise IntegrityError(f"{where}: not a lease ({error!r})", hint="delete the object if nothing runs") from None


def _boot_id() -> str:
    try:
        # Containers of one machine can share its name, but not the numbers of its processes.
        namespace = str(Path("/proc/self/ns/pid").readlink())
        with open(_BOOT_ID, encoding="ascii") as file:
            return f"{file.read().strip()} {namespace}"
    except OSError:
        return ""


def _start_of(pid: int) -> int:
    """Return the start time of a process in ticks (proc(5), field 22), 0 if there is none.

    A dead one that its parent hasn't collected is none: in a container it may never be.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0
