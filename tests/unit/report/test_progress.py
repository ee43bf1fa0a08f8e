"""Counters of progress, what is said of them, and how much of it fits."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from datetime import UTC, datetime

import pytest

from barman_cloud.report import live, progress
from barman_cloud.report.progress import DATA, STORED, ItemState, Progress, State
from barman_cloud.report.progress_text import Rate, as_json, clock, fields, fit, item_text, remaining, sentence
from tests.support.schemas import require_valid


def state(**given: object) -> State:
    values: dict[str, object] = {
        "phase": "copying", "phase_seconds": 4.0, "seconds": 5.0, "data": 100 << 20, "stored": 40 << 20,
        "measure": DATA, "done": 100 << 20, "total": 400 << 20, "items_done": 3, "items_total": 12, "items": (),
    }  # fmt: skip
    return State(**{**values, **given})  # type: ignore[arg-type]


def test_items_in_work_and_finished_ones_are_added_up_by_phase() -> None:
    work = Progress()
    work.phase("copying", total=100, items=2)
    with work.item("a", 50) as first:
        assert list(first.counting_data([b"12345", b"67"])) == [b"12345", b"67"]
        first.skip(10)
        list(first.counting_stored([b"123"]))
        seen = work.state()
        assert (seen.done, seen.data, seen.stored, seen.items_done) == (17, 7, 3, 0)
        assert seen.items == (ItemState("a", 7, 3, 17, 50),)
    with contextlib.suppress(KeyError), work.item("b", 50) as second:
        second.data += 83
        raise KeyError
    seen = work.state()
    assert (seen.done, seen.fraction, seen.items_done, seen.items) == (100, 1.0, 2, ())
    work.phase("reading", total=6, measure=STORED)
    seen = work.state()
    assert (seen.done, seen.data, seen.stored, seen.items_done, seen.fraction) == (0, 90, 3, 0, 0.0)
    work.add(stored=9, items=1)
    assert (work.state().done, work.state().fraction, work.items_finished) == (9, 1.0, 3)
    assert list(work.phases()) == ["asking the store", "copying", "reading"]


def test_an_item_follows_stages_that_count_anyway() -> None:
    class Stage:
        size = 0

    work = Progress()
    data, stored = Stage(), Stage()
    with work.item("a") as item:
        item.follow(data, stored)
        data.size, stored.size = 30, 10
        assert (work.state().data, work.state().stored, work.state().ratio) == (30, 10, 3.0)
    assert (work.state().data, work.state().stored) == (30, 10)


def test_counters_are_found_by_the_thread_that_began_and_by_no_other() -> None:
    assert progress.current() is not progress.current()
    found = []
    with progress.watched() as work:
        assert progress.current() is work
        thread = threading.Thread(target=lambda: found.append(progress.current()))
        thread.start()
        thread.join()
    assert found[0] is not work
    assert progress.current() is not work


def test_a_rate_is_that_of_the_last_seconds_of_the_phase() -> None:
    rate = Rate()
    assert rate.see(state(phase_seconds=0.2, done=10)) is None
    assert rate.see(state(phase_seconds=2.0, done=200)) == pytest.approx(190 / 1.8)
    for second in range(3, 30):
        seen = rate.see(state(phase_seconds=float(second), done=200 + 1000 * (second - 2)))
    assert seen == 1000
    assert remaining(state(done=100, total=400), 100) == 3.0
    assert remaining(state(total=None), 100) is None
    assert remaining(state(done=500, total=400), 100) == 0
    assert rate.see(state(phase="another", phase_seconds=0.1, done=0)) is None


def test_times_are_short() -> None:
    assert [clock(seconds) for seconds in (0, 4.9, 750, 3723)] == ["0:00", "0:04", "12:30", "1:02:03"]


@pytest.mark.parametrize("width", range(1, 120))
def test_what_does_not_fit_is_left_out_and_the_phase_stays(width: int) -> None:
    chosen = fit(fields(state(), 20 << 20), width)
    assert sum(len(field.text) for field in chosen) + 2 * (len(chosen) - 1) <= width
    assert chosen[0].kind == "phase"
    if width >= 40:
        assert {"percent", "eta"} <= {field.kind for field in chosen}


def test_a_line_says_everything() -> None:
    assert sentence(state(), 20 << 20) == "copying, 25%, 100.0 of 400.0 MiB, 3/12, 20.0 MiB/s, 2.5×, ETA 0:15"
    receiving = state(phase="receiving WAL", total=None, done=0, items_done=0, items_total=None, position="at 0/5\x1b")
    assert sentence(receiving, None) == "receiving WAL, 0:04, at 0/5\\x1b"
    line = as_json(receiving, None, "wal-receive", "progress", datetime(2026, 11, 28, 12, tzinfo=UTC))
    assert line["position"] == "at 0/5\x1b"
    require_valid(line, "progress")
    waiting = state(phase="waiting for WAL", total=None, done=0, items_done=0, items_total=None)
    assert sentence(waiting, None) == "waiting for WAL, 0:04"
    assert sentence(state(phase="listing\x1b[2J", total=None, done=0, items_total=None), None) == (
        "listing\\x1b[2J, 3, 0:04"
    )
    assert sentence(state(done=500 << 20), None).startswith("copying, 100%, 400.0 of 400.0 MiB")
    assert item_text(ItemState("data.tar", 5, 2, 5, 10)) == "data.tar 50%"
    assert item_text(ItemState("data\x07.tar", 2048, 2, 2048, None)) == "data\\x07.tar 2.0 KiB"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asked", "verbosity", "stream", "term", "mode"),
    [
        ("auto", 0, Tty(), "xterm", "live"),
        ("auto", 1, Tty(), "xterm", "live"),
        ("auto", -1, Tty(), "xterm", "none"),
        ("auto", 0, Tty(), "dumb", "plain"),
        ("auto", -1, Tty(), "dumb", "none"),
        ("auto", 1, Tty(), "dumb", "plain"),
        ("auto", 0, io.StringIO(), "xterm", "none"),
        ("auto", 1, io.StringIO(), "xterm", "plain"),
        ("auto", 0, None, "xterm", "none"),
        ("none", 2, Tty(), "xterm", "none"),
        ("plain", 0, io.StringIO(), "xterm", "plain"),
        ("json", 0, Tty(), "xterm", "json"),
    ],
)
def test_what_auto_means(
    asked: str, verbosity: int, stream: io.StringIO | None, term: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    assert live.mode_of(asked, verbosity, stream) == mode


def test_a_log_gets_a_line_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "LINE_EACH", 0.01)
    work = Progress()
    work.phase("copying", total=10)
    seen = threading.Event()
    monkeypatch.setattr(live.logs.Logger, "info", lambda _self, message, *args: (print(message % args), seen.set()))
    with live.shown(work, "plain", "backup"):
        assert seen.wait(30)
    assert capsys.readouterr().out.startswith("copying, ")


def test_json_lines_tell_each_phase_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(live.sys, "stderr", stream)
    work = Progress()
    with contextlib.suppress(ValueError), live.shown(work, "json", "backup"):
        raise ValueError
    *_, last = map(json.loads, stream.getvalue().splitlines())
    assert (last["version"], last["event"], last["command"], last["phase"]) == (
        1,
        "failed",
        "backup",
        "asking the store",
    )


def test_a_display_whose_reader_went_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(live.sys, "stderr", Closed())
    with live.shown(Progress(), "json", "backup"):
        pass
