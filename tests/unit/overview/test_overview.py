"""A report: what is gathered from listings, the estimate, the lines of a terminal, and the page."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.cli.command import main
from barman_cloud.cli.report import COMMAND
from barman_cloud.errors import ConfigurationError
from barman_cloud.overview import prices
from barman_cloud.overview.gather import gather
from barman_cloud.overview.model import Cost, DrillEntry, Overview
from barman_cloud.overview.page import as_html
from barman_cloud.overview.prices import AZURE, GOOGLE, S3, TABLE, Price, price_of, read_table
from barman_cloud.overview.text import as_text, cost_line
from barman_cloud.store.open import open_store
from barman_cloud.verify.drill_record import DrillRecord, save
from tests.support.made_up import DAY, EACH_DAY, NOW, make_archive

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    yield
    logging.getLogger("barman_cloud").handlers.clear()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bucket")
    make_archive(directory)
    make_archive(directory, "other", days=4)
    return directory


@pytest.fixture(scope="module")
def overview(directory: Path) -> Overview:
    store = open_store(f"file://{directory}")
    found = gather(store, Layout.of(store.url, "main"), TABLE, now=NOW)
    drills = (
        DrillEntry(NOW - 3 * DAY, found.backups[-3].backup_id, True, 612.0),
        DrillEntry(NOW - 9 * DAY, found.backups[-5].backup_id, False, None, ("PostgreSQL <didn't> start",)),
    )
    cost = Cost(S3, "STANDARD", 12.5, 0.034, 6800, 0.0)
    return replace(found, drills=drills, cost=cost)


def test_everything_is_gathered_from_listings(overview: Overview) -> None:
    assert len(overview.backups) == 16
    assert [entry.status for entry in overview.backups] == ["DONE"] * 15 + ["FAILED"]
    assert Counter(entry.type for entry in overview.backups) == {"full": 5, "incremental": 11}
    oldest, newest = overview.backups[0], overview.complete[-1]
    assert (oldest.kept, oldest.verified_state, oldest.ratio, oldest.problem) == (
        "full",
        "whole",
        9000 / oldest.stored,
        None,
    )
    assert oldest.duration == 40 * 60
    assert newest.problem == "verify found it broken, or one that it builds on"
    assert overview.backups[-1].problem == "failure uploading data (<script>)"
    assert overview.wal_files == 30 * EACH_DAY - 2
    assert (overview.wal_stored, overview.wal_ratio) == (50 * overview.wal_files, (16 << 20) / 50)
    assert [(run.timeline, run.count) for run in overview.runs] == [(1, 22 * EACH_DAY + 2), (1, 8 * EACH_DAY - 4)]
    (gap,) = overview.gaps
    assert (gap.count, gap.first) == (2, "000000010000000000000087")
    assert gap.after and gap.before and gap.before - gap.after == 3 * DAY / EACH_DAY
    assert len(overview.recoverable) == 2
    assert overview.recoverable[0].end == gap.after
    assert overview.growth[-1].wal == overview.wal_stored
    assert overview.growth[-1].backups == overview.backup_stored
    assert [point.day for point in overview.growth] == sorted({point.day for point in overview.growth})
    assert {finding.subject for finding in overview.findings} >= {"wal-gap", "failed-backups"}


def test_drills_that_were_recorded_are_told_the_newest_first(tmp_path: Path) -> None:
    make_archive(tmp_path, days=4)
    store = open_store(f"file://{tmp_path}")
    layout = Layout.of(store.url, "main")
    save(store, layout, DrillRecord(NOW - 2 * DAY, "20261124T030000", False, ("it didn't start",)))
    save(store, layout, DrillRecord(NOW - DAY, "20261126T030000", True, rto_seconds=12.5))
    assert gather(store, layout, TABLE, now=NOW).drills == (
        DrillEntry(NOW - DAY, "20261126T030000", True, 12.5),
        DrillEntry(NOW - 2 * DAY, "20261124T030000", False, None, ("it didn't start",)),
    )


def test_a_directory_costs_nothing_and_a_bucket_what_the_table_says(directory: Path) -> None:
    store = open_store(f"file://{directory}")
    layout = Layout.of(store.url, "main")
    assert gather(store, layout, TABLE, now=NOW).cost is None
    table = {"file": {"HERE": Price(2.0**30, 1000, 0, 2.0**30)}}
    found = gather(store, layout, table, now=NOW)
    cost = found.cost
    assert cost is not None
    assert cost.storage == pytest.approx(found.wal_stored + found.backup_stored)
    # All but the first day's WAL is of the last 30 days; each backup is two or three small objects.
    objects = sum(entry.objects for entry in found.backups if entry.stored_at and NOW - entry.stored_at <= 30 * DAY)
    assert cost.write_requests == cost.requests == found.wal_files + objects
    newest = found.complete[-1]
    chain = [entry for entry in found.complete if entry.backup_id >= newest.backup_id[:8]]
    assert cost.restore >= sum(entry.stored for entry in chain)
    assert cost_line(replace(found, cost=Cost(S3, "STANDARD", 1.234, 0.5, 100, 0.07))) == (
        "about $1.73 a month (STANDARD: storage $1.23, 100 write requests $0.50); reading the newest backup and its "
        "WAL costs $0.07"
    )


def test_prices_may_be_given(tmp_path: Path) -> None:
    assert price_of(TABLE, "file", None) is None
    assert price_of(TABLE, S3, None) == ("STANDARD", TABLE[S3]["STANDARD"])
    assert price_of(TABLE, AZURE, "cool") == ("Cool", TABLE[AZURE]["Cool"])
    with pytest.raises(ConfigurationError, match="no price is known"):
        price_of(TABLE, GOOGLE, "STANDARD_IA")
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({S3: {"OURS": {"gib_month": 0.01, "write_1000": 1}}}))
    table = read_table(path)
    assert price_of(table, S3, None) == ("OURS", Price(0.01, 1, 0, 0))
    assert price_of(table, S3, "standard") == ("STANDARD", TABLE[S3]["STANDARD"])
    for text, words in (
        ("{", "is not JSON"),
        ("[]", "must hold an object"),
        ('{"ours": {}}', "'ours' is no provider"),
        ('{"aws-s3": {"X": {}}}', "X must have gib_month"),
        ('{"aws-s3": {"X": {"gib_month": "1"}}}', "must be a number of dollars, not '1'"),
        ('{"aws-s3": {"X": {"gib_month": 1, "other": 1}}}', "X must have gib_month"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=re.escape(words)):
            read_table(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        read_table(tmp_path / "none.json")
    assert all(price.gib_month > 0 for classes in prices.TABLE.values() for price in classes.values())


def test_a_terminal_gets_lines(overview: Overview) -> None:
    text = as_text(overview)
    lines = text.splitlines()
    assert lines[0].startswith("main at file://")
    assert re.match(r"  ●[─●╳·]+▶ now$", lines[2])
    assert "╳" in lines[2]
    assert "except in 1 gap" in lines[3]
    assert any(
        re.match(rf"  {overview.backups[0].backup_id} +full .* whole, verified 1 d ago  kept \(full\)", line)
        for line in lines
    )
    assert any(line.startswith(f"  └ {overview.backups[1].backup_id}   incremental") for line in lines)
    assert "  GAP on timeline 1: 2 segments from 000000010000000000000087 on" in lines
    assert any(re.match(r"Growth: ▁.*█ 2026-10-29 to today", line) for line in lines)
    assert any(line.startswith("Cost: about $12.53 a month") for line in lines)
    assert any("FAILED: PostgreSQL <didn't> start" in line for line in lines)
    assert as_text(overview, unicode=False).isascii()


def test_the_documented_prices_are_those_of_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "report.md").read_text()
    documented: dict[str, dict[str, Price]] = {}
    provider = ""
    for row in re.findall(r"^\| (?:(`[a-z0-9-]+`) )?\|? ?([A-Za-z_, ]+) \| ([\d. |]+) \|$", page, re.M):
        provider = row[0].strip("`") or provider
        for name in row[1].split(", "):
            documented.setdefault(provider, {})[name.strip()] = Price(*map(float, row[2].split(" | ")))
    assert documented == TABLE


class Checker(HTMLParser):
    """Notes what a page holds; every element must be closed."""

    VOID = {"meta", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_stands_by_itself_and_says_everything_in_words_too(overview: Overview) -> None:
    page = as_html([overview])
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    tags = Counter(tag for tag, _ in checker.found)
    regions = [attributes for _, attributes in checker.found if attributes.get("role") == "region"]
    assert len(regions) == tags["svg"] + tags["table"], "what may be wider than the window"
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in regions)
    names = [attributes["id"] for _, attributes in checker.found if "id" in attributes]
    assert len(names) == len(set(names))
    assert tags["script"] == tags["img"] == tags["iframe"] == 0
    assert not re.search(r"(?:src|href)=\"(?!data:,|#)|url\(|@import|javascript:", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    classes = Counter(
        str(attributes.get("class")) for tag, attributes in checker.found if tag in ("rect", "path", "circle")
    )
    assert classes["gap"] == 1
    assert classes["wal"] == classes["recoverable"] == 2
    assert classes["chain"] == 11
    assert classes["drill good"] == classes["drill bad"] == 1
    bars = [attributes for _, attributes in checker.found if attributes.get("data-backup")]
    assert [attributes["data-backup"] for attributes in bars] == [entry.backup_id for entry in overview.backups]
    svgs = [attributes for tag, attributes in checker.found if tag == "svg"]
    assert [attributes["class"] for attributes in svgs] == ["timeline", "growth", "durations", "ratios"]
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in svgs)
    assert tags["caption"] == tags["table"] >= 4
    assert all(attributes.get("scope") == "col" for tag, attributes in checker.found if tag == "th")
    assert ("html", {"lang": "en"}) in checker.found
    for words in ('<b>&"nightly"\'', "failure uploading data (<script>)", "PostgreSQL <didn't> start", "about $12.53"):
        assert any(words.lower() in text.lower() for text in checker.texts), words
    within = [float(number) for number in re.findall(r' x="([-\d.]+)"', page)]
    assert min(within) >= 0
    assert max(within) <= 960


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_what_is_written_and_drawn_is_told_from_the_paper_by_weak_eyes_too() -> None:
    """Contrast as WCAG 2.2 wants it (AA): 4.5 for text, 3 for shapes, in the light and in the dark form."""
    page = as_html([Overview("s3://bucket", "main", NOW)])
    forms = [dict(re.findall(r"--(\w+): (#\w{6})", form)) for form in re.findall(r":root \{([^}]*)\}", page)]
    assert len(forms) == 2
    texts = {"ink", "soft", "good", "bad", "warn"}
    for colours in forms:
        assert texts < set(colours)
        for name, colour in colours.items():
            if name in ("paper", "card", "line"):
                continue
            for below in ("paper", "card") if name in texts else ("paper",):
                bright, dim = sorted((luminance(colour), luminance(colours[below])), reverse=True)
                assert (bright + 0.05) / (dim + 0.05) >= (4.5 if name in texts else 3), (name, below)


@pytest.mark.parametrize("moved", [timedelta(0), timedelta(days=4000)])
def test_an_archive_of_nearly_nothing_is_drawn_too(moved: timedelta) -> None:
    empty = Overview("s3://bucket", "a&b", NOW + moved)
    checker = Checker()
    checker.feed(as_html([empty, empty]))
    assert checker.open == []
    assert "no moment can be restored" in as_text(empty)
    assert Counter(tag for tag, _ in checker.found)["main"] == 1
    sections = [attributes["id"] for tag, attributes in checker.found if tag == "section"]
    assert [attributes["href"] for tag, attributes in checker.found if tag == "a"] == [f"#{name}" for name in sections]
    assert len(sections) == 2


def test_the_command_shows_all_servers_or_those_that_are_named(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{directory}"
    assert main(COMMAND, [url]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^(\w+) at file://", out, re.M) == ["main", "other"]
    assert main(COMMAND, [url, "other"]) == 0
    assert re.findall(r"^(\w+) at file://", capsys.readouterr().out, re.M) == ["other"]
    page = tmp_path / "report.html"
    assert main(COMMAND, ["--html", str(page), url, "other", "main"]) == 0
    assert capsys.readouterr().out == ""
    assert re.findall(r"<h1[^>]*>(\w+)</h1>", page.read_text()) == ["other", "main"]
    assert main(COMMAND, [url, "mian"]) == 1
    assert "is it 'main'?" in capsys.readouterr().err
    assert main(COMMAND, ["--html", "/no/such/place/x.html", url]) == 4
    assert main(COMMAND, [f"file://{tmp_path}"]) == 1
    err = capsys.readouterr().err
    assert "there is no directory /no/such/place" in err
    assert "there is no server at file://" in err


@pytest.mark.long
def test_a_browser_shows_the_page_without_a_complaint(overview: Overview, tmp_path: Path) -> None:
    if BROWSER is None:
        pytest.skip("no Chromium: apt-get install chromium")
    page, shot = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(as_html([overview]), encoding="utf-8")
    options = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=800,1500",
    ]  # fmt: skip
    for more in (
        ["--dump-dom"],
        [f"--screenshot={shot}"],
        [f"--screenshot={shot}", "--blink-settings=preferredColorScheme=0"],
    ):
        done = subprocess.run(
            [BROWSER, *options, *more, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        assert "CONSOLE" not in done.stderr, done.stderr
        if more == ["--dump-dom"]:
            dom = done.stdout
        else:
            is_light = len(more) == 1
            background, colours = pixels(shot, 800, rows=1500 if is_light else 1)
            assert (sum(background) > 600) == is_light
            if is_light:  # full backups, WAL, gaps, what can be recovered
                assert colours >= {(10, 77, 184), (91, 140, 90), (207, 34, 46), (26, 127, 55)}
    assert dom.count("<svg ") == 4
    assert dom.count('class="gap"') == 1


def pixels(path: Path, width: int, rows: int) -> tuple[tuple[int, ...], set[tuple[int, ...]]]:
    """Return the colour of a PNG's first pixel, and all that fill eight pixels side by side in its first rows."""
    import struct
    import zlib

    data = path.read_bytes()
    place, packed, channels = 8, b"", 3
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        chunk = data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            found, height, depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", chunk)
            assert (found, depth, interlace) == (width, 8, 0)
            channels = {2: 3, 6: 4}[colour_type]
        elif kind == b"IDAT":
            packed += chunk
        place += length + 12
    raw = zlib.decompress(packed)
    stride = width * channels + 1
    before = bytearray(stride - 1)
    colours: set[tuple[int, ...]] = set()
    first: tuple[int, ...] = ()
    for row in range(min(rows, height)):
        line = bytearray(raw[row * stride + 1 : (row + 1) * stride])
        unfilter(raw[row * stride], line, before, channels)
        first = first or tuple(line[:3])
        for x in range(0, width - 8, 8):
            run = [tuple(line[(x + n) * channels : (x + n) * channels + 3]) for n in range(8)]
            if len(set(run)) == 1:
                colours.add(run[0])
        before = line
    return first, colours


def unfilter(kind: int, line: bytearray, before: bytearray, channels: int) -> None:
    """Undo the filter of a row of a PNG (its specification, 9.2)."""
    for index in range(len(line)):
        left = line[index - channels] if index >= channels else 0
        up = before[index]
        corner = before[index - channels] if index >= channels else 0
        if kind == 1:
            line[index] = (line[index] + left) & 255
        elif kind == 2:
            line[index] = (line[index] + up) & 255
        elif kind == 3:
            line[index] = (line[index] + (left + up) // 2) & 255
        elif kind == 4:
            estimate = left + up - corner
            by = [abs(estimate - value) for value in (left, up, corner)]
            line[index] = (line[index] + (left, up, corner)[by.index(min(by))]) & 255
