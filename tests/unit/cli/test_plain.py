"""The quick parser against argparse: what it accepts, it understands in the same way."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.cli.command import parse
from barman_cloud.cli.parser import Parser
from barman_cloud.cli.plain import Arguments, PlainParser
from tests.unit.cli.contract import COMMANDS, COMMON

ODD = ["", "-", "--", "-v", "-vv", "-q", "--help", "-V", "--lz", "--lz4=1", "--tag", "a,b", "--tags", "--parallel", "8"]
ODD += ["-p8", "--spool-dir", "/s", "--overwrite", "--overwri", "-1", "--aws-profile=", "=x", "surplus", "--nonsense"]


def plain(name: str, words: list[str]) -> Arguments | None:
    parser = PlainParser()
    import_module(f"barman_cloud.cli.{name.replace('-', '_')}").COMMAND.add_arguments(parser)
    return parser.parse(words)


def full(name: str, words: list[str]) -> Arguments:
    parser = Parser(prog=name)
    import_module(f"barman_cloud.cli.{name.replace('-', '_')}").COMMAND.add_arguments(parser)
    parsed: Arguments = parser.parse_args(words, Arguments())
    return parsed


@st.composite
def command_lines(draw: Any) -> tuple[str, list[str]]:
    """A command, and its words with options of its table and oddities between them, in any order."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    positionals, rows = COMMANDS[name]
    pieces = [[word] for word in positionals]
    for flags, _, _, sample, _ in draw(st.lists(st.sampled_from([*COMMON, *rows]), max_size=5)):
        flag = draw(st.sampled_from(flags))
        spellings = [[flag]] if sample is None else [[flag, sample], [f"{flag}={sample}"], [f"{flag}{sample}"]]
        pieces.append(draw(st.sampled_from(spellings)))
    pieces += [[word] for word in draw(st.lists(st.sampled_from(ODD), max_size=2))]
    return name, [word for piece in draw(st.permutations(pieces)) for word in piece]


@given(command_lines())
def test_what_it_accepts_means_the_same_to_argparse(line: tuple[str, list[str]]) -> None:
    name, words = line
    accepted = plain(name, words)
    if accepted is not None:
        assert accepted == full(name, words)


def test_the_lines_of_archive_and_restore_commands_are_plain() -> None:
    common = ["--cloud-provider", "aws-s3", "--endpoint-url", "https://s3", "-P", "p", "s3://b/p", "main"]
    words = ["--lz4", "--compression-level", "low", "--parallel", "8", "--spool-dir=/s", "-v", *common, "pg_wal/0"]
    args = plain("wal-archive", words)
    assert args is not None
    assert (args.compression, args.compression_level, args.parallel, args.spool_dir) == ("lz4", "low", 8, "/s")
    assert (args.destination_url, args.server_name, args.wal_path, args.verbose) == ("s3://b/p", "main", "pg_wal/0", 1)
    assert plain("wal-restore", ["--no-partial", *common, "000000010000000000000001", "pg_wal/RECOVERYXLOG"])


@pytest.mark.parametrize(
    "words",
    [
        ["u", "s", "--lz4", "--zstd", "w"],
        ["u"],
        ["u", "s", "w", "x"],
        ["u", "s", "--cloud-provider", "ibm", "w"],
        ["u", "s", "w", "--parallel"],
        ["u", "s", "w", "--parallel", "many"],
        ["u", "s", "w", "--help"],
    ],
)
def test_what_is_wrong_or_unusual_is_left_to_argparse(words: list[str]) -> None:
    assert plain("wal-archive", words) is None


def test_argparse_has_the_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    command = import_module("barman_cloud.cli.wal_archive").COMMAND
    with pytest.raises(SystemExit) as end:
        parse(command, ["u", "s", "w", "--parallel", "many"])
    assert end.value.code == 3
    assert "'many' is not an integer" in capsys.readouterr().err


def test_extensions_exclude_each_other_as_well() -> None:
    assert plain("backup", ["u", "s", "--verify-checksums"]) is not None
    assert plain("backup", ["u", "s", "--verify-checksums", "--no-verify-checksums"]) is None
