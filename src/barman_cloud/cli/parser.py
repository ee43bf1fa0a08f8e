"""The parser of the original commands' grammar: GNU-like, with usage errors that end with 3."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from barman_cloud.cli import values
from barman_cloud.logs import escape_controls

if TYPE_CHECKING:
    from collections.abc import Sequence


class Parser(argparse.ArgumentParser):
    """GNU-like parser of the original commands: usage errors end with 3, help is only ``--help``.

    Options that the original commands don't have are added with :meth:`add_extension`; they must be spelled out, so
    that no abbreviation that works today becomes ambiguous.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._extensions: set[str] = set()
        self.extra_positional: str | None = None
        """A trailing optional positional: filled from what argparse, before Python 3.13, finds behind later options."""
        self._words: list[str] = []
        """The command line."""
        self.command: str | None = None
        """The command whose examples follow the options in the help."""
        kwargs.setdefault("add_help", False)
        kwargs.setdefault("formatter_class", _HelpFormatter)
        super().__init__(*args, **kwargs)
        self.register("action", "tag_records", _TagRecords)

    def add_extension(
        self, *flags: str, group: argparse._ActionsContainer | None = None, **kwargs: Any
    ) -> argparse.Action:
        """Declare an option of ours that can't be abbreviated."""
        self._extensions.update(flags)
        return (group or self).add_argument(*flags, **kwargs)

    def format_help(self) -> str:
        text = super().format_help()
        if self.command is None:
            return text
        from barman_cloud.cli.examples import help_text

        return text + help_text(self.command, self.prog)

    def error(self, message: str) -> NoReturn:
        """End with 3 and one line: what is wrong comes before what all the options are."""
        is_about_unknown = message.startswith("unrecognized arguments")
        unknown = message.split() if is_about_unknown else self._unknown_options()
        parts = [message] if is_about_unknown else [message, *(f"unknown option {flag}" for flag in unknown)]
        if close := self._close_to(unknown):
            parts.append(f"did you mean {close}?")
        text = "; ".join(parts)
        self.exit(3, f"{self.prog}: error: {escape_controls(text)} ('{self.prog} --help' lists the options)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help and version; argparse's own takes no notice of an output that can't be written."""
        if file is not None and file is sys.stderr:
            file.write(message)
            return
        from barman_cloud.report import terminal

        try:
            terminal.write(message)
        except OSError as error:
            terminal.give_up_stdout()
            print(f"{self.prog}: {terminal.STDOUT}: {error.strerror or error}", file=sys.stderr)
            raise SystemExit(4) from None

    def _unknown_options(self) -> list[str]:
        """Return the long options on the command line that are none, not even abbreviated."""
        words = self._words[: self._words.index("--")] if "--" in self._words else self._words
        flags = dict.fromkeys(word.partition("=")[0] for word in words if word.startswith("--"))
        return [flag for flag in flags if not any(known.startswith(flag) for known in self._option_string_actions)]

    def _close_to(self, words: Sequence[str]) -> str | None:
        """Return the option that is closest to one of the long options in ``words``, which aren't known."""
        from difflib import get_close_matches

        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        found = (get_close_matches(flag, known, 1) for flag in flags if flag not in known)
        return next((close[0] for close in found if close), None)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        values, rest = self.parse_known_args(args, namespace)
        missing = self.extra_positional
        if len(rest) == 1 and not rest[0].startswith("-") and missing and getattr(values, missing) is None:
            setattr(values, missing, rest.pop())
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return values

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        candidates: list[Any] = super()._get_option_tuples(option_string)
        return [found for found in candidates if not self._extensions.intersection(found[0].option_strings)]


class _TagRecords(argparse.Action):
    """``--tags k,v k,v``: a malformed record ends with 3 and one plain line, as in the original."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, texts: Any, flag: str | None = None) -> None:
        try:
            setattr(namespace, self.dest, [values.tag_record(text) for text in texts])
        except ValueError as error:
            parser.exit(3, f"{parser.prog}: {flag}: {error}\n")


class _HelpFormatter(argparse.HelpFormatter):
    """Knows the width of the terminal without shutil, which argparse would load, and bz2 and lzma with it."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, width=_terminal_width() - 2, **kwargs)


def _terminal_width() -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns) or 80
    except (OSError, ValueError):
        return 80
