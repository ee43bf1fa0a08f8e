"""From configuration files to servers.

A mistake ends with file, line and the nearest known key, never with a silent default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from barman_cloud import logs
from barman_cloud.config.ini import Place, Section, parse_file
from barman_cloud.config.keys import GLOBAL, MODEL, SERVER, Key
from barman_cloud.config.server import Server
from barman_cloud.config.table import KEYS, nearest
from barman_cloud.errors import ConfigurationError

log = logs.get_logger(__name__)

GLOBAL_SECTION = "barman"
RESERVED_NAMES = frozenset((GLOBAL_SECTION, "all"))
SEARCH_PATH = ("~/.barman.conf", "/etc/barman.conf", "/etc/barman/barman.conf")
"""Where Barman looks for its configuration, in this order."""

_MODEL_MARK = "model"
_WITH_PASSWORD = r"\bpassword\s*=|://[^/@]*:[^/@]+@"  # noqa: S105
_NAMES_ALLOWED = r"[A-Za-z0-9][A-Za-z0-9_.:-]*"
_SCOPE_WORDS = {GLOBAL: "the section [barman]", SERVER: "a server", MODEL: "a model"}


@dataclass(frozen=True, slots=True)
class Model:
    """A set of values that can be laid over those of a server of its cluster (``config-switch``)."""

    name: str
    cluster: str
    section: Section


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that the configuration files hold."""

    file: str
    common: Server
    """What ``[barman]`` says, under the name ``barman``."""
    sections: Mapping[str, Section]
    models: Mapping[str, Model]
    global_section: Section

    @property
    def names(self) -> list[str]:
        """The servers' names, in the order of their files and lines."""
        return list(self.sections)

    def server(self, name: str, model: str | None = None) -> Server:
        """Return one server, under ``model`` if given; raises ``ConfigurationError`` for names that don't exist."""
        if name not in self.sections:
            from difflib import get_close_matches

            close = get_close_matches(name, self.sections, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(self.sections) or 'no servers'}"
            raise ConfigurationError(f"no server '{name}' in {self.file}", hint=hint)
        return _effective(name, self.sections[name], self.global_section, self._model(name, model))

    def servers(self) -> list[Server]:
        """Return all servers."""
        return [self.server(name) for name in self.sections]

    def _model(self, server: str, name: str | None) -> Model | None:
        if name is None:
            return None
        model = self.models.get(name)
        if model is None:
            raise ConfigurationError(
                f"no model '{name}' in {self.file}", hint=f"it has {', '.join(self.models) or 'no models'}"
            )
        cluster = _effective(server, self.sections[server], self.global_section, None)["cluster"]
        if model.cluster != cluster:
            raise ConfigurationError(
                f"{model.section.place}: model '{name}' is for cluster '{model.cluster}', and server '{server}' is of "
                f"cluster '{cluster}'",
                hint=f"set cluster = {model.cluster} in the section of the server, or use another model",
            )
        return model


