"""Completion of command lines for bash, zsh and fish.

The shells' scripts are short: they hand the line to ``barman-cloud __complete``, which reads the same declarations as
the parsers, asks the configuration for servers, and lists one folder of the bucket for servers and backup ids. What
can't be found out within a few seconds isn't offered; nothing is ever said on stderr.
"""

from __future__ import annotations

import re
import shlex
import sys
from argparse import Action
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from barman_cloud.cli.commands import PROGRAMS, SHORT, SUMMARIES
from barman_cloud.cli.parser import Parser
from barman_cloud.cli.plain import Arguments
from barman_cloud.errors import BarmanCloudError
from barman_cloud.report.terminal import printable, write

SHELLS = ("bash", "zsh", "fish")
FILES = ":files"
"""What tells a shell to complete names of files by itself."""
_UMBRELLA = "barman-cloud"
_SECONDS = 3
_MOST_IDS = 200
_PLAIN = r"[A-Za-z0-9_.:/@%+=,-]+"
_FILE_ARGUMENTS = ("recovery_dir", "wal_path", "wal_dest", "spool_dir", "staging_directory", "prometheus", "tablespace")
_STORE = ("cloud_provider", "endpoint_url", "aws_profile", "addressing_style", "azure_credential")
_SERVER = "Run one of Barman's server commands."
_SHORTCUTS = ("latest", "oldest", "last-full")


class Candidate(NamedTuple):
    """A word that could come next, and what a shell may show beside it."""

    word: str
    description: str = ""


def main(arguments: list[str]) -> int:
    """Run ``barman-cloud completion SHELL``: print the script of a shell."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        print(f"barman-cloud completion: error: name a shell: {', '.join(SHELLS)}", file=sys.stderr)
        return 3
    write(script(arguments[0]))
    return 0


def script(shell: str) -> str:
    """Return the completion script of one of :data:`SHELLS`."""
    from importlib.resources import files

    text = files("barman_cloud.cli").joinpath(f"completions/barman-cloud.{shell}").read_text("utf-8")
    programs = " ".join([_UMBRELLA, *(f"{_UMBRELLA}-{name}" for name in PROGRAMS)])
    return text.replace("@PROGRAMS@", programs)


def answer(line: str) -> int:
    """Run ``barman-cloud __complete LINE``: print what could stand where the line ends, one word in each line."""
    with suppress(Exception):  # a shell that waits for words must not get anything else
        for word, description in candidates(line):
            # A name out of a bucket that a shell would act on isn't offered: it would be on the user's line unquoted.
            if re.fullmatch(_PLAIN, word):
                print(f"{word}\t{printable(description, 'ascii')}" if description else word)
    return 0


def candidates(line: str) -> list[Candidate]:
    """Return the words that could be completed at the end of ``line``."""
    words = _split(line)
    current = words.pop() if words else ""
    if not words:
        return []
    program, rest = words[0].rpartition("/")[2], words[1:]
    file = None
    if program == _UMBRELLA:
        if rest[:1] in (["-c"], ["--config"]):
            if len(rest) == 1:
                return [Candidate(FILES)]
            file, rest = rest[1], rest[2:]
        if not rest:
            known = {**SUMMARIES, "server": _SERVER, "completion": "Print the completion script of a shell."}
            return _starting(current, (Candidate(name, summary) for name, summary in known.items()))
        name, rest = SHORT.get(rest[0], rest[0]), rest[1:]
        if name == "completion":
            return _starting(current, map(Candidate, SHELLS)) if not rest else []
        if name == "server":
            return _server_command(rest, current, file)
    else:
        name = program.removeprefix(f"{_UMBRELLA}-")
    if name not in SUMMARIES:
        return []
    return _Line(name, rest, file).complete(current)


def _server_command(words: list[str], current: str, file: str | None) -> list[Candidate]:
    """Return what could come next of one of Barman's commands, behind its global options."""
    from barman_cloud.cli.server import registry

    while words and words[0].startswith("-"):
        option, words = words[0], words[1:]
        if option in ("-c", "--config"):
            if not words:
                return [Candidate(FILES)]
            file = words[0]
        words = words[1:] if option in ("-c", "--config", "-f", "--format", "--log-level") else words
    if not words:
        known = registry.COMMANDS.items()
        return _starting(current, (Candidate(name, entry.summary) for name, entry in known if entry.summary))
    name = registry.find(words[0])
    return _ServerLine(name, words[1:], file).complete(current) if name else []


