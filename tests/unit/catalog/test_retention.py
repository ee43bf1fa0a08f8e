"""Retention policies: grammar, verdicts, and a model of what a policy promises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.retention import (
    Policy,
    RecoveryWindow,
    Redundancy,
    Status,
    check_redundancy,
    children_of,
    deletion_order,
    find_roots,
    judge,
    parse_policy,
)
from barman_cloud.errors import OperationError, UsageError
from tests.unit.catalog.builders import backup, segment

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)


def day(number: int) -> str:
    return f"202601{number:02d}T000000"


def done(*numbers: int) -> dict[str, BackupInfo]:
    """DONE backups that ended at midnight of these days of January."""
    return {day(number): backup(day(number), segment(number)) for number in numbers}


def statuses(
    backups: dict[str, BackupInfo], policy: Policy, minimum: int = 0, keeps: dict[str, str] | None = None
) -> list[str]:
    verdicts = judge(backups, keeps or {}, policy, minimum, NOW)
    assert list(verdicts) == sorted(backups)
    return [str(verdict.status) for verdict in verdicts.values()]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("REDUNDANCY 3", Redundancy(3)),
        ("redundancy   0", Redundancy(0)),
        ("RECOVERY WINDOW OF 7 DAYS", RecoveryWindow(7)),
        ("  recovery\twindow of 1 day ", RecoveryWindow(1)),
        ("Recovery Window Of 2 Weeks", RecoveryWindow(14)),
        ("RECOVERY WINDOW OF 1 WEEK", RecoveryWindow(7)),
        ("RECOVERY WINDOW OF 3 MONTHS", RecoveryWindow(93)),
        ("RECOVERY WINDOW OF 1 MONTH", RecoveryWindow(31)),
    ],
)
def test_grammar(text: str, policy: Policy) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "main",
        "REDUNDANCY",
        "REDUNDANCY -1",
        "REDUNDANCY 1.5",
        "REDUNDANCY one",
        "REDUNDANCY1",
        "REDUNDANCY \u0661",
        "RECOVERY WINDOW 7 DAYS",
        "RECOVERY WINDOW OF 7 YEARS",
        "RECOVERY WINDOW OF 7",
        "x REDUNDANCY 1",
    ],
)
def test_anything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(text)
    assert caught.value.exit_code == 3


def test_redundancy_counts_from_the_newest() -> None:
    assert statuses(done(1, 2, 3), Redundancy(2)) == ["OBSOLETE", "VALID", "VALID"]
    assert statuses(done(1, 2, 3), Redundancy(0)) == ["OBSOLETE"] * 3
    assert statuses(done(1, 2, 3), Redundancy(1), minimum=2) == ["OBSOLETE", "VALID", "VALID"]


def test_kept_backups_count_and_stay() -> None:
    keeps = {day(1): "standalone", day(2): "standalone\n", day(4): "full"}
    assert statuses(done(1, 2, 3, 4), Redundancy(1), keeps=keeps) == [
        "KEEP:STANDALONE",
        "KEEP:FULL",
        "OBSOLETE",
        "KEEP:FULL",
    ]


@pytest.mark.parametrize("status", ["STARTED", "FAILED", "WAITING_FOR_WALS", "EMPTY", "SYNCING"])
def test_only_done_backups_are_judged(status: str) -> None:
    backups = done(1, 2) | {day(3): backup(day(3), segment(3), status)}
    assert statuses(backups, Redundancy(1)) == ["OBSOLETE", "VALID", "NONE"]


def test_a_window_needs_the_newest_backup_that_ended_before_it() -> None:
    assert statuses(done(1, 3, 5, 7, 9), RecoveryWindow(4)) == ["OBSOLETE", "OBSOLETE", "VALID", "VALID", "VALID"]
    assert statuses(done(1, 3, 5, 7, 9), RecoveryWindow(0)) == ["OBSOLETE"] * 4 + ["VALID"]
    assert statuses(done(1, 3), RecoveryWindow(400)) == ["VALID", "VALID"]


def test_the_minimum_holds_what_the_window_would_not() -> None:
    assert statuses(done(1, 3, 5, 7, 9), RecoveryWindow(0), minimum=3) == ["OBSOLETE"] * 2 + ["VALID"] * 3


def test_a_backup_without_end_time_is_never_obsolete() -> None:
    backups = done(1, 5) | {day(3): backup(day(3), segment(3), end_time=None)}
    assert statuses(backups, RecoveryWindow(0)) == ["OBSOLETE", "VALID", "VALID"]


def family() -> dict[str, BackupInfo]:
    """1 is the parent of 2 and 4, 4 of 5; 3 is on its own. Each link is recorded at one end only."""
    backups = done(1, 2, 3, 4, 5)
    backups[day(1)].children_backup_ids = [day(2), day(4), "20250101T000000"]
    backups[day(5)].parent_backup_id = day(4)
    backups[day(3)].parent_backup_id = "20250101T000000"
    return backups


def test_a_chain_of_incremental_backups_is_judged_as_one() -> None:
    assert find_roots(family()) == {day(1): day(1), day(2): day(1), day(3): day(3), day(4): day(1), day(5): day(1)}
    assert statuses(family(), Redundancy(1)) == ["OBSOLETE", "OBSOLETE", "VALID", "OBSOLETE", "OBSOLETE"]
    assert statuses(family(), Redundancy(2)) == ["VALID"] * 5


def test_a_chain_goes_from_its_end() -> None:
    verdicts = judge(family(), {}, Redundancy(0), 0, NOW)
    assert deletion_order(verdicts, family()) == [day(5), day(4), day(2), day(1), day(3)]


def test_one_kept_backup_holds_its_chain() -> None:
    assert statuses(family(), Redundancy(1), keeps={day(4): "full"}) == [
        "VALID",
        "VALID",
        "VALID",
        "KEEP:FULL",
        "VALID",
    ]


def test_a_chain_that_is_being_added_to_stays() -> None:
    backups = family() | {day(6): backup(day(6), segment(6), "STARTED", parent_backup_id=day(5))}
    assert statuses(backups, Redundancy(1)) == ["VALID"] * 5 + ["NONE"]


def test_children_of_a_backup() -> None:
    assert children_of(family(), day(1)) == [day(2), day(4)]
    assert children_of(family(), day(4)) == [day(5)]
    assert children_of(family(), day(5)) == []


def test_a_circle_of_parents_is_never_obsolete() -> None:
    backups = done(1, 2)
    backups[day(1)].parent_backup_id = day(2)
    backups[day(2)].parent_backup_id = day(1)
    assert statuses(backups, Redundancy(0)) == ["VALID", "VALID"]


def test_minimum_redundancy_of_a_deletion_by_id() -> None:
    backups = done(1, 2) | {day(3): backup(day(3), status="FAILED")}
    check_redundancy(backups, day(1), 1)
    check_redundancy(backups, day(3), 2)
    with pytest.raises(OperationError, match="1 DONE backup would remain"):
        check_redundancy(backups, day(1), 2)


_backups = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.sampled_from(["DONE", "DONE", "DONE", "FAILED", "STARTED"]),
        st.sampled_from([None, None, "full", "standalone"]),
    ),
    unique_by=lambda entry: entry[0],
)


@settings(deadline=None)
@given(_backups, st.integers(0, 12), st.integers(0, 4))
def test_a_window_promises_recovery_to_each_of_its_moments(
    entries: list[tuple[int, str, str | None]], days: int, minimum: int
) -> None:
    backups = {day(number): backup(day(number), segment(number), status) for number, status, _ in entries}
    keeps = {day(number): text for number, status, text in entries if text and status == "DONE"}
    verdicts = judge(backups, keeps, RecoveryWindow(days), minimum, NOW)
    stay = {key for key, verdict in verdicts.items() if verdict.status is not Status.OBSOLETE}
    assert set(keeps) <= stay
    for hours in range(0, 24 * days + 1, 12):
        moment = NOW - timedelta(hours=hours)
        usable = {key for key, info in backups.items() if info.status == "DONE" and info.end_time <= moment}  # type: ignore[operator]
        assert not usable or usable & stay, f"nothing left to recover to {moment}"
    everything_done = {key for key, info in backups.items() if info.status == "DONE"}
    assert len(everything_done & stay) >= min(minimum, len(everything_done))
    assert {key for key in backups if backups[key].status != "DONE"} <= stay


@settings(deadline=None)
@given(_backups, st.integers(0, 5), st.integers(0, 5))
def test_redundancy_promises_the_newest(entries: list[tuple[int, str, str | None]], copies: int, minimum: int) -> None:
    backups = {day(number): backup(day(number), segment(number), status) for number, status, _ in entries}
    keeps = {day(number): text for number, status, text in entries if text and status == "DONE"}
    verdicts = judge(backups, keeps, Redundancy(copies), minimum, NOW)
    newest = sorted(key for key, info in backups.items() if info.status == "DONE")[::-1][: max(copies, minimum)]
    for key, info in backups.items():
        expected = info.status == "DONE" and key not in keeps and key not in newest
        assert (verdicts[key].status is Status.OBSOLETE) == expected


def test_the_backups_of_each_cluster_count_by_themselves() -> None:
    old = {day(n): backup(day(n), systemid="1") for n in (1, 2)}
    new = {day(n): backup(day(n), systemid="2") for n in (3, 4, 5)}
    verdicts = judge(old | new, {}, Redundancy(1), 0, NOW)
    valid = [backup_id for backup_id, verdict in verdicts.items() if verdict.status is Status.VALID]
    assert valid == [day(2), day(5)]
    verdicts = judge(old | new, {}, RecoveryWindow(0), 0, NOW)
    assert [b for b, verdict in verdicts.items() if verdict.status is Status.VALID] == [day(2), day(5)]
    with pytest.raises(OperationError, match="0 DONE backups would remain"):
        check_redundancy({day(1): old[day(1)]} | new, day(1), 1)


def test_a_backup_that_does_not_tell_its_cluster_is_of_the_only_one_or_of_one_more() -> None:
    unknown = {day(1): backup(day(1)), day(2): backup(day(2))}
    one = unknown | {day(3): backup(day(3), systemid="1")}
    assert [b for b, v in judge(one, {}, Redundancy(1), 0, NOW).items() if v.status is Status.VALID] == [day(3)]
    two = one | {day(4): backup(day(4), systemid="2")}
    valid = [b for b, v in judge(two, {}, Redundancy(1), 0, NOW).items() if v.status is Status.VALID]
    assert valid == [day(2), day(3), day(4)]
