import time
from collections.abc import Callable

import pytest

from barman_cloud.backup.wal_check import warn_of_missing_wal
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.errors import AccessDeniedError, ConnectivityError


def backup() -> BackupInfo:
    return BackupInfo("20260101T000000", end_xlog="0/2000120")


def warned(
    caplog: pytest.LogCaptureFixture,
    find: Callable[[], list[str]],
    *,
    timeout: float = 0,
    sleep: Callable[[float], None] = time.sleep,
    reason: str | None = None,
) -> str:
    warn_of_missing_wal(find, backup(), timeout=timeout, sleep=sleep, reason=reason)
    return "\n".join(record.getMessage() for record in caplog.records if record.levelname == "WARNING")


def test_missing_wal_is_named_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    line = warned(caplog, lambda: ["000000010000000000000002"], reason="archive_mode is off")
    assert line == (
        "backup 20260101T000000 can't be recovered yet: the archive lacks its WAL, 000000010000000000000002, "
        "up to 0/2000120 (archive_mode is off)"
    )


def test_much_missing_wal_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    assert ", 3 segments from A to C, " in warned(caplog, lambda: ["A", "B", "C"])


def test_nothing_is_said_when_all_is_there(caplog: pytest.LogCaptureFixture) -> None:
    assert warned(caplog, list) == ""


def test_it_is_looked_for_until_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    answers = [["A"], ["A"], []]
    slept: list[float] = []
    assert warned(caplog, lambda: answers.pop(0), timeout=60, sleep=slept.append) == ""
    assert (answers, slept) == ([], [0.5, 1.0])


def test_the_wait_ends_in_time(caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    assert ", after 0 seconds" in warned(caplog, lambda: ["A"], timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 60


def test_without_a_timeout_it_is_looked_for_once(caplog: pytest.LogCaptureFixture) -> None:
    answers = [["A"]]
    assert warned(caplog, lambda: answers.pop(0), sleep=lambda _: pytest.fail("waited")) != ""


@pytest.mark.parametrize(
    ("error", "words"), [(ConnectivityError("refused"), "can't tell"), (AccessDeniedError("no"), "")]
)
def test_a_store_that_does_not_answer_takes_nothing_from_the_backup(
    caplog: pytest.LogCaptureFixture, error: Exception, words: str
) -> None:
    def find() -> list[str]:
        raise error

    assert words in warned(caplog, find)


def test_an_interrupted_wait_takes_nothing_from_the_backup(caplog: pytest.LogCaptureFixture) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt("interrupted by SIGINT")

    line = warned(caplog, lambda: ["A"], timeout=60, sleep=interrupt)
    assert line == "backup 20260101T000000 is done; not waiting for its WAL: interrupted by SIGINT"
