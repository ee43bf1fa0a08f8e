"""Our parsers against the table of the original commands' options."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from barman_cloud.cli.parser import Parser
from tests.unit.cli.contract import COMMANDS, COMMON, Row

ROWS = [(name, row) for name, (_, rows) in COMMANDS.items() for row in [*COMMON, *rows]]


def parser_of(name: str) -> Parser:
    command = import_module(f"barman_cloud.cli.{name.replace('-', '_')}").COMMAND
    parser = Parser(prog=f"barman-cloud-{name}")
    command.add_arguments(parser)
    return parser


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name}{row[0][-1]}" for name, row in ROWS])
def test_option_is_accepted_in_every_spelling_and_place(name: str, row: Row) -> None:
    flags, destination, default, sample, value = row
    words = COMMANDS[name][0]
    parser = parser_of(name)
    assert getattr(parser.parse_args(words), destination) == default
    for flag in flags:
        spellings = [[flag]] if sample is None else [[flag, sample]]
        if sample is not None:
            spellings.append([f"{flag}={sample}"] if flag.startswith("--") else [f"{flag}{sample}"])
        for spelling in spellings:
            # A many-valued option swallows positionals behind it; argparse itself needs '--' there.
            before = [*spelling, "--", *words] if flag.endswith("tags") and words[-1][0] != "-" else [*spelling, *words]
            for argv in (before, [*words, *spelling]):
                assert getattr(parser.parse_args(argv), destination) == value, argv


@pytest.mark.parametrize("name", COMMANDS)
def test_options_may_stand_between_positionals(name: str) -> None:
    words = COMMANDS[name][0]
    expected = parser_of(name).parse_args(["-v", *words])
    for place in range(len(words) + 1):
        assert parser_of(name).parse_args([*words[:place], "-v", *words[place:]]) == expected


REFUSED: list[tuple[str, list[str]]] = [
    *((name, []) for name in COMMANDS),
    *((name, [*words, "--nonsense"]) for name, (words, _) in COMMANDS.items()),
    *((name, [*words, "surplus"]) for name, (words, _) in COMMANDS.items()),
    *((name, [*words, "-v", "-q"]) for name, (words, _) in COMMANDS.items()),
    *((name, [*words, "-h"]) for name, (words, _) in COMMANDS.items()),
    *((name, [*words, "--cloud-provider", "ibm"]) for name, (words, _) in COMMANDS.items()),
    *(("backup", ["u", "s", *more]) for more in (["-z", "-j"], ["-J", "0"], ["-S", ""], ["-S", "B"], ["-S", "10G"])),
    *(("backup", ["u", "s", "--name", name]) for name in ("", "latest", "auto", "last-full", "20261122T000000")),
    *(("backup", ["u", "s", "--tag", tag]) for tag in ("", "a", ",b", "aws:a,b", "a,é", "a" * 129 + ",b")),
    ("backup", ["u", "s", "--tag", "a,b", "--tags", "c,d"]),
    ("backup", ["u", "s", "--tags", "a"]),
    ("backup", ["u", "s", "--verify-checksums", "--no-verify-checksums"]),
    ("backup", ["u", "s", "--wal-timeout", "-1"]),
    ("restore", ["u", "s", "b", "d", "--target-xid", "x"]),
    ("backup", ["u", "s", "--tags", "a,b,c"]),
    ("backup", ["u", "s", "--immediate-checkpoint=false"]),
    ("backup", ["u", "s", "--aws-snapshot-lock-duration", "36501"]),
    ("backup", ["u", "s", "--aws-snapshot-lock-cool-off-period", "73"]),
    ("backup", ["u", "s", "--aws-snapshot-lock-expiration-date", "2027-13-01T00:00:00.0Z"]),
    (
        "backup",
        [
            "u",
            "s",
            "--aws-snapshot-lock-duration",
            "1",
            "--aws-snapshot-lock-expiration-date",
            "2027-01-01T00:00:00.0Z",
        ],
    ),
    ("backup-delete", ["u", "s"]),
    ("backup-delete", ["u", "s", "-b", "x", "-r", "REDUNDANCY 1"]),
    ("backup-delete", ["u", "s", "-b", "x", "-m", "-1"]),
    ("backup-keep", ["u", "s", "b"]),
    ("backup-keep", ["u", "s", "b", "--release", "--status"]),
    ("backup-keep", ["u", "s", "b", "--target", "half"]),
    ("check-wal-archive", ["u", "s", "--timeline", "0"]),
    ("restore", ["u", "s", "auto", "d", "--target-tli", "0"]),
    ("restore", ["u", "s", "auto", "d", "--target-time", "t", "--target-lsn", "0/1"]),
    ("wal-archive", ["u", "s", "w", "--compression-level", "best"]),
    ("wal-archive", ["u", "s", "w", "--gzip", "--zstd"]),
]


@pytest.mark.parametrize(("name", "argv"), REFUSED)
def test_usage_errors_end_with_3_and_an_empty_stdout(name: str, argv: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        parser_of(name).parse_args(argv)
    assert end.value.code == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(f"barman-cloud-{name}: ")


@pytest.mark.parametrize(("name", "argv"), REFUSED)
def test_a_usage_error_is_one_line(name: str, argv: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parser_of(name).parse_args(argv)
    (line,) = capsys.readouterr().err.splitlines()
    assert "--help" in line or "not of the form key,value" in line


@pytest.mark.parametrize(
    ("name", "argv", "says"),
    [
        ("backup-list", ["u", "s", "--fromat", "json"], ["--fromat", "did you mean --format?"]),
        ("backup-list", ["--fromat=json"], ["server_name", "unknown option --fromat", "did you mean --format?"]),
        ("backup", ["u", "s", "--immediate-chekpoint"], ["did you mean --immediate-checkpoint?"]),
        ("wal-archive", ["u", "s", "w", "--paralel=2"], ["did you mean --parallel?"]),
        ("restore", ["u", "s", "latest"], ["recovery_dir"]),
        ("restore", ["u", "s", "b", "d", "--xyzzy"], ["unrecognized arguments: --xyzzy"]),
        ("backup-list", ["u", "s", "--format", "xml"], ["xml", "console", "json"]),
        ("backup-list", ["u", "s", "--no\x1bsuch"], [r"--no\x1bsuch"]),
    ],
)
def test_a_usage_error_names_what_is_wrong_and_what_may_be_meant(
    name: str, argv: list[str], says: list[str], capsys: Any
) -> None:
    with pytest.raises(SystemExit) as end:
        parser_of(name).parse_args(argv)
    assert end.value.code == 3
    err = capsys.readouterr().err
    assert all(text in err for text in says), err
    assert ("did you mean" in err) is any("did you mean" in text for text in says)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_version_go_to_stdout(name: str, capsys: Any) -> None:
    for flag, start in (
        ("--help", f"usage: barman-cloud-{name}"),
        ("-V", f"barman-cloud-{name} 4."),
        ("--version", ""),
    ):
        with pytest.raises(SystemExit) as end:
            parser_of(name).parse_args([flag])
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith(start or f"barman-cloud-{name} 4.")


@pytest.mark.parametrize(
    ("name", "abbreviation", "destination"),
    [
        ("backup", "--immed", "immediate_checkpoint"),
        ("backup", "--endpoint=x", "endpoint_url"),
        ("wal-archive", "--pro=x", "aws_profile"),
        ("wal-archive", "--p=x", "aws_profile"),  # --parallel is ours and must not make it ambiguous
        ("backup", "--n=x", "name"),
        ("restore", "--target-t=x", None),
    ],
)
def test_abbreviations_of_the_original_commands_stay_valid(
    name: str, abbreviation: str, destination: str | None
) -> None:
    words = COMMANDS[name][0]
    if destination is None:
        with pytest.raises(SystemExit):
            parser_of(name).parse_args([abbreviation, *words])
    else:
        assert getattr(parser_of(name).parse_args([abbreviation, *words]), destination) in ("x", True)


def test_our_own_options_must_be_spelled_out() -> None:
    words = COMMANDS["wal-archive"][0]
    assert parser_of("wal-archive").parse_args(["--overwrite", *words]).overwrite
    with pytest.raises(SystemExit):
        parser_of("wal-archive").parse_args(["--overw", *words])
