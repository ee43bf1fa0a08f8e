"""The night: something is broken, and the real command says what, where and what to do, in one line and in time."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.night.situations import EVERY, LOST_SLOT, SITUATIONS, Place, Situation
from tests.support.commands import program
from tests.support.postgres import PostgresServer, command_environment
from tests.support.privileges import PROJECT
from tests.support.servers import StoreServer

PAGE = (PROJECT / "docs" / "how-to" / "troubleshooting.md").read_text()
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[\d+\] (?:ERROR|WARNING): (.*)")
QUOTE = re.compile(r"```text\n(.*?)```", re.DOTALL)
VARIES = re.compile(r"…| \(hint: | -> |; |: No space left on device|\(503 |FAILED| are |\)$")
"""Where a quote has what the source doesn't have in one piece: values, the operating system's words, joints."""
START = 5
"""Seconds that a busy machine may take to start and end a process."""
SHORTEST = 8
"""Characters of a piece of a quote that say where it comes from."""


def section(name: str) -> str:
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return next((part for part in parts if part.startswith(f"{name}\n")), "")


def pattern(quote: str) -> re.Pattern[str]:
    return re.compile("(?:.+)".join(map(re.escape, quote.split("…"))))


def umbrella(*words: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(Path(program("backup")).with_name("barman-cloud")), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=command_environment(environ), timeout=120
    )


def judge(situation: Situation, said: str, names: str) -> None:
    """What was said is the quote, in one line, and names what it is about."""
    (line,) = said.splitlines()
    found = LINE.fullmatch(line)
    message = found[1] if found else line
    assert pattern(situation.quote).fullmatch(message), message
    assert names in message


def test_there_are_twenty() -> None:
    assert len({situation.name for situation in EVERY}) == 20


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_a_broken_situation(situation: Situation, moto: StoreServer, rclone_s3: StoreServer, tmp_path: Path) -> None:
    with situation.arrange(Place(moto, rclone_s3, tmp_path)) as call:
        if call is None:
            pytest.skip("this machine lets nobody mount a small disk")
        began = time.monotonic()
        done = umbrella(call.command, *call.words, environ=call.environ)
        took = time.monotonic() - began
    assert done.returncode == call.code, done.stderr
    said = done.stderr
    if call.command == "check" and not said:
        # A finding: its line, and the next step below it.
        lines = [line.strip() for line in done.stdout.splitlines()]
        place = next(number for number, line in enumerate(lines) if call.names in line and line.startswith("FAILED"))
        said = f"{re.sub(r'^FAILED +[a-z-]+ +', '', lines[place])} {lines[place + 1]}"
    judge(situation, said, call.names)
    assert took < documented_seconds(situation)


@pytest.mark.long
def test_the_documented_times_are_those_of_the_defaults(
    moto: StoreServer, rclone_s3: StoreServer, tmp_path: Path
) -> None:
    """Without ``--timeout``, as PostgreSQL calls; all at once, since most of it is waiting."""

    def run(situation: Situation) -> tuple[int, float] | None:
        place = tmp_path / re.sub(r"\W", "-", situation.name)
        place.mkdir()
        with situation.arrange(Place(moto, rclone_s3, place)) as call:
            if call is None or "--timeout" not in call.words:
                return None
            words = list(call.words)
            number = words.index("--timeout")
            del words[number : number + 2]
            began = time.monotonic()
            done = umbrella(call.command, *words, environ=call.environ)
            said = [line for line in done.stderr.splitlines() if " ERROR: " in line]
            judge(situation, "\n".join(said), call.names)
            return done.returncode, time.monotonic() - began

    with ThreadPoolExecutor(len(SITUATIONS)) as pool:
        found = dict(zip((one.name for one in SITUATIONS), pool.map(run, SITUATIONS), strict=True))
    tried = {name: result for name, result in found.items() if result is not None}
    assert len(tried) >= 10
    print({name: (code, round(took, 1)) for name, (code, took) in tried.items()})
    for situation in SITUATIONS:
        if situation.name in tried:
            code, took = tried[situation.name]
            assert (code, took < documented_seconds(situation) + START) == (4, True), (situation.name, took)


def documented_seconds(situation: Situation) -> int:
    found = re.search(r"within (\d+) s\b", section(situation.name))
    assert found is not None, situation.name
    return int(found[1])


@pytest.mark.parametrize("situation", EVERY, ids=lambda situation: situation.name)
def test_the_page_explains_it(situation: Situation) -> None:
    text = section(situation.name)
    quotes = [" ".join(quote.split()) for quote in QUOTE.findall(text)]
    assert situation.quote in quotes
    assert documented_seconds(situation) > 0
    assert len(re.sub(QUOTE, "", text).split()) > 30, "what it means, and what to do"


def source() -> str:
    """The text of all modules, with the pieces of each string literal put together."""
    text = "\n".join(path.read_text() for path in sorted((PROJECT / "src").rglob("*.py")))
    text = re.sub(r"""["']\s*\n\s*(?:\+ )?f?["']""", "", text)
    return re.sub(r"\{[^{}\n]*\}", "…", text)


def test_every_quoted_message_is_in_the_source() -> None:
    known = source()
    quotes = [" ".join(quote.split()) for quote in QUOTE.findall(PAGE)]
    assert len(quotes) >= 20
    missing = [
        piece
        for quote in quotes
        for piece in VARIES.split(quote)
        if len(piece) >= SHORTEST and piece.strip(" ()") not in known
    ]
    assert missing == []


@pytest.mark.long
def test_a_lost_slot(tmp_path: Path, new_postgres: Callable[..., PostgresServer]) -> None:
    limits = {"min_wal_size": "2MB", "max_wal_size": "2MB", "max_slot_wal_keep_size": "1MB"}
    server = new_postgres(initdb=("--wal-segsize=1",), settings=limits)
    server.query("CREATE TABLE t (a text)")
    server.query("SELECT pg_create_physical_replication_slot('slow', true)")
    server.query("INSERT INTO t SELECT repeat(md5(i::text), 20) FROM generate_series(1, 20000) i")
    server.query("CHECKPOINT")
    assert server.value("SELECT wal_status FROM pg_replication_slots") == "lost"
    (tmp_path / "store").mkdir()
    place = ("--spool-dir", str(tmp_path / "spool"), f"file://{tmp_path}/store", "main")
    began = time.monotonic()
    done = umbrella("wal-receive", "--dbname", server.conninfo, "--slot", "slow", *place, environ={})
    assert done.returncode == 1, done.stderr
    judge(LOST_SLOT, done.stderr, "slow")
    assert time.monotonic() - began < documented_seconds(LOST_SLOT)
