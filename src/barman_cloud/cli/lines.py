"""Command lines that somebody wrote down: in ``archive_command``, in a page. Are they understood?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from barman_cloud.cli.command import load
from barman_cloud.cli.parser import Parser
from barman_cloud.cli.plain import Arguments

if TYPE_CHECKING:
    from barman_cloud.postgres.archive_command import ArchiveCall


class _Refused(Exception):
    pass


class _Judge(Parser):
    """A parser that says what is wrong in an exception, and ends nothing."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _Refused((message or "").strip())

    def error(self, message: str) -> NoReturn:
        raise _Refused(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        pass


def judge(name: str, words: list[str]) -> tuple[str | None, Arguments]:
    """Return why the command ``name`` doesn't understand these words, or None, and the values of those it does."""
    return judge_by(load(name).add_arguments, words)


def judge_by(declare: Callable[[Parser], object], words: list[str]) -> tuple[str | None, Arguments]:
    """The same by other declarations than those of a whole command."""
    parser = _Judge()
    declare(parser)
    try:
        return None, parser.parse_args(words, Arguments())
    except _Refused as refusal:
        return str(refusal) or None, Arguments()


def judge_archive_line(call: ArchiveCall) -> tuple[str | None, str | None, str | None]:
    """Return what is wrong with the words of a ``wal-archive`` line (None: nothing), its URL, and its server."""
    from barman_cloud.cli.names import with_configuration
    from barman_cloud.cli.options import url_from
    from barman_cloud.errors import BarmanCloudError

    words = list(call.words)
    if call.is_umbrella:
        try:
            words = with_configuration(load("wal-archive"), words, call.configuration)
        except BarmanCloudError as error:
            return str(error), None, None
    wrong, args = judge("wal-archive", words)
    return (wrong, None, None) if wrong else (None, url_from(args), args.server_name)
