"""Settings of a restored cluster that lead away from it, and the way to start it nevertheless.

Where a distribution keeps the configuration outside PGDATA (Debian: ``/etc/postgresql/VERSION/NAME``), the restored
``postgresql.conf`` still says ``data_directory``: a server started on the copy is then one on the *old* directory
(PostgreSQL docs, 19.2, "File Locations"). Files of ``include`` directives aren't in a backup either.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from barman_cloud import logs
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.errors import OperationError
from barman_cloud.postgres.config_file import INCLUDES, entries, quoted
from barman_cloud.restore.durability import replace_file
from barman_cloud.restore.files import owner_of, read_file

log = logs.get_logger(__name__)

_CONF = "postgresql.conf"
_AUTO_CONF = "postgresql.auto.conf"
_DEFAULTS = {"hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf", "hosts_file": "pg_hosts.conf"}
"""What the server reads in the directory of its ``postgresql.conf`` when the setting isn't there."""
_PLACES = frozenset({"data_directory", "external_pid_file", "stats_temp_directory", *_DEFAULTS})
_DEEPEST_INCLUDE = 10  # CONF_FILE_MAX_DEPTH

MARK = "# barman-cloud-restore: "
"""Begins a line that was a setting; the setting stands behind it."""
_ADDED = " # barman-cloud-restore"
"""Ends a line that was added."""
_DEBIAN = re.compile(r"/etc/postgresql/(?P<version>[\d.]+)/(?P<name>[^/]+)/")
_DEBIAN_TOOL = Path("/usr/bin/pg_ctlcluster")


@dataclass(frozen=True, slots=True)
class Astray:
    """A setting that leads away from the directory, or to what isn't in it. ``file`` is relative to the directory."""

    file: str
    line: int
    name: str
    value: str
    instead: str | None = None
    """The file of the directory that takes its place, if it has another name than PostgreSQL's own."""
    missing: bool = False
    """An ``include`` of something that isn't there: the server doesn't start."""

    def __str__(self) -> str:
        what = ", which isn't there" if self.missing else ""
        return f"{self.file}, line {self.line}: {self.name} = {quoted(self.value)}{what}"


def find_astray(directory: Path) -> list[Astray]:
    """Return the settings of the restored cluster in ``directory`` that lead elsewhere, in the order of reading."""
    return [*_astray_in(directory, _CONF, 0), *_astray_in(directory, _AUTO_CONF, 0)]


def neutralise(directory: Path) -> None:
    """Turn the lines that lead elsewhere into comments, so that the server takes what is in ``directory``.

    Each file is replaced whole, with its mode and for the directory's owner. Doing it again changes nothing.
    """
    by_file: dict[str, list[Astray]] = {}
    for found in find_astray(directory):
        by_file.setdefault(found.file, []).append(found)
    for name, astray in by_file.items():
        content, mode = read_file(directory / name)
        lines = content.split(b"\n")
        for found in reversed(astray):
            lines[found.line - 1] = MARK.encode() + lines[found.line - 1]
            if found.instead:
                setting = f"{found.name} = {quoted(str(directory / found.instead))}{_ADDED}"
                lines.insert(found.line, os.fsencode(setting))
        replace_file(directory / name, b"\n".join(lines), mode, owner_of(directory))


def explain_changes(directory: Path, info: BackupInfo) -> list[str]:
    """Return, one line each, which settings were turned into comments, how to undo it, and how the server starts."""
    changed: dict[str, list[str]] = {}
    for name in _files(directory, _CONF, 0):
        for line in _content(directory / name).decode("utf-8", "replace").splitlines():
            if line.startswith(MARK):
                changed.setdefault(name, []).append(line.removeprefix(MARK).strip())
            elif line.endswith(_ADDED):
                changed.setdefault(name, []).append(f"{line.removesuffix(_ADDED)}   (added)")
    if not changed:
        return []
    lines = ["Settings that led away from this directory, now comments:"]
    lines += [f"  {name:18} {text}" for name, texts in changed.items() for text in texts]
    files = " ".join(shlex.quote(str(directory / name)) for name in changed)
    lines.append(f"  to undo            sed -i -e '/{_ADDED}$/d' -e 's/^{MARK}//' {files}")
    lines.append(f"  to start           pg_ctl -D {shlex.quote(str(directory))} start")
    if debian := debian_commands(directory, info, ()):
        lines.append(f"  or                 {debian}")
    return lines


