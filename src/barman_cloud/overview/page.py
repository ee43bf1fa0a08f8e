"""A report as one HTML file: nothing is fetched from elsewhere, no script runs, and the pictures are also tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from barman_cloud.catalog.times import format_to_the_second
from barman_cloud.overview.drawing import bars, growth, text, timeline
from barman_cloud.overview.model import Overview
from barman_cloud.overview.text import cost_line, verdict
from barman_cloud.report.progress_text import clock
from barman_cloud.report.text import counted, size
from barman_cloud.verify.findings import Level

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2733; --soft: #5a6673; --line: #d5dbe1; --card: #f4f6f8;
  --full: #0a4db8; --incremental: #4d8ff0; --snapshot: #8250df; --wal: #5b8c5a; --good: #1a7f37; --bad: #cf222e;
  --warn: #956400; }
@media (prefers-color-scheme: dark) { :root { --paper: #12171d; --ink: #e6edf3; --soft: #9aa7b4; --line: #30363d;
  --card: #1b2229; --full: #8ab8ff; --incremental: #3b6fcb; --snapshot: #a371f7; --wal: #6fae6d; --good: #3fb950;
  --bad: #ff6b63; --warn: #d29922; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
.soft { color: var(--soft); } .verdict { font-size: 1.1rem; font-weight: 600; }
.verdict.good { color: var(--good); } .verdict.bad { color: var(--bad); }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; margin: 1rem 0; list-style: none; }
.cards li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .9rem;
  flex: 1 1 9rem; }
.cards b { display: block; font-size: 1.2rem; }
svg { width: 100%; min-width: 40rem; height: auto; display: block; } .scroll { overflow-x: auto; }
.label { fill: var(--soft); font: 11px ui-monospace, monospace; } .mark { fill: var(--good); font-size: 12px; }
.grid, .axis { stroke: var(--line); stroke-width: 1; }
.chain { stroke: var(--soft); fill: none; stroke-dasharray: 2 2; }
.bar.full { fill: var(--full); } .bar.incremental { fill: var(--incremental); } .bar.snapshot { fill: var(--snapshot); }
.bar.lost, .gap, .drill.bad { fill: var(--bad); } .wal, .area-wal { fill: var(--wal); }
.area-wal { stroke: var(--paper); stroke-width: 2; }
.drill { stroke: var(--paper); stroke-width: 2; }
.recoverable, .drill.good { fill: var(--good); } .area-backup { fill: var(--full); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } caption { text-align: left; color: var(--soft); }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th, td.number { white-space: nowrap; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.wide { min-width: 11rem; } td.time { min-width: 6.8rem; }
nav a { color: var(--full); margin-right: 1em; } section + section { margin-top: 4rem; }
.critical { color: var(--bad); font-weight: 600; } .warning, .unknown { color: var(--warn); font-weight: 600; }
.marks { margin-left: 1em; }
.legend { color: var(--soft); font-size: .85rem; } .legend i { display: inline-block; width: .8em; height: .8em;
  margin: 0 .3em 0 1em; border-radius: 2px; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .75rem; color: var(--soft);
  font-size: .85rem; }
@media print { body { max-width: none; } }
"""

_LEGEND = (
    ("--full", "full backup"),
    ("--incremental", "incremental"),
    ("--snapshot", "disk snapshots"),
    ("--wal", "WAL"),
    ("--bad", "gap, or a backup that is lost"),
    ("--good", "can be recovered"),
)
_SAID = 500
"""Rows of a table."""


def as_html(overviews: Sequence[Overview]) -> str:
    """Return the file's content, in UTF-8 for whoever writes it."""
    names = ", ".join(overview.server for overview in overviews)
    body = "\n".join(part for number, overview in enumerate(overviews, 1) for part in _server(overview, number))
    links = "".join(f'<a href="#server-{number}">{text(o.server)}</a>' for number, o in enumerate(overviews, 1))
    contents = f'<nav aria-label="Servers">{links}</nav>' if len(overviews) > 1 else ""
    moment = format_to_the_second(overviews[0].moment)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>Backups of {text(names)}</title>
