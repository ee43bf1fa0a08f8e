"""``barman-cloud COMMAND SERVER``: a server's name alone, or nothing, with URL and options from elsewhere."""

from __future__ import annotations

import os
from argparse import Action, ArgumentParser
from collections.abc import Iterator
from typing import TYPE_CHECKING

from barman_cloud.cli.parser import Parser

if TYPE_CHECKING:
    from barman_cloud.cli.command import Command


def with_configuration(command: Command, words: list[str], file: str | None) -> list[str]:
    """Return the whole command line: as it is where it has a URL, else filled up from the configuration.

    Without a configuration, ``BARMAN_CLOUD_URL`` is the URL. ``BARMAN_CLOUD_SERVER`` is the server where the line has
    one positional less than the command needs, so that none of them can be it. Raises ``ConfigurationError`` for files
    and names.
    """
    parser = Parser()
    command.add_arguments(parser)
    positionals, given = _sorted(parser, words)
    if "--help" in given or "--version" in given:
        return words
    if (name := os.environ.get("BARMAN_CLOUD_SERVER")) and (
        place := _place_of_server(parser, words, positionals)
    ) is not None:
        words = [*words[:place], name, *words[place:]]
        positionals, _ = _sorted(parser, words)
    if not positionals and command.name == "report" and (url := os.environ.get("BARMAN_CLOUD_URL")):
        return [*words, url]  # all servers
    if not positionals or "://" in words[positionals[0]]:
        return words
    first = positionals[0]
    if file is None and (url := os.environ.get("BARMAN_CLOUD_URL")):
        return [*words[:first], url, *words[first:]]
    from barman_cloud.config.reader import find_file, load
    from barman_cloud.config.words import options_for, url_for

    if file is None and find_file(None) is None:
        return words  # the parser says what is missing
    server = load(file).server(words[first])
    if region := server["aws_region"]:
        os.environ.setdefault("AWS_DEFAULT_REGION", region)

    def declares(flag: str) -> bool:
        return flag in parser._option_string_actions

    # Of options that exclude each other, one that the user gave stands for all.
    written = [flag for option in given for flag in _same_place(parser, option)]
    added = options_for(command.name, server, declares, written)
    return [*added, *words[:first], url_for(command.name, server), *words[first:]]


def _sorted(parser: ArgumentParser, words: list[str]) -> tuple[list[int], list[str]]:
    """Return the places of the positionals in ``words``, and the names of the options."""
    positionals, given = [], []
    for number, option in walk(parser, words):
        if option is None:
            positionals.append(number)
        else:
            given.append(option)
    return positionals, given


def _place_of_server(parser: ArgumentParser, words: list[str], positionals: list[int]) -> int | None:
    """Return where the server's name has to be put in; None where the line has it, or something else is missing."""
    least = sum(1 for action in parser._actions if not action.option_strings and action.nargs not in ("?", "*"))
    has_url = bool(positionals) and "://" in words[positionals[0]]
    if len(positionals) != least - (1 if has_url else 2):
        return None
    return positionals[0] + has_url if positionals else len(words)


def walk(parser: ArgumentParser, words: list[str]) -> Iterator[tuple[int, str | None]]:
    """Yield the place of each positional with None, and of each option with its name."""
    number = 0
    while number < len(words):
        word = words[number]
        action = _action(parser, word.partition("=")[0]) if word.startswith("-") and word != "-" else None
        yield number, action.option_strings[-1] if action else None
        if action is not None and "=" not in word and action.nargs != 0 and not _is_joined(word, action):
            number += 1
        number += 1


def _action(parser: ArgumentParser, word: str) -> Action | None:
    actions = parser._option_string_actions
    if word in actions:
        return actions[word]
    if word.startswith("--"):
        found = {id(action): action for name, action in actions.items() if name.startswith(word)}
        return next(iter(found.values())) if len(found) == 1 else None
    return actions.get(word[:2])


def _is_joined(word: str, action: Action) -> bool:
    """Whether a short option has its value in the same word: ``-J4``."""
    return not word.startswith("--") and len(word) > 2 and word not in action.option_strings


def _same_place(parser: ArgumentParser, option: str) -> list[str]:
    """Return all options that set the same value as ``option``, itself included, or that it excludes."""
    actions = parser._option_string_actions
    given = actions[option]
    excluded = [one for group in parser._mutually_exclusive_groups for one in group._group_actions
                if given in group._group_actions]  # fmt: skip
    destinations = {given.dest, *(action.dest for action in excluded)}
    return [name for name, action in actions.items() if action.dest in destinations]