def warn_of_astray(directory: Path, info: BackupInfo) -> None:
    """Name in the log what leads elsewhere in a cluster that was restored as it is, and the command that starts it."""
    found = find_astray(directory)
    if not found:
        return
    for astray in found:
        log.warning("%s leads away from %s: %s", _CONF, directory, astray)
    missing = [astray for astray in found if astray.name in INCLUDES]
    if missing:
        log.warning(
            "the lines with %s have to be removed, or what they name be put there, before the server starts",
            " and ".join(sorted({astray.name for astray in missing})),
        )
    for command in start_commands(directory, info, found):
        log.warning("this copy is started by: %s", command)


def start_commands(directory: Path, info: BackupInfo, found: Sequence[Astray]) -> list[str]:
    """Return shell commands, each of which starts a server on this directory, whatever its settings say."""
    settings = {"data_directory": str(directory)}
    for astray in found:
        if astray.name in _DEFAULTS:
            settings[astray.name] = str(directory / (astray.instead or _DEFAULTS[astray.name]))
        elif astray.name in ("external_pid_file", "stats_temp_directory"):
            settings[astray.name] = "pg_stat_tmp" if astray.name == "stats_temp_directory" else ""
    options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
    place = shlex.quote(str(directory))
    commands = [f"pg_ctl -D {place} -o {shlex.quote(options)} start"]
    if debian := debian_commands(directory, info, found):
        commands.append(debian)
    return commands


def debian_commands(directory: Path, info: BackupInfo, found: Sequence[Astray]) -> str | None:
    """Return how Debian's tools make a cluster of the directory and start it; None where they aren't in use."""
    values = [info.config_file or "", *(astray.value for astray in found)]
    match = next((match for value in values if (match := _DEBIAN.match(value))), None)
    if match is None or not _DEBIAN_TOOL.exists():
        return None
    version, name = match["version"], f"{match['name']}_restored"
    return f"pg_createcluster {version} {name} -d {shlex.quote(str(directory))} && pg_ctlcluster {version} {name} start"


def _astray_in(directory: Path, name: str, depth: int) -> Iterator[Astray]:
    """Yield what leads elsewhere in one file of the directory and those that it includes."""
    for entry in entries(_content(directory / name)):
        if entry.name in INCLUDES:
            place = _place(directory, Path(name).parent, entry.value)
            if place is None:
                yield Astray(name, entry.line, entry.name, entry.value)
            elif not (directory / place).exists():
                if entry.name != "include_if_exists":
                    yield Astray(name, entry.line, entry.name, entry.value, missing=True)
            elif depth < _DEEPEST_INCLUDE:
                for inner in _included(directory, place, entry.name):
                    yield from _astray_in(directory, inner, depth + 1)
        elif entry.name in _PLACES and entry.value and _place(directory, Path(), entry.value) is None:
            yield Astray(name, entry.line, entry.name, entry.value, _instead(directory, entry.name, entry.value))


def _files(directory: Path, name: str, depth: int) -> Iterator[str]:
    """Yield a configuration file of the directory and those that it includes."""
    yield name
    for entry in entries(_content(directory / name)):
        if entry.name in INCLUDES and depth < _DEEPEST_INCLUDE:
            place = _place(directory, Path(name).parent, entry.value)
            if place is not None and (directory / place).exists():
                for inner in _included(directory, place, entry.name):
                    yield from _files(directory, inner, depth + 1)


def _included(directory: Path, place: str, kind: str) -> list[str]:
    if kind != "include_dir":
        return [place]
    names = sorted(path.name for path in (directory / place).iterdir())
    return [f"{place}/{name}" for name in names if name.endswith(".conf") and not name.startswith(".")]


def _place(directory: Path, beside: Path, value: str) -> str | None:
    """Return a path of a setting relative to the directory, None if it leads out of it."""
    whole, root = os.path.realpath(directory / beside / value), os.path.realpath(directory)
    return os.path.relpath(whole, root) if f"{whole}/".startswith(f"{root}/") else None


def _content(path: Path) -> bytes:
    try:
        return read_file(path)[0]
    except OperationError as error:
        log.warning("%s: not looked into", error)
        return b""


def _instead(directory: Path, name: str, value: str) -> str | None:
    """Return the file of the directory that a backup holds in place of an external one, if its name isn't usual."""
    base = Path(value).name
    default = _DEFAULTS.get(name)
    return base if default and base != default and (directory / base).is_file() else None
