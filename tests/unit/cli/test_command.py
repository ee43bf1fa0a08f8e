"""The runner: exit codes, one line for each error, logging levels."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from barman_cloud import errors
from barman_cloud.cli import options
from barman_cloud.cli.command import Command, main
from barman_cloud.cli.main import main as umbrella
from barman_cloud.cli.plain import Arguments
from barman_cloud.report.terminal import write

log = logging.getLogger("barman_cloud")
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[\d+\] (?P<level>[A-Z]+): (?P<text>.*)")


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    yield
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


def command(run: Callable[[Arguments], int | None], **more: Any) -> Command:
    return Command("backup-list", lambda parser: options.add_common(parser, "source_url"), run, **more)


def raising(error: BaseException) -> Callable[[Arguments], int | None]:
    def run(_args: Arguments) -> int | None:
        raise error

    return run


def subclasses(kind: type[errors.BarmanCloudError]) -> Iterator[type[errors.BarmanCloudError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from subclasses(child)


@pytest.mark.parametrize("kind", list(subclasses(errors.BarmanCloudError)))
def test_every_error_ends_with_the_code_that_its_drawing_says(kind: type[errors.BarmanCloudError], capsys: Any) -> None:
    drawn = re.search(rf"\b{kind.__name__}\s+(\d+)", errors.__doc__ or "")
    assert drawn, f"{kind.__name__} is missing in the drawing"
    assert kind.exit_code == int(drawn[1])
    expected = 4 if kind is errors.ConnectivityError else kind.exit_code
    assert main(command(raising(kind("it broke\nbadly", hint="fix it"))), ["u", "s"]) == expected
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    match = LINE.fullmatch(line)
    assert match
    assert match["level"] == "ERROR"
    assert match["text"] == "it broke badly (hint: fix it)"


def test_a_lost_connection_is_2_for_the_commands_that_promise_it() -> None:
    error = errors.ConnectivityError("refused")
    assert main(command(raising(error), connectivity_exit_code=2), ["u", "s"]) == 2


class PanicException(BaseException):
    """What pyo3 raises when a Rust library panics: no ``Exception``, with a text of several lines."""


@pytest.mark.parametrize(
    "error",
    [
        PanicException("called `Result::unwrap()`\nstack backtrace: …"),
        PanicException(),
        BaseExceptionGroup("g", [KeyError()]),
    ],
)
@pytest.mark.parametrize("flags", [[], ["-v"]])
def test_what_is_no_exception_is_4_and_one_line_too(error: BaseException, flags: list[str], capsys: Any) -> None:
    assert main(command(raising(error)), [*flags, "u", "s"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert f"unexpected {type(error).__name__}" in line
    assert "backtrace" not in line


def test_an_exit_and_an_interrupt_are_no_errors() -> None:
    with pytest.raises(SystemExit):
        main(command(raising(SystemExit(3))), ["u", "s"])
    assert main(command(raising(KeyboardInterrupt()), interrupt_exit_code=7), ["u", "s"]) == 7


@pytest.mark.parametrize("error", [ValueError("odd"), OSError(28, "No space left on device", "/x"), RuntimeError()])
def test_anything_else_is_4_and_one_line(error: Exception, capsys: Any) -> None:
    assert main(command(raising(error)), ["u", "s"]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_trace_is_printed_only_at_debug(capsys: Any) -> None:
    main(command(raising(ValueError("odd"))), ["u", "s", "-v"])
    assert "Traceback" not in capsys.readouterr().err
    log.handlers.clear()
    main(command(raising(ValueError("odd"))), ["u", "s", "-vv"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "levels"),
    [
        ([], "WARNING ERROR"),
        (["-v"], "INFO WARNING ERROR"),
        (["-vvv"], "DEBUG INFO WARNING ERROR"),
        (["-q"], "ERROR"),
        (["-qq"], ""),
    ],
)
def test_levels(flags: list[str], levels: str, capsys: Any) -> None:
    def run(_args: Arguments) -> None:
        for level in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger("barman_cloud.x"), level)("a line")
        logging.getLogger("botocore").error("not ours")

    assert main(command(run), [*flags, "u", "s"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "not ours" not in line]
    assert [LINE.fullmatch(line)["level"] for line in lines] == levels.split()  # type: ignore[index]


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1", "utf-8"])
def test_a_name_that_the_terminal_lacks_is_printed_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding=encoding))
    name = "über €, \udce9"
    assert main(command(lambda _args: write(f"{name}\n")), ["u", "s"]) == 0
    assert terminal.getvalue() == f"{name}\n".encode(encoding, "backslashreplace")


def test_a_command_knows_whether_the_umbrella_runs_it() -> None:
    seen: list[bool] = []
    for prog in (None, "barman-cloud backup-list"):
        main(command(lambda args: seen.append(args.is_umbrella)), ["u", "s"], prog=prog)
    assert seen == [False, True]


def test_umbrella_knows_the_commands(capsys: Any) -> None:
    assert umbrella(["--version"]) == 0
    assert capsys.readouterr().out.startswith("barman-cloud 4.")
    assert umbrella(["--help"]) == 0
    assert "wal-restore" in capsys.readouterr().out
    assert umbrella(["nonsense"]) == 3
    assert umbrella(["backup-lst"]) == 3
    assert "is it 'backup-list'?" in capsys.readouterr().err
    assert umbrella([]) == 3
    with pytest.raises(SystemExit) as end:
        umbrella(["backup-list", "--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("barman-cloud backup-list 4.")