<style>{_STYLE}</style>
</head>
<body>
{contents}
<main>
{body}
</main>
<footer>Made by barman-cloud report at {text(moment)}. Times are in the zone of the machine that made it, unless a zone
is named; the pictures' axes are in UTC.</footer>
</body>
</html>
"""


def _server(overview: Overview, number: int) -> Iterator[str]:
    good = bool(overview.recoverable) and not any(finding.level is Level.CRITICAL for finding in overview.findings)
    yield f'<section id="server-{number}" aria-labelledby="name-{number}">'
    yield f'<h1 id="name-{number}">{text(overview.server)}</h1>'
    yield f'<p class="soft">{text(overview.url)}, {text(format_to_the_second(overview.moment))}</p>'
    sentence = verdict(overview)
    yield f'<p class="verdict {"good" if good else "bad"}">{text(sentence[:1].upper() + sentence[1:])}.</p>'
    yield from _cards(overview)
    yield from _problems(overview)
    yield "<h2>What can be recovered</h2>"
    yield _scrolled("Picture of what can be recovered", timeline(overview))
    words = "".join(f'<i style="background:var({colour})"></i>{word}' for colour, word in _LEGEND)
    marks = " ✓ verified" + (" ● a drill ◆ one that failed" if overview.drills else "")
    yield f'<p class="legend">{words} <span class="marks">{marks}</span></p>'
    yield from _pictures(overview)
    yield from _tables(overview)
    yield "</section>"


def _cards(overview: Overview) -> Iterator[str]:
    newest = overview.complete[-1] if overview.complete else None
    cards = [
        ("complete backups", str(len(overview.complete))),
        ("of backups", size(overview.backup_stored)),
        ("of WAL", size(overview.wal_stored)),
        ("WAL is smaller by", f"{overview.wal_ratio:.1f}×" if overview.wal_ratio else "-"),
        ("newest backup", f"{newest.ended:%Y-%m-%d %H:%M}" if newest and newest.ended else "none"),
        ("a month, estimated", f"${overview.cost.total:,.2f}" if overview.cost else "-"),
    ]
    items = "".join(f"<li><b>{text(value)}</b> {text(label)}</li>" for label, value in cards)
    yield f'<ul class="cards">{items}</ul>'


def _problems(overview: Overview) -> Iterator[str]:
    if not overview.findings:
        return
    yield "<h2>Problems</h2>"
    rows = (
        (
            f'<td class="{finding.level.name.lower()}">{text(finding.level.name.lower())}</td>'
            f'<td class="wide">{text(finding.message)}</td><td class="wide">{text(finding.hint or "")}</td>'
        )
        for finding in overview.findings
    )
    yield _table("What isn't as it should be, and the next step", ("Level", "What", "Next step"), rows)


def _pictures(overview: Overview) -> Iterator[str]:
    if overview.growth:
        yield "<h2>Growth</h2>"
        yield _scrolled("Picture of the growth", growth(overview))
        backups, wal = size(overview.growth[-1].backups), size(overview.growth[-1].wal)
        yield f'<p class="legend">{backups} of backups, above {wal} of WAL, by the day on which they were written.</p>'
    durations = bars(overview, "durations", "Duration of each backup", lambda entry: entry.duration, clock)
    ratios = bars(
        overview, "ratios", "How much smaller each full backup is", lambda entry: entry.ratio, lambda n: f"{n:.1f}×"
    )
    for title, picture in (("Durations", durations), ("Compression", ratios)):
        if picture:
            yield f"<h2>{title}</h2>{_scrolled(f'Picture: {title}', picture)}"


def _tables(overview: Overview) -> Iterator[str]:
    yield "<h2>Backups</h2>"
    titles: tuple[str, ...] = (
        "Backup",
        "Type",
        "Status",
        "Ended",
        "Took",
        "Size",
        "Stored",
        "Ratio",
        "Verified",
        "Note",
    )
    yield _table(_said("backup", len(overview.backups)), titles, _backup_rows(overview))
    yield "<h2>WAL</h2>"
    caption = f"{counted(overview.wal_files, 'file')}, {size(overview.wal_stored)}"
    yield _table(caption, ("Timeline", "From", "To", "Segments", "Stored"), _wal_rows(overview))
    if overview.gaps:
        rows = (
            f'<td class="number">{gap.timeline}</td><td>{text(gap.first)}</td><td class="number">{gap.count}</td>'
            f"<td>{_when(gap.after)}</td><td>{_when(gap.before)}</td>"
            for gap in overview.gaps[:_SAID]
        )
        titles = ("Timeline", "First missing", "Segments", "After", "Before")
        yield f"<h3>Gaps</h3>{_table('Segments that are missing', titles, rows)}"
    if overview.drills:
        rows = (
            f"<td>{_when(drill.moment)}</td><td>{text(drill.backup_id)}</td>"
            f'<td class="{"" if drill.succeeded else "critical"}">{"recovered" if drill.succeeded else "failed"}</td>'
            f'<td class="number">{clock(drill.seconds) if drill.seconds is not None else ""}</td>'
            f'<td class="wide">{text("; ".join(drill.problems))}</td>'
            for drill in overview.drills
        )
        titles = ("When", "Backup", "Result", "Took", "Problems")
        yield f"<h2>Drills</h2>{_table('Restores that were tried', titles, rows)}"
    if cost := cost_line(overview):
        yield f"<h2>Cost</h2><p>{text(cost[:1].upper() + cost[1:])}.</p>"
        yield '<p class="soft">An estimate from list prices, without traffic that leaves the provider.</p>'


def _backup_rows(overview: Overview) -> Iterator[str]:
    for entry in reversed(overview.backups[-_SAID:]):
        kept = entry.kept and f"kept ({entry.kept})"
        note = "; ".join(part for part in (entry.name, entry.parent and f"builds on {entry.parent}", kept) if part)
        verified = f"{text(entry.verified_state)}, {entry.verified:%Y-%m-%d}" if entry.verified else "no"
        problem = f' <span class="critical">{text(entry.problem)}</span>' if entry.problem else ""
        yield (
            f"<td>{text(entry.backup_id)}</td><td>{text(entry.type)}</td><td>{text(entry.status)}</td>"
            f'<td class="time">{_when(entry.ended)}</td><td class="number">'
            f"{clock(entry.duration) if entry.duration is not None else ''}</td>"
            f'<td class="number">{size(entry.size) if entry.size is not None else ""}</td>'
            f'<td class="number">{size(entry.stored)}</td>'
            f'<td class="number">{f"{entry.ratio:.1f}×" if entry.ratio else ""}</td>'
            f'<td class="time">{verified}</td><td class="wide">{text(note)}{problem}</td>'
        )


def _wal_rows(overview: Overview) -> Iterator[str]:
    for run in overview.runs[-_SAID:]:
        yield (
            f'<td class="number">{run.timeline}</td><td>{text(run.first)}</td><td>{text(run.last)}</td>'
            f'<td class="number">{run.count}</td><td>{_when(run.began)} to {_when(run.ended)}</td>'
        )


def _table(caption: str, titles: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in titles)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _scrolled(f"Table: {caption}", table)


def _scrolled(label: str, content: str) -> str:
    """Return a part that may be wider than the window: the keyboard reaches it, and moves it by the arrows."""
    return f'<div class="scroll" role="region" aria-label="{text(label)}" tabindex="0">{content}</div>'


def _said(noun: str, count: int) -> str:
    return f"The newest {_SAID} of {counted(count, noun)}" if count > _SAID else counted(count, noun)


def _when(moment: datetime | None) -> str:
    return text(format_to_the_second(moment)) if moment else ""
