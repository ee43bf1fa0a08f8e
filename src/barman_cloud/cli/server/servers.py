"""``list-servers``, ``show-servers``, ``diagnose``."""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from barman_cloud import __version__
from barman_cloud.cli.server.session import add_servers
from barman_cloud.errors import BarmanCloudError
from barman_cloud.report.terminal import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import OneServer, Session

_SECRET = "********"  # noqa: S105


def list_servers_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--minimal", action="store_true", help="names only")


def list_servers(session: Session, args: Namespace) -> None:
    for name in sorted(session.configuration.names):
        server = session.configuration.server(name)
        description = server["description"]
        off = "" if server["active"] else " (inactive)"
        shown = name if args.minimal or not description else f"{name} - {printable(description)}{off}"
        session.output.text(f"{shown}\n")
        session.output.result(name, {"description": description})


def show_servers_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)


def show_servers(session: Session, args: Namespace) -> None:
    session.each(args.server_name, _show)


def _show(server: OneServer) -> None:
    values = effective(server) | _live(server)
    if server.output.as_json:
        server.output.result(server.name, values)
        return
    lines = [f"\t{key}: {printable(_shown(values[key]))}" for key in sorted(values)]
    server.output.text("\n".join([f"Server {server.name}:", *lines, ""]))


def effective(server: OneServer) -> dict[str, Any]:
    """Return all values of a server, passwords hidden, in the form of JSON."""
    from barman_cloud.config.table import KEYS

    values = {
        name: hide_password(server[name]) if KEYS[name].secret else _plain(server[name])
        for name, key in KEYS.items()
        if key.scope != "G"
    }
    return {**values, "name": server.name, "active_model": server.config.model, "disabled": False}


def hide_password(conninfo: str | None) -> str | None:
    """Return a connection string whose password can't be read, in its key=value form."""
    if not conninfo:
        return conninfo
    import psycopg

    try:
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    except psycopg.Error:
        return _SECRET
    if "password" not in parts and "sslpassword" not in parts:
        return conninfo
    hidden = {name: _SECRET if "password" in name else str(value) for name, value in parts.items()}
    return psycopg.conninfo.make_conninfo(**hidden)


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        days, rest = divmod(int(value.total_seconds()), 86400)
        return f"{days} DAYS" if not rest else f"{int(value.total_seconds()) // 3600} HOURS"
    if isinstance(value, tuple):
        return list(value)
    return value


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _live(server: OneServer) -> dict[str, Any]:
    """Return what PostgreSQL says of itself; ``connection_error`` if it doesn't."""
    import psycopg

    from barman_cloud.cli.server import postgres

    if not server["conninfo"]:
        return {"connection_error": "no conninfo"}
    try:
        return {"connection_error": None, **postgres.describe(server.connect())}
    except (BarmanCloudError, psycopg.Error) as error:
        return {"connection_error": str(error)}


def diagnose_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--show-config-source", action="store_true", help="tell file and line of each value")


def diagnose(session: Session, args: Namespace) -> None:
    common = session.configuration.common
    document = {
        "global": {
            "config": {name: _plain(common[name]) for name in sorted(common.places)}
            | {"file": session.configuration.file},
            "system_info": {
                "barman_cloud_ver": __version__,
                "python_ver": f"Python {platform.python_version()}",
                "python_executable": sys.executable,
                "kernel_ver": " ".join(platform.uname()),
                "timestamp": datetime.now(UTC).isoformat(),
            },
        },
        "models": {
            name: {"cluster": model.cluster, **{key: value.written for key, value in model.section.values.items()}}
            for name, model in session.configuration.models.items()
        },
        "servers": {
            name: _diagnosed(session.server(name), sources=args.show_config_source)
            for name in session.configuration.names
        },
    }
    text = json.dumps(document, indent=4, sort_keys=True)
    if session.output.as_json:
        session.output.info(text)
    else:
        session.output.text(f"{text}\n")


def _diagnosed(server: OneServer, *, sources: bool) -> dict[str, Any]:
    from barman_cloud.catalog import wal_usage
    from barman_cloud.catalog.backup_info import to_json_dict

    config = effective(server)
    if sources:
        places = server.config.places
        config = {name: {"value": value, "source": str(places.get(name, "default"))} for name, value in config.items()}
    found: dict[str, Any] = {"active_model": server.config.model, "config": config, "status": _live(server)}
    try:
        usage = wal_usage.read(server.wals.store, server.wals.layout)
        found["backups"] = {name: to_json_dict(info) for name, info in server.view.backups.items()}
        found["wals"] = {
            "last_archived_wal_per_timeline": {
                f"{file.wal.timeline:08X}": {"name": file.name, "size": file.size} for file in usage.segments
            }
        }
    except BarmanCloudError as error:
        found["error"] = str(error)
    return found