def find_file(given: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the main file: the one given, else the first of :data:`SEARCH_PATH` that can be seen, else None.

    HOME may be that of another user, as in containers that run with any user id.
    """
    if given is not None:
        return Path(given)
    return next((path for path in _usual_places(environ) if os.path.exists(path)), None)


def _usual_places(environ: Mapping[str, str]) -> list[Path]:
    home = environ.get("HOME") or "~"
    return [Path(name.replace("~", home, 1)).expanduser() for name in SEARCH_PATH]


def _is_hidden(path: Path) -> bool:
    """Tell whether a directory above ``path`` is closed to this user, so that there may be such a file or not."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def load(given: str | None = None, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read the configuration. Raises ``ConfigurationError``, also when there is no file."""
    main = find_file(given, environ)
    if main is None:
        hidden = [str(path) for path in _usual_places(environ) if _is_hidden(path)]
        unseen = f" (whether there is {' or '.join(hidden)} this user can't see)" if hidden else ""
        raise ConfigurationError(
            f"there is no configuration file{unseen}",
            hint=f"make one of {', '.join(SEARCH_PATH)}, or name it with -c FILE",
        )
    sections = parse_file(main, environ)
    global_section = sections.pop(GLOBAL_SECTION, None) or Section(GLOBAL_SECTION, Place(str(main), 1), {})
    _check(global_section, GLOBAL)
    common = _effective(GLOBAL_SECTION, Section(GLOBAL_SECTION, global_section.place, {}), global_section, None)
    for path in _more_files(common):
        for name, section in parse_file(path, environ).items():
            if name == GLOBAL_SECTION:
                _refuse(section.place, "[barman] may only stand in the main file", f"move its keys to {main}")
            if name in sections:
                _refuse(section.place, f"section [{name}] is also at {sections[name].place}", "remove one of them")
            sections[name] = section
    servers: dict[str, Section] = {}
    models: dict[str, Model] = {}
    for name, section in sections.items():
        if _is_model(section):
            models[name] = _model_from(section)
        else:
            _check_name(section)
            _check(section, SERVER)
            servers[name] = section
    for section in (global_section, *sections.values()):
        _warn_of_passwords(section)
    return Configuration(str(main), common, MappingProxyType(servers), MappingProxyType(models), global_section)


def _more_files(common: Server) -> list[Path]:
    directory = common["configuration_files_directory"]
    if directory is None:
        return []
    place = common.places["configuration_files_directory"]
    try:
        return sorted(path for path in Path(directory).iterdir() if path.suffix == ".conf" and not path.is_dir())
    except FileNotFoundError:
        _refuse(place, f"configuration_files_directory {directory} doesn't exist", "make it, or remove the line")
    except OSError as error:
        _refuse(place, f"configuration_files_directory {directory}: {error.strerror}", "let this user read it")


def _is_model(section: Section) -> bool:
    mark = section.values.get(_MODEL_MARK)
    if mark is None:
        return False
    return bool(_parsed(_MODEL_MARK, KEYS["active"], mark.text, mark.place))


def _model_from(section: Section) -> Model:
    _check(section, MODEL)
    cluster = section.values.get("cluster")
    if cluster is None:
        _refuse(section.place, f"model [{section.name}] doesn't say which cluster it is for", "add cluster = NAME")
    return Model(section.name, cluster.text, section)


def _check_name(section: Section) -> None:
    if section.name in RESERVED_NAMES:
        _refuse(section.place, f"a server can't be named '{section.name}'", "choose another name")
    if not re.fullmatch(_NAMES_ALLOWED, section.name):
        _refuse(
            section.place,
            f"'{section.name}' can't be a server's name",
            "use letters, digits and _.:- with a letter or digit first",
        )


def _check(section: Section, scope: str) -> None:
    """Refuse unknown keys, keys of other sections, and values that can't be."""
    for name, value in section.values.items():
        if scope == MODEL and name == _MODEL_MARK:
            continue
        key = KEYS.get(name)
        if key is None:
            close = nearest(name)
            _refuse(
                value.place,
                f"unknown key '{name}' in [{section.name}]",
                f"did you mean {close}?" if close else "see the reference of configuration keys",
            )
        if scope not in key.scope:
            where = " or ".join(_SCOPE_WORDS[letter] for letter in key.scope)
            _refuse(value.place, f"'{name}' can't stand in {_SCOPE_WORDS[scope]}", f"it belongs to {where}")
        _parsed(name, key, value.text, value.place)


def _parsed(name: str, key: Key, text: str, place: Place) -> Any:
    try:
        return key.kind(text)
    except ValueError as error:
        shown = str(error) if not key.secret else "it can't be used"
        _refuse(place, f"{name}: {shown}", key.meaning or None)


def _effective(name: str, section: Section, global_section: Section, model: Model | None) -> Server:
    layers = [section, global_section] if section.name != GLOBAL_SECTION else [global_section]
    if model is not None:
        layers.insert(0, model.section)
    values: dict[str, Any] = {"name": name}
    places: dict[str, Place] = {}
    for key in KEYS.values():
        found = next((layer.values[key.name] for layer in layers if key.name in layer.values), None)
        if found is None:
            values[key.name] = key.default
        else:
            values[key.name] = _parsed(key.name, key, found.text, found.place)
            places[key.name] = found.place
    for key in KEYS.values():
        if key.name not in places:
            values[key.name] = _filled(key.default, values)
    return Server(name, MappingProxyType(values), MappingProxyType(places), model.name if model else None)


def _filled(default: Any, values: Mapping[str, Any]) -> Any:
    """Return a default whose ``{…}`` are replaced by the values of other keys, None if one of these is None."""
    if not isinstance(default, str) or "{" not in default:
        return default
    parts = {name: _filled(values[name], values) for name in re.findall(r"{(\w+)}", default)}
    return None if None in parts.values() else default.format(**parts)


def _warn_of_passwords(section: Section) -> None:
    """Warn of files that others may read while they hold a password."""
    for name, value in section.values.items():
        key = KEYS.get(name)
        if key is None or not key.secret or not re.search(_WITH_PASSWORD, value.written):
            continue
        mode = Path(value.place.file).stat().st_mode & 0o777
        if mode & 0o077:
            log.warning("%s: %s holds a password, and others may read the file (mode %03o)", value.place, name, mode)


def _refuse(place: Place, message: str, hint: str | None) -> NoReturn:
    raise ConfigurationError(f"{place}: {message}", hint=hint)
