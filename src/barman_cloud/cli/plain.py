"""A parser for plainly written command lines, which takes a tenth of the time that argparse takes to be loaded.

``wal-archive`` and ``wal-restore`` run once per segment with the same plain line. :class:`PlainParser` takes the same
declarations as ``cli.parser.Parser``; whatever is abbreviated, bundled, repeated, for help, or wrong, it leaves to that
one. What it does accept it understands as argparse does, which a test compares.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple


class Arguments(SimpleNamespace):
    """The values of a command line, one attribute for each argument."""


if TYPE_CHECKING:
    from typing import Protocol

    class Declarations(Protocol):
        """What a command declares its arguments on: argparse's methods, and :meth:`add_extension`."""

        extra_positional: str | None
        """A trailing optional positional, which may come behind options that follow the other ones."""

        def add_argument(self, *flags: str, **settings: Any) -> Any: ...

        def add_extension(self, *flags: str, group: Any = None, **settings: Any) -> Any:
            """Declare an option that the original commands don't have; it can't be abbreviated."""

        def add_argument_group(self, title: str | None = None, description: str | None = None) -> Any: ...

        def add_mutually_exclusive_group(self, *, required: bool = False) -> Any: ...

        def set_defaults(self, **defaults: Any) -> None: ...


class _Argument(NamedTuple):
    destination: str
    action: Any
    settings: dict[str, Any]
    group: _Group | None

    def value(self, text: str) -> Any:
        """Return the value of ``text``; any exception means that it has none."""
        convert = self.settings.get("type")
        value = convert(text) if convert else text
        if value not in self.settings.get("choices", (value,)):
            raise ValueError(text)
        return value


class PlainParser:
    """Collects declarations, and parses by them."""

    extra_positional: str | None = None

    def __init__(self) -> None:
        self._options: dict[str, _Argument] = {}
        self._positionals: list[_Argument] = []
        self._exclusive: list[_Group] = []
        self._defaults: dict[str, Any] = {}

    def add_argument(self, *flags: str, **settings: Any) -> None:
        self._declare(flags, settings, None)

    def add_extension(self, *flags: str, group: Any = None, **settings: Any) -> None:
        self._declare(flags, settings, group if isinstance(group, _Group) else None)

    def add_argument_group(self, title: str | None = None, description: str | None = None) -> PlainParser:
        return self

    def add_mutually_exclusive_group(self, *, required: bool = False) -> _Group:
        group = _Group(self, required)
        self._exclusive.append(group)
        return group

    def set_defaults(self, **defaults: Any) -> None:
        self._defaults |= defaults

    def _declare(self, flags: tuple[str, ...], settings: dict[str, Any], group: _Group | None) -> None:
        action = settings.get("action", "store")
        if not flags[0].startswith("-"):
            self._positionals.append(_Argument(flags[0], action, settings, group))
            self._defaults.setdefault(flags[0], settings.get("default"))
            return
        named_by = next((flag for flag in flags if flag.startswith("--")), flags[0])
        destination = settings.get("dest") or named_by.lstrip("-").replace("-", "_")
        argument = _Argument(destination, action, settings, group)
        for flag in flags:
            self._options[flag] = argument
        if action not in ("help", "version"):
            default = settings.get("default", False if action == "store_true" else None)
            if isinstance(default, str):
                default = argument.value(default)
            self._defaults.setdefault(destination, default)

    def parse(self, words: list[str]) -> Arguments | None:
        """Return the values of the command line ``words``, or None: it isn't plain, let argparse judge it."""
        values: dict[str, Any] = {}
        positionals: list[str] = []
        chosen: dict[_Group, _Argument] = {}
        rest = iter(words)
        for word in rest:
            if not word.startswith("-"):
                positionals.append(word)
                continue
            flag, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
            argument = self._options.get(flag)
            if argument is None or _clashes(argument, chosen):
                return None
            attached = text if equals else None
            try:
                values[argument.destination] = _taken(argument, values, attached, rest)
            except Exception:  # noqa: BLE001 - argparse will meet it again and know what to say
                return None
        if any(group.required and group not in chosen for group in self._exclusive):
            return None
        missing = len(self._positionals) - len(positionals)
        if missing and not (missing == 1 and self.extra_positional):
            return None
        for argument, text in zip(self._positionals, positionals, strict=False):
            values[argument.destination] = text
        return Arguments(**{**self._defaults, **values})


class _Group:
    """Arguments that exclude each other."""

    def __init__(self, parser: PlainParser, required: bool = False) -> None:
        self._parser = parser
        self.required: Final = required

    def add_argument(self, *flags: str, **settings: Any) -> None:
        self._parser._declare(flags, settings, self)


def _clashes(argument: _Argument, chosen: dict[_Group, _Argument]) -> bool:
    return argument.group is not None and chosen.setdefault(argument.group, argument) is not argument


def _taken(argument: _Argument, values: dict[str, Any], attached: str | None, rest: Any) -> Any:
    """Return the new value of an option; any exception means that this isn't plain."""
    settings = argument.settings
    if argument.action == "store" and "nargs" not in settings:
        text = next(rest) if attached is None else attached
        if attached is None and text.startswith("-"):
            raise ValueError(text)
        return argument.value(text)
    if attached is not None:
        raise ValueError(attached)
    if argument.action == "store_true":
        return True
    if argument.action == "store_const":
        return settings["const"]
    if argument.action == "count":
        return values.get(argument.destination, settings["default"]) + 1
    raise ValueError(argument.action)
