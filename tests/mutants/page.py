"""The score in ``docs/explanation/testing.md``."""

from __future__ import annotations

from collections.abc import Mapping

from tests.mutants.mutant import ROOT, Mutant

PAGE = ROOT / "docs/explanation/testing.md"
BEGIN = "<!-- mutants: begin -->\n"
END = "<!-- mutants: end -->\n"


def write(noticed: Mapping[Mutant, bool]) -> None:
    """Put the score of a run over the whole table between the marks."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + section(noticed) + END + after)


def section(noticed: Mapping[Mutant, bool]) -> str:
    """Return the table of packages and the list of survivors."""
    lines = ["", "| | mutants | noticed | explained | missed |", "| --- | --- | --- | --- | --- |"]
    packages = sorted({_package(mutant) for mutant in noticed})
    for package in (*packages, ""):
        of_package = [mutant for mutant in noticed if not package or _package(mutant) == package]
        seen = sum(noticed[mutant] for mutant in of_package)
        excused = sum(bool(mutant.excuse) and not noticed[mutant] for mutant in of_package)
        name = f"`{package}`" if package else "all"
        missed = len(of_package) - seen - excused
        lines.append(
            f"| {name} | {len(of_package)} | {seen} ({100 * seen / len(of_package):.0f} %) | {excused} | {missed} |"
        )
    lines += ["", "What isn't noticed:", ""]
    for mutant, is_noticed in noticed.items():
        if not is_noticed:
            lines.append(
                f"* `{mutant.file}`: {mutant.harm}. {mutant.excuse[:1].upper() + mutant.excuse[1:] or 'Not explained'}."
            )
    return "\n".join([*lines, "", ""])


def _package(mutant: Mutant) -> str:
    first = mutant.file.partition("/")[0]
    return mutant.file if first in ("store", "cli") else f"{first}/"
