"""This machine: who runs this, which programs the server would find, and what they need."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from barman_cloud import __version__
from barman_cloud.postgres.archive_command import PROGRAM
from barman_cloud.verify.findings import Finding, critical, ok, warning

_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_", "GCE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST", "BARMAN_CLOUD_")
_NAMES = frozenset(
    (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "requests_ca_bundle",
        "ssl_cert_file",
        "ssl_cert_dir",
    )
)


class ServerProcess(NamedTuple):
    """The server's main process on this machine, as far as it can be seen."""

    owner: int
    """User id of the data directory's owner."""
    path: str | None
    """``PATH`` of the server, and so of ``archive_command``; None if it can't be seen."""
    environ: Mapping[str, str]
    """Its variables; empty if they can't be seen."""


def find_server(data_directory: str | None) -> ServerProcess | None:
    """Return the server of this data directory; None if the directory isn't on this machine, or can't be seen."""
    if data_directory is None:
        return None
    try:
        owner = Path(data_directory).stat().st_uid
    except OSError:
        return None
    environ: dict[str, str] = {}
    with suppress(OSError, ValueError):
        pid = int(Path(data_directory, "postmaster.pid").read_text().partition("\n")[0])
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        environ = {name: value for name, _, value in (os.fsdecode(entry).partition("=") for entry in entries) if name}
    return ServerProcess(owner, environ.get("PATH"), environ)


def examine_user(server: ServerProcess | None) -> Finding:
    """Tell who runs this, and whether that is who PostgreSQL runs as: others see other files and variables."""
    me, name = os.geteuid(), _user(os.geteuid())
    if server is not None and server.owner != me:
        return warning(
            "user",
            f"this runs as {name}, and PostgreSQL as {_user(server.owner)}: keys and programs may be others there",
            f"sudo -u {_user(server.owner)} {own_program('barman-cloud')} doctor …, with the variables of the service",
        )
    if server is None:
        return ok("user", f"this runs as {name}; what it finds holds for that user")
    return ok("user", f"this runs as {name}, as PostgreSQL does")


def examine_programs(server: ServerProcess | None) -> Iterator[Finding]:
    """Tell where our programs are, and whether a server finds them by their names alone."""
    mine = own_program(PROGRAM)
    path = server.path if server else None
    whose = "the server's PATH" if path is not None else "the PATH of this shell"
    found = shutil.which(PROGRAM, path=path if path is not None else os.environ.get("PATH", os.defpath))
    if found is None:
        yield warning(
            "programs",
            f"{PROGRAM} isn't on {whose}: an archive_command that gives its name alone fails with code 127",
            f"write the whole path: {mine}",
        )
    elif os.path.realpath(found) != os.path.realpath(mine):
        yield warning("programs", f"{whose} leads to {found}, and this is {mine}", f"write the whole path: {mine}")
    else:
        yield ok("programs", f"{found}, version {__version__}")


def examine_variables(server: ServerProcess | None) -> Iterator[Finding]:
    """Compare the variables that decide about the store with those that the server has."""
    if server is None or not server.environ:
        return
    other = sorted(
        name for name in _deciding(os.environ, server.environ) if os.environ.get(name) != server.environ.get(name)
    )
    if other:
        yield warning(
            "variables",
            f"the server was started with other values of {', '.join(other)} than this shell has",
            "--server-environment tries it with the server's; to change those: systemctl edit postgresql "
            "([Service], EnvironmentFile=), and a restart",
        )
    else:
        yield ok("variables", "the server has the variables of this shell")


def take_environment(server: ServerProcess) -> None:
    """Let this process have the server's variables about stores, proxies and authorities, and no others of them."""
    for name in {"HOME", *_deciding(os.environ, server.environ)}:
        value = server.environ.get(name)
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _deciding(*environments: Mapping[str, str]) -> set[str]:
    """Return the names of the variables that decide which store is reached, how, and on whose word."""
    known = {name for environ in environments for name in environ}
    return {name for name in known if name.startswith(_PREFIXES) or name.lower() in _NAMES}


def own_program(name: str) -> str:
    """Return the path of one of our programs, beside the one that runs now."""
    beside = Path(sys.argv[0]).absolute().parent / name
    if beside.exists():
        return str(beside)
    return str(Path(sys.executable).parent / name)


def missing_program(path: str) -> Finding | None:
    """Tell whether an absolute path that ``archive_command`` names is a program on this machine."""
    if not os.path.isfile(path):
        hidden = _hidden(Path(path))
        if hidden is not None:
            return critical(
                "archive-command",
                f"{path} can't be seen by this user: {hidden} is closed",
                f"install the programs where every user may look, or: chmod a+x {hidden}",
            )
        return critical("archive-command", f"{path} isn't there", f"write the whole path: {own_program(PROGRAM)}")
    if not os.access(path, os.X_OK):
        return critical("archive-command", f"{path} may not be run", f"chmod 755 {path}")
    return None


def _hidden(path: Path) -> Path | None:
    """Return the directory above ``path`` that this user may not look into, None if that isn't what hides it."""
    return next(
        (folder for folder in reversed(path.parents) if folder.is_dir() and not os.access(folder, os.X_OK)), None
    )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
