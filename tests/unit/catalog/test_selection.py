"""Ids, names, shortcuts and recovery targets."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from barman_cloud.catalog import selection
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.selection import latest_timeline, parse_target_lsn, resolve, resolve_for_restore, select_auto
from barman_cloud.errors import NotFoundError, SelectionError
from tests.unit.catalog.builders import backup, fill, memory_catalog, segment


def day(number: int) -> str:
    return f"202601{number:02d}T000000"


def catalog() -> Catalog:
    """FAILED, DONE on timeline 1, FAILED, DONE on timeline 2, FAILED, STARTED."""
    return fill(
        memory_catalog(),
        [
            backup(day(1), segment(1), "FAILED", end_time=datetime(2026, 1, 1, tzinfo=UTC)),
            backup(day(2), segment(2), end_xlog="0/2000100", backup_name="monday"),
            backup(day(3), segment(3), "FAILED", backup_name="tuesday"),
            backup(day(4), segment(4, timeline=2), end_xlog="1/100", backup_name="twice"),
            backup(day(5), segment(5), "FAILED", backup_name="twice"),
            backup(day(6), segment(6), "STARTED", backup_name="running"),
        ],
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("last", 5),
        ("latest", 5),
        ("first", 1),
        ("oldest", 1),
        ("last-failed", 5),
        ("monday", 2),
        ("running", 6),
    ],
)
def test_shortcuts_and_names(text: str, number: int) -> None:
    assert resolve(text, catalog().load) == day(number)


def test_an_id_is_not_looked_up() -> None:
    def load() -> CatalogView:
        raise AssertionError

    assert resolve("20200101T000000", load) == "20200101T000000"


@pytest.mark.parametrize("text", ["nosuch", "latest-full", "last-full", "twice", "", "20200101t000000"])
def test_what_matches_nothing_or_too_much(text: str) -> None:
    with pytest.raises(SelectionError) as caught:
        resolve(text, catalog().load)
    assert caught.value.exit_code == 4


def test_an_ambiguous_name_lists_the_ids() -> None:
    with pytest.raises(SelectionError, match=f"{day(4)}, {day(5)}"):
        resolve("twice", catalog().load)


@pytest.mark.parametrize("text", ["last", "first", "last-failed"])
def test_shortcuts_on_an_empty_catalog(text: str) -> None:
    with pytest.raises(SelectionError, match="matches nothing"):
        resolve(text, memory_catalog().load)


@pytest.mark.parametrize(("text", "number"), [("last", 4), ("latest", 4), ("first", 2), ("oldest", 2), ("monday", 2)])
def test_a_restore_only_sees_complete_backups(text: str, number: int) -> None:
    assert resolve_for_restore(text, catalog()).backup_id == day(number)


@pytest.mark.parametrize("text", ["tuesday", "running", "last-failed", "twice", "nosuch"])
def test_a_restore_refuses_the_names_of_others(text: str) -> None:
    with pytest.raises(SelectionError):
        resolve_for_restore(text, catalog())


def test_a_restore_takes_any_status_by_id_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_for_restore(day(3), catalog()).status == "FAILED"
    assert "may be incomplete" in caplog.text
    with pytest.raises(NotFoundError) as caught:
        resolve_for_restore("20200101T000000", catalog())
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("target", "number"),
    [
        ({}, 4),
        ({"target_tli": 1}, 2),
        ({"target_tli": 2}, 4),
        ({"target_time": datetime(2026, 1, 4, tzinfo=UTC)}, 4),
        ({"target_time": datetime(2026, 1, 3, 23, 59, tzinfo=UTC)}, 2),
        ({"target_time": datetime(2026, 2, 1, tzinfo=UTC), "target_tli": 1}, 2),
        ({"target_lsn": 0x1_0000_0100}, 4),
        ({"target_lsn": 0x1_0000_00FF}, 2),
        ({"target_lsn": 0x0200_0100}, 2),
    ],
)
def test_auto(target: dict[str, object], number: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert select_auto(catalog().load(), **target).backup_id == day(number)  # type: ignore[arg-type]
    assert f"chose backup {day(number)}" in caplog.text


@pytest.mark.parametrize(
    "target",
    [
        {"target_tli": 3},
        {"target_time": datetime(2026, 1, 1, tzinfo=UTC)},
        {"target_lsn": 1},
    ],
)
def test_auto_that_finds_nothing_ends_with_1(target: dict[str, object]) -> None:
    with pytest.raises(NotFoundError) as caught:
        select_auto(catalog().load(), **target)  # type: ignore[arg-type]
    assert caught.value.exit_code == 1


def test_a_done_backup_without_an_end_is_passed_over_by_targets(caplog: pytest.LogCaptureFixture) -> None:
    store = fill(memory_catalog(), [backup(day(1), segment(1), end_time=None)])
    assert select_auto(store.load()).backup_id == day(1)
    with pytest.raises(NotFoundError):
        select_auto(store.load(), target_time=datetime(2027, 1, 1, tzinfo=UTC))
    with pytest.raises(NotFoundError):
        select_auto(store.load(), target_lsn=1 << 40)


def test_an_unreadable_backup_is_warned_of_and_does_not_stop_a_restore(caplog: pytest.LogCaptureFixture) -> None:
    damaged = catalog()
    damaged.store.put(damaged.layout.backup_info(day(7)), b"?")
    assert resolve_for_restore("last", damaged).backup_id == day(4)
    assert select_auto(damaged.load()).backup_id == day(4)
    assert day(7) in caplog.text


def test_target_lsn() -> None:
    assert parse_target_lsn("1/100") == 0x1_0000_0100
    with pytest.raises(SelectionError) as caught:
        parse_target_lsn("junk")
    assert caught.value.exit_code == 4


def test_the_latest_timeline_counts_history_files() -> None:
    store = fill(memory_catalog(), [], [segment(1), segment(1, timeline=2), "0000000A.history"])
    assert latest_timeline(store) == 10
    with pytest.raises(SelectionError):
        latest_timeline(memory_catalog())


def test_reserved_words_are_no_names() -> None:
    assert {
        "auto",
        "last",
        "latest",
        "first",
        "oldest",
        "last-failed",
        "last-full",
        "latest-full",
    } == selection.RESERVED
