"""The table of server commands: every word and option that Barman 3.20.1 takes is taken here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barman_cloud.cli.server import registry
from barman_cloud.cli.server.main import Parser

TAKEN_BY_BARMAN = json.loads((Path(__file__).parents[3] / "golden" / "server" / "options.json").read_text())
"""Of each command of Barman its alias and its options, taken from ``barman COMMAND --help``."""
REFUSED = {name for name, entry in registry.COMMANDS.items() if entry.module == "refused"}


def parser_of(name: str) -> Parser:
    parser = Parser(prog=name)
    declare, do = registry.functions(name)
    declare(parser)
    assert callable(do)
    return parser


@pytest.mark.parametrize("name", sorted(TAKEN_BY_BARMAN))
def test_every_command_of_barman_is_here_with_its_options(name: str) -> None:
    expected = TAKEN_BY_BARMAN[name]
    assert registry.find(name) == name
    if expected["alias"]:
        assert registry.find(expected["alias"]) == name
    if name not in REFUSED:
        assert set(expected["options"]) <= set(parser_of(name)._option_string_actions)


@pytest.mark.parametrize("name", sorted(registry.COMMANDS))
def test_every_command_has_a_parser_and_a_summary(name: str) -> None:
    parser = parser_of(name)
    assert parser.format_help()
    entry = registry.COMMANDS[name]
    assert bool(entry.summary) == (name not in REFUSED)
    if name not in TAKEN_BY_BARMAN:
        assert entry.differs == "not a command of Barman's"


def test_no_word_means_two_commands() -> None:
    aliases = [alias for entry in registry.COMMANDS.values() for alias in entry.aliases]
    assert len(aliases) == len(set(aliases)) and not set(aliases) & set(registry.COMMANDS)
    assert registry.find("frob") is None