class _Line:
    """A command line of one command up to the word that is completed."""

    def __init__(self, name: str, words: list[str], file: str | None) -> None:
        from barman_cloud.cli.command import load

        self._command = load(name)
        self._words = words
        self._file = file
        self._parser = Parser()
        self._command.add_arguments(self._parser)

    def complete(self, current: str) -> list[Candidate]:
        action = self._expecting()
        if action is None and current.startswith("-") and "=" in current:
            flag, _, value = current.partition("=")
            found = self._parser._option_string_actions.get(flag)
            values = self._values(found, value) if found else []
            return [candidate._replace(word=f"{flag}={candidate.word}") for candidate in values]
        if action is not None:
            return self._values(action, current)
        if current.startswith("-"):
            return self._flags(current)
        return self._positional(current)

    def _expecting(self) -> Action | None:
        """Return the option whose value comes next."""
        if not self._words or not self._words[-1].startswith("-"):
            return None
        action = self._parser._option_string_actions.get(self._words[-1])
        return action if action is not None and action.nargs != 0 else None

    def _flags(self, current: str) -> list[Candidate]:
        actions = self._parser._option_string_actions
        given = {id(actions[word]) for word in self._words if word in actions}
        return [
            Candidate(flag, (action.help or "").replace("%%", "%").partition("\n")[0])
            for flag, action in actions.items()
            if flag.startswith(current) and (flag.startswith("--") or current == "-")
            if id(action) not in given or type(action).__name__ in ("_AppendAction", "_CountAction")
        ]

    def _values(self, action: Action, current: str) -> list[Candidate]:
        if action.choices:
            return _starting(current, (Candidate(str(choice)) for choice in action.choices))
        if action.dest in ("backup_id", "incremental"):
            return self._backups(current, self._positionals_given())
        return [Candidate(FILES)] if action.dest in _FILE_ARGUMENTS or "file" in action.dest else []

    def _positionals_given(self) -> list[str]:
        from barman_cloud.cli.names import walk

        return [self._words[number] for number, option in walk(self._parser, self._words) if option is None]

    def _positional(self, current: str) -> list[Candidate]:
        given = self._positionals_given()
        names = [action.dest for action in self._parser._actions if not action.option_strings]
        by_name = bool(given) and "://" not in given[0]
        place = len(given) + (1 if by_name else 0)
        if not given:
            return _starting(current, map(Candidate, self._configured()))
        if place >= len(names):
            return []
        if names[place] == "server_name":
            return _starting(current, map(Candidate, self._servers(given[0])))
        if names[place] == "backup_id":
            return self._backups(current, given)
        return [Candidate(FILES)] if names[place] in _FILE_ARGUMENTS else []

    # Configuration and catalog ------------------------------------------------------------------------------------

    def _configured(self) -> list[str]:
        """Return the servers that can be named without a URL."""
        import os

        from barman_cloud.config.reader import find_file, load

        if self._file is None and (url := os.environ.get("BARMAN_CLOUD_URL")):
            return self._servers(url)
        return load(self._file).names if find_file(self._file) else []

    def _servers(self, url: str) -> list[str]:
        from barman_cloud.catalog.layout import Layout
        from barman_cloud.cli.options import store_from

        args = self._arguments([url, "x"])
        with store_from(args) as store:
            prefix = Layout.of(store.url, "x").root.removesuffix("x/")
            return [folder[len(prefix) :].rstrip("/") for folder in store.list_level(prefix).folders]

    def _backups(self, current: str, given: list[str]) -> list[Candidate]:
        """Return the newest ids first, then the shortcuts."""
        from barman_cloud.cli.options import layout_from, store_from

        args = self._arguments(given)
        with store_from(args) as store:
            layout = layout_from(args, store)
            folders = store.list_level(layout.base_dir).folders
        ids = sorted((folder[len(layout.base_dir) :].rstrip("/") for folder in folders), reverse=True)
        return _starting(current, map(Candidate, [*ids[:_MOST_IDS], *_SHORTCUTS]))

    def _arguments(self, given: list[str]) -> Arguments:
        """Return the values of what says which store and server the line is about."""
        from barman_cloud.cli.lines import judge_by
        from barman_cloud.cli.names import walk, with_configuration
        from barman_cloud.cli.options import add_common
        from barman_cloud.deadline import Deadline

        words = with_configuration(self._command, [*self._store_options(self._words), *given], self._file)
        place = [words[number] for number, option in walk(self._parser, words) if option is None][:2]
        wrong, args = judge_by(lambda parser: add_common(parser, "url"), [*self._store_options(words), *place])
        if wrong:
            raise BarmanCloudError(wrong)
        args.deadline = Deadline(_SECONDS, total=True)
        return args

    def _store_options(self, line: list[str]) -> list[str]:
        """Return the options of a line that say which store it is, with their values."""
        words, found = iter(line), []
        for word in words:
            flag, equals, _ = word.partition("=")
            action = self._parser._option_string_actions.get(flag) if word.startswith("-") else None
            if action is None or action.nargs == 0:
                continue
            value = [] if equals else [next(words, "")]
            if action.dest in _STORE:
                found += [word, *value]
        return found


class _ServerLine(_Line):
    """That of one of Barman's commands: its servers are those of the configuration, and no URL comes first."""

    def __init__(self, name: str, words: list[str], file: str | None) -> None:
        from barman_cloud.cli.server import registry

        super().__init__("backup-show", words, file)
        self._parser = Parser()
        registry.functions(name)[0](self._parser)

    def _positional(self, current: str) -> list[Candidate]:
        given = self._positionals_given()
        names = [action.dest for action in self._parser._actions if not action.option_strings]
        if len(given) >= len(names):
            return []
        if names[len(given)] == "server_name":
            return _starting(current, map(Candidate, self._configured()))
        if names[len(given)] == "backup_id":
            return self._backups(current, given)
        return [Candidate(FILES)] if "director" in names[len(given)] or "path" in names[len(given)] else []

    def _backups(self, current: str, given: list[str]) -> list[Candidate]:
        return _Line("backup-show", [], self._file)._backups(current, given[:1])


def _starting(current: str, known: Iterable[Candidate]) -> list[Candidate]:
    return [candidate for candidate in known if candidate.word.startswith(current)]


def _split(line: str) -> list[str]:
    """Return the words of an unfinished line; the last one, maybe empty, is where the cursor is."""
    words = list(_lex(line))
    if not line or line[-1].isspace():
        words.append("")
    return words


def _lex(line: str) -> Iterator[str]:
    for ending in ("", "'", '"'):
        with suppress(ValueError):
            yield from shlex.split(line + ending)
            return
    yield from line.split()
