"""``barman-cloud COMMAND SERVER``: a server's name alone, or nothing, with URL and options from elsewhere."""

from __future__ import annotations

import os
from argparse import Action, ArgumentParser
from collections.abc import Iterator
from typing import TYPE_CHECKING

from barman_cloud.cli.command import LinesForAll
from barman_cloud.cli.parser import Parser
from barman_cloud.errors import BarmanCloudError, ConfigurationError

if TYPE_CHECKING:
    from barman_cloud.cli.command import Command
    from barman_cloud.config.reader import Configuration
    from barman_cloud.config.server import Server


ALL = "all"
"""Every server of the configuration that is active."""


def with_configuration(command: Command, words: list[str], file: str | None) -> list[str]:
    """Return the whole command line; see :func:`resolved`."""
    return resolved(command, words, file)[0]


def resolved(command: Command, words: list[str], file: str | None) -> tuple[list[str], Server | None]:
    """Return the whole command line, and the server of the configuration that it is for.

    The line is as it was where it has a URL, else filled up from the configuration; without one, ``BARMAN_CLOUD_URL``
    is the URL. ``BARMAN_CLOUD_SERVER`` is the server where the line has one positional less than the command needs, so
    that none of them can be it. Raises ``ConfigurationError`` for files and names.
    """
    parser = Parser()
    command.add_arguments(parser)
    positionals, given = _taken_apart(parser, words)
    if "--help" in given or "--version" in given:
        return words, None
    if (name := os.environ.get("BARMAN_CLOUD_SERVER")) and (
        place := _place_of_server(parser, words, positionals)
    ) is not None:
        words = [*words[:place], name, *words[place:]]
        positionals, _ = _taken_apart(parser, words)
    if not positionals and command.name == "report" and (url := os.environ.get("BARMAN_CLOUD_URL")):
        return [*words, url], None  # all servers
    if not positionals or "://" in words[positionals[0]]:
        return words, None
    first = positionals[0]
    if file is None and (url := os.environ.get("BARMAN_CLOUD_URL")):
        return [*words[:first], url, *words[first:]], None
    from barman_cloud.config.reader import find_file, load

    if file is None and find_file(None) is None:
        return words, None  # the parser says what is missing
    configuration = load(file)
    server = effective(configuration, words[first])
    if region := server["aws_region"]:
        os.environ.setdefault("AWS_DEFAULT_REGION", region)
    return completed(command, words, configuration, server)


def lines_for_all(command: Command, words: list[str], file: str | None) -> LinesForAll | None:
    """Return a command line for each active server of the configuration, None if it isn't ``all`` that is meant."""
    parser = Parser()
    command.add_arguments(parser)
    positionals, _ = _taken_apart(parser, words)
    if not positionals or words[positionals[0]] != ALL or len(positionals) > 1:
        return None
    from barman_cloud.config.reader import load

    configuration = load(file)
    active = [server for server in configuration.servers() if server["active"]]
    if not active:
        raise ConfigurationError(f"there are no active servers in {configuration.file}", hint="add a section for one")
    first, servers, errors = positionals[0], [], {}
    for server in active:
        line = [*words[:first], server.name, *words[first + 1 :]]
        try:
            servers.append(completed(command, line, configuration, effective(configuration, server.name)))
        except BarmanCloudError as error:
            errors[server.name] = str(error)
    return LinesForAll([*words[:first], "file:///", ALL, *words[first + 1 :]], servers, errors)


def completed(
    command: Command, words: list[str], configuration: Configuration, server: Server
) -> tuple[list[str], Server]:
    """Return the command line of a server that is known, with URL and options, and the server."""
    from barman_cloud.config.words import options_for, url_for

    parser = Parser()
    command.add_arguments(parser)
    positionals, given = _taken_apart(parser, words)
    first = positionals[0]

    def declares(flag: str) -> bool:
        return flag in parser._option_string_actions

    # Of options that exclude each other, one that the user gave stands for all.
    written = [flag for option in given for flag in _same_place(parser, option)]
    added = options_for(command.name, server, declares, written)
    return [*added, *words[:first], url_for(command.name, server), *words[first:]], server


def effective(configuration: Configuration, name: str) -> Server:
    """Return a server with the values of its active model, for which the bucket is asked if there is any for it."""
    server = configuration.server(name)
    if not configuration.models:
        return server
    from barman_cloud.cli.showing import waiting
    from barman_cloud.config.repository import open_wal_store
    from barman_cloud.schedule.active_model import with_active_model

    store, layout = open_wal_store(server)
    with waiting(), store:
        return with_active_model(configuration, server, store, layout)


def _taken_apart(parser: Parser, words: list[str]) -> tuple[list[int], list[str]]:
    """Return the places of the positionals, and the names of the options."""
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
    excluded = [
        one
        for group in parser._mutually_exclusive_groups
        for one in group._group_actions
        if given in group._group_actions
    ]
    destinations = {given.dest, *(action.dest for action in excluded)}
    return [name for name, action in actions.items() if action.dest in destinations]
