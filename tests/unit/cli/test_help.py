"""``--help`` and the manual pages: two examples for each command, which its parser takes, and where to read on."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from scripts import man_pages

from barman_cloud.cli.command import load, main, parse
from barman_cloud.cli.commands import SUMMARIES
from barman_cloud.cli.examples import EXAMPLES
from barman_cloud.cli.lines import judge
from tests.support.privileges import PROJECT


def test_every_command_has_two_examples() -> None:
    assert {name: len(examples) for name, examples in EXAMPLES.items()} == dict.fromkeys(SUMMARIES, 2)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_parser_takes_the_examples(name: str) -> None:
    for _, words in EXAMPLES[name]:
        words = words.replace("%f", "000000010000000000000042").replace("%p", "pg_wal/000000010000000000000042")
        wrong, args = judge(name, shlex.split(words))
        assert wrong is None, words
        command = load(name)
        if command.validate and name != "backup":
            command.validate(parse(command, shlex.split(words)))
        assert args.server_name in ("main", "all", ["main"], [])


@pytest.mark.parametrize("name", SUMMARIES)
def test_help_ends_with_them_and_an_address_that_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    prog = man_pages.program(name)
    with pytest.raises(SystemExit) as ended:
        main(load(name), ["--help"], prog=prog)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.count(f"    {prog} ") == 2
    anchor = re.search(r"docs/reference/commands\.md#(\S+)\n$", text)
    assert anchor is not None
    headings = re.findall(r"^## (.*)$", (PROJECT / "docs" / "reference" / "commands.md").read_text(), re.MULTILINE)
    assert anchor[1] in [heading.replace(" ", "-") for heading in headings]


def test_every_option_is_on_its_manual_page() -> None:
    for name in SUMMARIES:
        text = man_pages.page(name)
        parser_options = [flag for action in _parser(name)._actions for flag in action.option_strings]
        for flag in parser_options:
            assert f"\\fB{flag.replace('-', chr(92) + '-')}\\fR" in text, (name, flag)
        assert re.findall(r"^\.SH (.*)$", text, re.MULTILINE) == [
            "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO",
        ]  # fmt: skip


def _parser(name: str):  # type: ignore[no-untyped-def]
    from barman_cloud.cli.parser import Parser

    parser = Parser()
    load(name).add_arguments(parser)
    return parser


def test_a_manual_page_is_troff(tmp_path: Path) -> None:
    program = shutil.which("mandoc") or shutil.which("groff")
    if program is None:
        pytest.skip("neither mandoc nor groff is installed")
    for name, text in man_pages.pages().items():
        (tmp_path / name).write_text(text)
        words = ["-T", "lint", "-W", "error"] if program.endswith("mandoc") else ["-man", "-ww", "-z", "-Tutf8"]
        done = subprocess.run([program, *words, tmp_path / name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr + done.stdout) == (0, "")


def test_what_troff_would_act_on_is_escaped() -> None:
    assert man_pages.roff(".a\\b-c\n'd") == "\\&.a\\eb\\-c\n\\&'d"
