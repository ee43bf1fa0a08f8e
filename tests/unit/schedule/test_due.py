"""Schedules: what is due, also after a pause, and where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from barman_cloud.schedule.due import Schedule, delay_of, is_due

NIGHTLY = Schedule("30 2 * * *")
KNOWN = datetime(2026, 11, 1, tzinfo=UTC)


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def test_a_job_is_due_once_its_time_has_come() -> None:
    assert not is_due(NIGHTLY, "backup", at(10, 2, 30), KNOWN, at(11, 2, 29))
    assert is_due(NIGHTLY, "backup", at(10, 2, 30), KNOWN, at(11, 2, 30))
    assert not is_due(NIGHTLY, "backup", at(11, 2, 31), KNOWN, at(11, 2, 32))


def test_missed_times_are_made_up_for_once() -> None:
    assert is_due(NIGHTLY, "backup", at(3, 2, 30), KNOWN, at(11, 12))
    assert not is_due(NIGHTLY, "backup", at(11, 12), KNOWN, at(11, 13))


def test_a_new_server_waits_for_its_first_time() -> None:
    assert not is_due(NIGHTLY, "backup", None, at(11, 3), at(11, 12))
    assert is_due(NIGHTLY, "backup", None, at(11, 3), at(12, 3))


def test_times_are_of_the_time_zone() -> None:
    vienna = Schedule("30 2 * * *", "Europe/Vienna")
    assert not is_due(vienna, "backup", at(10, 2), KNOWN, at(11, 1, 29))
    assert is_due(vienna, "backup", at(10, 2), KNOWN, at(11, 1, 30))


def test_the_hour_that_is_left_out_and_the_one_that_comes_twice() -> None:
    vienna = Schedule("30 2 * * *", "Europe/Vienna")
    for year, month, day in ((2026, 3, 29), (2026, 10, 25)):
        start = datetime(year, month, day, tzinfo=UTC) - timedelta(hours=12)
        runs = []
        last = start
        for minute in range(0, 26 * 60, 5):
            now = start + timedelta(minutes=minute)
            if is_due(vienna, "backup", last, start, now):
                runs.append(now)
                last = now
        assert len(runs) == 1, runs


def test_jitter_delays_each_job_by_its_own_time() -> None:
    spread = Schedule("30 2 * * *", jitter=timedelta(minutes=30))
    delays = {delay_of(spread, f"server-{number}") for number in range(50)}
    assert len(delays) > 40
    assert all(timedelta(0) <= delay <= timedelta(minutes=30) for delay in delays)
    delay = delay_of(spread, "main")
    assert not is_due(spread, "main", at(10, 12), KNOWN, at(11, 2, 30) + delay - timedelta(seconds=1))
    assert is_due(spread, "main", at(10, 12), KNOWN, at(11, 2, 30) + delay)
