"""Mistakes outside the packages above that went unnoticed once."""

from __future__ import annotations

from tests.mutants.mutant import of

MUTANTS = (
    *of(
        "cli/command.py",
        ("unit/cli/test_broken_pipe.py",),
        [
            (
                "        give_up_stdout()  # the reader of our output went away\n        return 4",
                "        give_up_stdout()  # the reader of our output went away\n        return 0",
                "output that nobody has read is a success",
            ),
        ],
    ),
    *of(
        "store/reading.py",
        ("store/test_short_ranges.py",),
        [
            (
                "    if sum(map(len, pieces)) != min(end, size) - start:\n",
                "    if False:\n",
                "a range that is too short is taken for whole",
            ),
            (
                "    if etag is not None and version != etag:\n",
                "    if False:\n",
                "a range of another version is taken",
            ),
        ],
    ),
)
