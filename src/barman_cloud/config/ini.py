"""One INI file as text: sections, keys, and the line of each; what the values mean is not known here.

``configparser`` reads the file; it keeps no line numbers, so that a second look at the lines finds them.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from barman_cloud.errors import ConfigurationError

_REFERENCE = r"\$\{(ENV|FILE):([^}]*)\}"
_MAX_SIZE = 4 << 20


class Place(NamedTuple):
    """Where something was written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Value(NamedTuple):
    """The text of one key and where it was written."""

    text: str
    """With references to environment and files replaced."""
    written: str
    """As it stands in the file."""
    place: Place


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    place: Place
    values: Mapping[str, Value]


def parse_file(path: Path, environ: Mapping[str, str]) -> dict[str, Section]:
    """Return the sections of a file in their order. Raises ``ConfigurationError`` with file and line."""
    content = _read(path)
    parser = configparser.RawConfigParser(
        strict=True, interpolation=None, delimiters=("=", ":"), comment_prefixes=("#", ";"), default_section="\0"
    )
    try:
        parser.read_string(content, str(path))
    except configparser.Error as error:
        raise _described(path, error) from None
    lines = _line_numbers(content)
    sections: dict[str, Section] = {}
    for name in parser.sections():
        values = {}
        for key, written in parser.items(name):
            place = Place(str(path), lines.get((name, key), 0))
            values[key] = Value(_resolved(_unquoted(written), place, environ), written, place)
        sections[name] = Section(name, Place(str(path), lines.get((name, None), 0)), values)
    return sections


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigurationError(
                f"{path} is a directory, not a configuration file", hint="name a file with -c FILE"
            )
        with path.open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise ConfigurationError(f"can't read the configuration file {path}: {error.strerror}") from None
    if len(data) > _MAX_SIZE:
        raise ConfigurationError(f"{path} is larger than {_MAX_SIZE >> 20} MiB", hint="is it a configuration file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}:{line}: the file is not UTF-8", hint="save it as UTF-8") from None


def _described(path: Path, error: configparser.Error) -> ConfigurationError:
    if isinstance(error, configparser.DuplicateSectionError):
        return ConfigurationError(
            f"{path}:{error.lineno}: section [{error.section}] is there twice", hint="remove one of them"
        )
    if isinstance(error, configparser.DuplicateOptionError):
        return ConfigurationError(
            f"{path}:{error.lineno}: key '{error.option}' is twice in [{error.section}]", hint="remove one of them"
        )
    if isinstance(error, configparser.MissingSectionHeaderError):
        return ConfigurationError(
            f"{path}:{error.lineno}: a key before any section", hint="begin the file with [barman] or [NAME]"
        )
    if isinstance(error, configparser.ParsingError) and error.errors:
        return ConfigurationError(
            f"{path}:{error.errors[0][0]}: not of the form key = value", hint="write comments with # or ;"
        )
    return ConfigurationError(f"{path}: {' '.join(str(error).split())}")


def _line_numbers(content: str) -> dict[tuple[str, str | None], int]:
    """Return the line of each section's header (key None) and of each key."""
    found: dict[tuple[str, str | None], int] = {}
    section = ""
    for number, line in enumerate(content.splitlines(), 1):
        header = re.match(r"\[(.+)\]", line)
        if header:
            section = header[1]
            found.setdefault((section, None), number)
        elif line[:1].strip() and line[0] not in "#;":
            found.setdefault((section, re.split("[=:]", line, maxsplit=1)[0].strip().lower()), number)
    return found


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _resolved(text: str, place: Place, environ: Mapping[str, str]) -> str:
    """Replace ``${ENV:NAME}`` by a variable and ``${FILE:/path}`` by what the file holds, without the last line end."""

    def value(found: re.Match[str]) -> str:
        kind, name = found[1], found[2]
        if kind == "ENV":
            if name not in environ:
                raise ConfigurationError(f"{place}: the environment variable {name} isn't set", hint=f"export {name}")
            return environ[name]
        try:
            with Path(name).open("rb") as file:
                return file.read(_MAX_SIZE).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(f"{place}: can't read {name}: {reason}") from None

    return re.sub(_REFERENCE, value, text)
