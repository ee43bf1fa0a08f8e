"""Check: what listings tell of backups and WAL, on catalogs in memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.errors import NotFoundError
from barman_cloud.verify.check import check, duration
from barman_cloud.verify.findings import Level, Report
from barman_cloud.verify.limits import Limits
from tests.unit.catalog.builders import backup, fill, memory_catalog, segment

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def done(day: int, first: int, last: int, timeline: int = 1, **fields: object):  # type: ignore[no-untyped-def]
    """A backup of that day of November that needs the segments ``first`` to ``last``."""
    size = 16 << 20
    return backup(
        f"202611{day:02d}T030000",
        segment(first, timeline=timeline),
        end_xlog=f"0/{last * size + 0x100:X}",
        xlog_segment_size=size,
        systemid="7000000000000000001",
        begin_time=datetime(2026, 11, day, 2, tzinfo=UTC),
        **fields,
    )


def checked(catalog: Catalog, **limits: object) -> Report:
    return check(catalog.store, catalog.layout, Limits(**limits), now=NOW)  # type: ignore[arg-type]


def levels(report: Report) -> dict[str, Level]:
    return {finding.subject: finding.level for finding in report.findings if finding.level is not Level.OK}


def wals(numbers: Iterable[int], timeline: int = 1) -> list[str]:
    return [segment(number, timeline=timeline) for number in numbers]


def test_all_is_well() -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3), done(27, 6, 6)], wals(range(2, 9)))
    report = checked(catalog, max_backup_age=2 * DAY, minimum_redundancy=2)
    assert report.level is Level.OK, report.findings
    (span,) = report.recoverable
    assert span.start == datetime(2026, 11, 26, 3, tzinfo=UTC)
    assert report.metrics["backups"] == 2
    assert report.metrics["wal_files"] == 7


def test_a_gap_is_named_and_splits_what_can_be_recovered() -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3), done(27, 8, 8)], wals([2, 3, 4, 8, 9]))
    report = checked(catalog)
    gap = next(finding for finding in report.findings if finding.subject == "wal-gap")
    assert gap.level is Level.CRITICAL
    assert f"WAL {segment(5)} to {segment(7)} is missing" in gap.message
    assert gap.objects == (segment(5),)
    assert levels(report) == {"wal-gap": Level.CRITICAL}


@pytest.mark.parametrize("missing", [2, 3])
def test_a_backup_without_its_own_wal_is_lost(missing: int) -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3)], wals(number for number in range(2, 6) if number != missing))
    report = checked(catalog)
    assert levels(report) == {"backup-wal": Level.CRITICAL}
    assert not report.recoverable
    assert segment(missing) in next(f for f in report.findings if f.subject == "backup-wal").objects


def history(catalog: Catalog, timeline: int, text: str) -> None:
    catalog.store.put(catalog.layout.wal(f"{timeline:08X}.history"), text.encode())


def test_the_way_goes_on_to_the_next_timeline() -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3)], [*wals(range(2, 6)), *wals(range(5, 8), 2)])
    history(catalog, 2, "1\t0/5000100\tno recovery target specified\n")
    assert levels(checked(catalog)) == {}
    catalog.store.delete([catalog.layout.wal(segment(6, timeline=2))])
    assert levels(checked(catalog)) == {"wal-gap": Level.CRITICAL}


def test_a_timeline_without_its_history_is_told() -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3)], [*wals(range(2, 6)), *wals(range(5, 8), 2)])
    assert levels(checked(catalog)) == {"timelines": Level.CRITICAL}
    history(catalog, 2, "<html>")
    assert levels(checked(catalog)) == {"timelines": Level.CRITICAL}


def test_limits_are_judged() -> None:
    catalog = fill(memory_catalog(), [done(20, 2, 3, cluster_size=100)], wals(range(2, 6)))
    report = checked(
        catalog, max_backup_age=DAY, min_backup_size=101, minimum_redundancy=2, max_wal_age=timedelta(seconds=0)
    )
    assert {"newest-backup", "backup-size", "redundancy"} <= set(levels(report))


def test_two_clusters_under_one_name_are_told() -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3), done(27, 4, 4)], wals(range(2, 6)))
    other = done(25, 2, 2)
    other.systemid = "7000000000000000002"
    fill(catalog, [other])
    assert levels(checked(catalog)) == {"one-cluster": Level.CRITICAL}


def test_unfinished_backups_are_told() -> None:
    started = {"begin_time": NOW - timedelta(hours=1)}
    catalog = fill(
        memory_catalog(),
        [done(26, 2, 3), backup("20261128T110000", segment(4), "STARTED", **started)],
        wals(range(2, 6)),
    )
    assert levels(checked(catalog)) == {}
    fill(catalog, [backup("20261126T040000", segment(4), "STARTED", begin_time=NOW - 2 * DAY)])
    fill(catalog, [backup("20261127T040000", None, "FAILED", error="disk full")])
    assert levels(checked(catalog)) == {"abandoned-backup": Level.WARNING, "failed-backups": Level.WARNING}


def test_a_server_without_anything_fails_and_a_wrong_name_is_an_error() -> None:
    catalog = memory_catalog()
    catalog.store.put(catalog.layout.wal(segment(1)), b"x")
    assert levels(checked(catalog)) == {"newest-backup": Level.CRITICAL}
    wrong = Catalog(catalog.store, type(catalog.layout)(catalog.layout.prefix, "b"))
    with pytest.raises(NotFoundError, match=r"there is no server 'b' below .*there are: a"):
        checked(wrong)


def test_what_can_not_be_read_is_told() -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3)], wals(range(2, 6)))
    catalog.store.put(catalog.layout.backup_info("20261127T030000"), b"nonsense")
    assert levels(checked(catalog)) == {"catalog": Level.CRITICAL}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_lengths_of_time_are_for_people(seconds: int, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_a_segment_in_pieces_counts_as_the_newest_wal() -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3)], wals([2, 3]))
    catalog.store.put(catalog.layout.piece(segment(4), 0, 9000, 1), bytes(9000))
    report = checked(catalog, max_wal_age=DAY * 365)
    assert "wal-gap" not in levels(report)
    assert report.metrics["wal_files"] == 2
    newest = next(finding for finding in report.findings if finding.subject == "newest-wal")
    assert f"{segment(4)}.partial was stored" in newest.message


def test_a_part_of_a_segment_fills_no_gap_and_all_of_it_does() -> None:
    catalog = fill(memory_catalog(), [done(26, 2, 3)], wals([2, 3, 5]))
    catalog.store.put(catalog.layout.piece(segment(4), 0, 9000, 1), b"")
    gap = next(finding for finding in checked(catalog).findings if finding.subject == "wal-gap")
    assert gap.objects == (segment(4),)
    catalog.store.put(catalog.layout.piece(segment(4), 9000, 16 << 20, 1), b"")
    assert "wal-gap" not in levels(checked(catalog))
    catalog.store.put(catalog.layout.piece(segment(6), 5, 9000, 1), b"")  # not from its beginning on
    assert "wal-gap" not in levels(checked(catalog))
