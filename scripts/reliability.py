"""Write the figures of a run of ``make torture`` into docs/explanation/reliability.md.

``python -m scripts.reliability [torture.json]``; how many inputs ``make fuzz`` has fed, and where it wrote that
(``.fuzz/inputs``), is told beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from barman_cloud.report.text import size

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "reliability.md"
INPUTS = Path(__file__).parent.parent / ".fuzz" / "inputs"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def figures(report: dict[str, Any], day: date, inputs: int = 0) -> str:
    """Return the lines about one run; ``inputs`` is how many hostile ones readers were fed, 0 if that isn't known."""
    cases: dict[str, int] = report["cases"]
    findings: list[dict[str, Any]] = report["findings"]
    minutes = round(report["seconds"] / 60)
    lines = [
        f"Seed {report['seed']}, {minutes} minutes on {report['processors']} processors, {day.isoformat()}:",
        "",
        "| disturbance | cases |",
        "| --- | ---: |",
        *(f"| {kind} | {count} |" for kind, count in sorted(cases.items())),
        f"| all | {sum(cases.values())} |",
        "",
    ]
    if compared := report.get("compared_bytes"):
        fed = f" Readers were fed {inputs:,} hostile inputs by the last `make fuzz`." if inputs else ""
        lines += [f"{size(compared)} of WAL and of restored files were compared with what they had to be.{fed}", ""]
    if not findings:
        return "\n".join([*lines, "Everything held."]) + "\n"
    lines.append(
        f"In {len(findings)} of them something didn't hold; `python -m tests.torture --case …` runs one again:"
    )
    lines.append("")
    for finding in findings:
        lines.append(f"* `{finding['case']}`: {' / '.join(finding['problems'])}")
    return "\n".join(lines) + "\n"


def with_figures(page: str, text: str) -> str:
    """Return the page with other figures; ValueError if it has no place for them."""
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:begin] + text + page[end:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", nargs="?", type=Path, default=Path("torture.json"))
    path: Path = parser.parse_args().report
    try:
        report = json.loads(path.read_text())
    except OSError as error:
        print(f"{path}: {error.strerror}: run 'make torture' first", file=sys.stderr)
        return 1
    day = date.fromtimestamp(path.stat().st_mtime)
    PAGE.write_text(with_figures(PAGE.read_text(), figures(report, day, fed(INPUTS))))
    return 0


def fed(path: Path) -> int:
    """Return the sum of the numbers in a file of lines ``TARGET NUMBER``; 0 if there is none."""
    return sum(int(line.split()[-1]) for line in path.read_text().splitlines()) if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
