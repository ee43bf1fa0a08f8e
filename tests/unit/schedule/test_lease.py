"""Leases: one owner at a time, whatever dies or races."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import IntegrityError
from barman_cloud.schedule.lease import SKEW, Lease, LeaseHeldError, Owner, acquire
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store

HOUR = timedelta(hours=1)
LAYOUT = Layout("prod", "main")
ELSEWHERE = Owner("another-host", "boot", 1, 1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 28, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(f"file://{tmp_path}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def take(store: ObjectStore, clock: Clock, owner: Owner = ELSEWHERE) -> Lease:
    return acquire(store, LAYOUT, "cron", HOUR, owner=owner, clock=clock)


def test_a_lease_has_one_owner(store: ObjectStore, clock: Clock) -> None:
    first = take(store, clock)
    with pytest.raises(LeaseHeldError, match=r"process 1 on another-host does this \(cron\) for server main"):
        take(store, clock, replace(ELSEWHERE, host="third"))
    first.release()
    assert take(store, clock).number == 2


def test_leases_of_other_names_and_servers_are_others(store: ObjectStore, clock: Clock) -> None:
    take(store, clock)
    acquire(store, LAYOUT, "receive-wal", HOUR, owner=ELSEWHERE, clock=clock)
    acquire(store, Layout("prod", "other"), "cron", HOUR, owner=ELSEWHERE, clock=clock)


def test_a_lease_of_a_lost_host_ends_by_itself(store: ObjectStore, clock: Clock) -> None:
    lost = take(store, clock)
    clock.now += HOUR + SKEW
    with pytest.raises(LeaseHeldError):
        take(store, clock, replace(ELSEWHERE, host="third"))
    clock.now += timedelta(seconds=1)
    successor = take(store, clock, replace(ELSEWHERE, host="third"))
    assert successor.number == 2
    with pytest.raises(LeaseHeldError, match="taken over by process 1 on third"):
        lost.renew()
    successor.renew()


def test_a_renewed_lease_goes_on(store: ObjectStore, clock: Clock) -> None:
    lease = take(store, clock)
    for _ in range(5):
        clock.now += HOUR
        lease.renew()
        with pytest.raises(LeaseHeldError):
            take(store, clock, replace(ELSEWHERE, host="third"))


def test_a_process_of_this_machine_that_is_gone_holds_nothing(store: ObjectStore, clock: Clock) -> None:
    here = Owner.this_process()
    dead = replace(here, started=here.started + 1)
    take(store, clock, dead)
    assert take(store, clock, here).number == 2
    with pytest.raises(LeaseHeldError):
        take(store, clock)


@pytest.mark.parametrize("change", [{"started": 1}, {"pid": 2**22 + 1, "started": 7}, {"boot": "earlier"}])
def test_who_is_gone(change: dict[str, object]) -> None:
    here = Owner.this_process()
    assert not here.is_gone()
    assert replace(here, **change).is_gone()  # type: ignore[arg-type]
    assert not replace(here, host="elsewhere", **change).is_gone()  # type: ignore[arg-type]


def test_only_one_of_many_takes_over(store: ObjectStore, clock: Clock) -> None:
    take(store, clock).release()
    owners: list[int] = []
    barrier = threading.Barrier(8)

    def race(number: int) -> None:
        barrier.wait()
        try:
            take(store, clock, replace(ELSEWHERE, pid=number))
        except LeaseHeldError:
            return
        owners.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(owners) == 1


def test_what_is_no_lease_is_told(store: ObjectStore, clock: Clock) -> None:
    take(store, clock)
    store.put("prod/main/maintenance/leases/cron/000000000002", b"<html>")
    with pytest.raises(IntegrityError, match="not a lease"):
        take(store, clock)


def test_a_dead_process_that_nobody_collects_is_gone() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        started = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
        assert replace(Owner.this_process(), pid=child, started=started).is_gone()
        assert not Owner.this_process().is_gone()
    finally:
        os.waitpid(child, 0)


def test_the_number_before_stays_for_those_who_list_meanwhile(store: ObjectStore, clock: Clock) -> None:
    for _ in range(4):
        take(store, clock).release()
    keys = [item.key.rpartition("/")[2].lstrip("0") for item in store.list("prod/main/maintenance/leases/cron/")]
    assert keys == ["3", "4"]
