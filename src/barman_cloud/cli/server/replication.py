"""``replication-status``: who streams WAL from a server, and how far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from barman_cloud.cli.server import postgres
from barman_cloud.cli.server.session import add_servers
from barman_cloud.errors import OperationError
from barman_cloud.postgres.connection import first_line
from barman_cloud.postgres.wal import format_lsn, parse_lsn
from barman_cloud.report.terminal import printable
from barman_cloud.report.text import size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import OneServer, Session
    from barman_cloud.postgres.connection import Connection

_QUERY = (
    "SELECT application_name::pg_catalog.text, pg_catalog.host(client_addr), client_hostname::pg_catalog.text,"
    " client_port, usename::pg_catalog.text, state::pg_catalog.text, sync_state::pg_catalog.text,"
    " (SELECT slot_name::pg_catalog.text FROM pg_catalog.pg_replication_slots WHERE active_pid = pid),"
    " pid, backend_start, sent_lsn::pg_catalog.text, write_lsn::pg_catalog.text, flush_lsn::pg_catalog.text,"
    " replay_lsn::pg_catalog.text FROM pg_catalog.pg_stat_replication ORDER BY sync_state DESC, sync_priority, pid"
)
_LSNS = ("sent_lsn", "write_lsn", "flush_lsn", "replay_lsn")
_NAMES = ("application_name", "ip_address", "host", "port", "user_name", "current_state", "current_sync_state",
          "replication_slot", "wal_sender_pid", "started_at", *_LSNS)  # fmt: skip


def replication_status_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)
    parser.add_argument("--minimal", action="store_true", help="one line for each client")
    parser.add_argument(
        "--target", choices=("all", "hot-standby", "wal-streamer"), default="all", help="which clients (default all)"
    )
    parser.add_argument(
        "--source", choices=("backup-host", "wal-host"), default="backup-host", help="ask conninfo or wal_conninfo"
    )


def replication_status(session: Session, args: Namespace) -> None:
    session.each(args.server_name, lambda server: _of_server(server, args))


def _of_server(server: OneServer, args: Namespace) -> None:
    connection = server.connect("wal_conninfo" if args.source == "wal-host" else "conninfo")
    try:
        lsn = postgres.current_lsn(connection) or 0
        clients = [client for client in _clients(connection, lsn) if _is_wanted(client, args.target)]
    except psycopg.Error as error:
        raise OperationError(f"the server doesn't tell who streams from it: {first_line(error)}") from error
    server.output.result(server.name, {"server_lsn": format_lsn(lsn), "streaming_clients": clients})
    form = _minimal if args.minimal else _full
    server.output.text(form(server.name, format_lsn(lsn), clients, args.target))


def _clients(connection: Connection, lsn: int) -> list[dict[str, Any]]:
    found = []
    for row in connection.execute(_QUERY).fetchall():
        client: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
        client["started_at"] = str(client["started_at"])
        standby = client["replay_lsn"] is not None
        state = client["current_sync_state"] or "async"
        client["name"] = f"{state.capitalize()} {'standby' if standby else 'WAL streamer'}"
        client["communication"] = "TCP/IP" if client["ip_address"] else "Unix domain socket"
        client["sync_stage"] = _stage(client, lsn, standby=standby)
        for name in _LSNS:
            if client[name] is None:
                del client[name]
                continue
            behind = parse_lsn(client[name]) - lsn
            client |= {
                f"{name}_diff_bytes": behind,
                f"{name}_diff": f"-{size(-behind)}" if behind < 0 else size(behind),
            }
        found.append(client)
    return found


def _stage(client: dict[str, Any], lsn: int, *, standby: bool) -> str:
    """Return how far the newest WAL has got: sent, written, flushed, and applied by a standby."""
    stages = ["Remote write", "Flush", "Replay"] if standby else ["Remote write"]
    reached, last = "Local write", len(stages) + 2
    number = 1
    for place, (name, words) in enumerate(
        (("sent_lsn", "Sent"), ("write_lsn", "Remote write"), ("flush_lsn", "Flush"), ("replay_lsn", "Hot standby")), 2
    ):
        if client[name] is None or parse_lsn(client[name]) < lsn or place > last:
            break
        number, reached = place, words
    return f"{number}/{last} {reached}"


def _is_wanted(client: dict[str, Any], target: str) -> bool:
    return target == "all" or (target == "hot-standby") == ("replay_lsn" in client)


def _full(name: str, lsn: str, clients: list[dict[str, Any]], target: str) -> str:
    noun = {"all": "streaming clients", "hot-standby": "hot standby servers", "wal-streamer": "WAL streamers"}[target]
    lines = [f"Status of {noun} for server '{name}':", f"  Current LSN on master: {lsn}"]
    if not clients:
        return "\n".join([*lines, f"  No {noun.removesuffix('s')} attached", ""])
    lines += [f"  Number of {noun}: {len(clients)}"]
    for number, client in enumerate(clients, 1):
        lines += ["", f"  {number}. {client['name']}", *(f"     {line}" for line in _client_lines(client))]
    return "".join(f"{printable(line)}\n" for line in lines)


def _client_lines(client: dict[str, Any]) -> list[str]:
    labels = [
        ("Application name", client["application_name"]),
        ("Sync stage", client["sync_stage"]),
        ("Communication", client["communication"]),
    ]
    if client["ip_address"]:
        host = client["host"] or "-"
        labels.append(("IP Address", f"{client['ip_address']} / Port: {client['port']} / Host: {host}"))
    labels += [
        ("User name", client["user_name"]),
        ("Current state", f"{client['current_state']} ({client['current_sync_state']})"),
    ]
    if client["replication_slot"]:
        labels.append(("Replication slot", client["replication_slot"]))
    labels += [("WAL sender PID", client["wal_sender_pid"]), ("Started at", client["started_at"])]
    lines = [f"{label:<16}: {value}" for label, value in labels]
    words = {"sent_lsn": "Sent LSN", "write_lsn": "Write LSN", "flush_lsn": "Flush LSN", "replay_lsn": "Replay LSN"}
    lines += [
        f"{word:<11}: {client[key]} (diff: {client[key + '_diff']})" for key, word in words.items() if key in client
    ]
    return lines


def _minimal(name: str, lsn: str, clients: list[dict[str, Any]], target: str) -> str:
    noun = {"all": "Streaming clients", "hot-standby": "Hot standby servers", "wal-streamer": "WAL streamers"}[target]
    lines = [f"{noun} for master '{name}' (LSN @ {lsn}):"]
    for number, client in enumerate(clients, 1):
        kind = "S" if "replay_lsn" in client else "W"
        where = client["ip_address"] or "local"
        lines.append(
            f"  {number}. {kind}) {client['user_name']}@{where} S:{client.get('sent_lsn', '-')} "
            f"W:{client.get('write_lsn', '-')} P:{_priority(client)} AN:{client['application_name']}"
        )
    return "".join(f"{printable(line)}\n" for line in lines)


def _priority(client: dict[str, Any]) -> int:
    return 0 if client["current_sync_state"] == "async" else 1
