"""The text of ``archive_command``, read as the server's shell will (PostgreSQL docs, "archive_command")."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

PROGRAM = "barman-cloud-wal-archive"
_UMBRELLA = "barman-cloud"
_HIDES = (
    (r"\|\|\s*(?:/bin/|/usr/bin/)?(?:true|:|exit\s+0|echo\b.*)\s*$", "ends in success whatever the archiver says"),
    (r";\s*(?:/bin/|/usr/bin/)?(?:true|:|exit\s+0|echo\b.*)\s*$", "ends in success whatever the archiver says"),
    (r"(?<![&>])&\s*$", "is sent to the background: PostgreSQL takes the file for archived before it is"),
    (r"(?<!\|)\|(?!\|)", "is a pipe, whose exit code is that of its last program"),
)
"""Ways to tell PostgreSQL that a file is archived when it isn't, with what is wrong with them."""


class ArchiveCall(NamedTuple):
    """What an ``archive_command`` runs."""

    program: str | None = None
    """The word that names our program; None if it runs none of ours."""
    words: tuple[str, ...] = ()
    """What follows, with ``%p`` as it is written."""
    is_umbrella: bool = False
    """It is a subcommand of ``barman-cloud``, which takes a name of the configuration in place of a URL."""
    configuration: str | None = None
    """The file that ``-c`` names."""
    problems: tuple[str, ...] = ()
    """What is wrong whatever the words say; each completes the sentence "archive_command …"."""


def read_archive_command(text: str) -> ArchiveCall:
    """Return which program of ours the text runs, with what, and what is wrong with the text itself."""
    problems = [why for pattern, why in _HIDES if re.search(pattern, text)]
    problems = list(dict.fromkeys(problems))
    plain = text.replace("%%", "")
    if unknown := sorted(set(re.findall(r"%[^pf]", plain))):
        problems.append(f"holds {', '.join(unknown)}, which means nothing to PostgreSQL; write %% for a percent sign")
    if "%p" not in plain:
        problems.append("doesn't hold %p, so the program is never told which file")
    if "'%p'" not in text and '"%p"' not in text and re.search(r"[^\s\"']%p|%p[^\s\"']", text):
        problems.append("has %p glued to other text; write it as a word of its own")
    try:
        words = shlex.split(text)
    except ValueError as error:
        return ArchiveCall(problems=(*problems, f"can't be read by a shell ({str(error).lower()})"))
    for number, word in enumerate(words):
        name = word.rpartition("/")[2]
        rest = words[number + 1 :]
        if name == _UMBRELLA:
            file = None
            if rest[:1] in (["-c"], ["--config"]):
                file, rest = "".join(rest[1:2]), rest[2:]
            if rest[:1] == ["wal-archive"]:
                return ArchiveCall(word, tuple(_own(rest[1:])), True, file, tuple(problems))
        elif name == PROGRAM:
            return ArchiveCall(word, tuple(_own(rest)), problems=tuple(problems))
    return ArchiveCall(problems=tuple(problems))


def _own(words: list[str]) -> list[str]:
    """Return the words up to where another command begins, or output goes elsewhere."""
    ends = (
        number
        for number, word in enumerate(words)
        if word in ("&&", "||", "|", ";", "&") or re.match(r"\d*[<>]", word) or word.endswith(";")
    )
    return words[: next(ends, len(words))]
