"""The connection to the server that is backed up, and what the server says of itself.

Everything about where and how to connect is left to libpq: connection strings, URIs, service and password files, and
its environment variables. Every query names its schema and no result depends on settings of the role or the database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from barman_cloud import logs
from barman_cloud.errors import ConfigurationError, OperationError
from barman_cloud.postgres.wal import DEFAULT_SEGMENT_SIZE

log = logs.get_logger(__name__)

DEFAULT_BLOCK_SIZE = 8192
DEFAULT_RELATION_SEGMENT_BLOCKS = 131072

Connection = psycopg.Connection[tuple[Any, ...]]

MIN_VERSION = 130000
"""The oldest server that is supported, in the form of ``server_version_num``."""
NEWEST_TRIED = 19
"""The newest major version that this program was tried with (19: beta 2); newer ones aren't refused."""

_RAW = "SQL_ASCII"
"""The client encoding in which the server sends text as it has it, byte for byte."""

# A dead peer is noticed after 30 + 3 * 10 seconds, even while nothing is sent; unanswered data after 40.
_TCP_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 40_000,
}

_SESSION_SETTINGS: tuple[tuple[int, str, str], ...] = (
    # (since version, name, value)
    (0, "search_path", ""),
    (0, "datestyle", "ISO"),
    (0, "statement_timeout", "0"),
    (0, "lock_timeout", "0"),
    (0, "idle_in_transaction_session_timeout", "0"),
    (140000, "idle_session_timeout", "0"),
    (170000, "transaction_timeout", "0"),
)


MAY_READ_SETTINGS: LiteralString = (
    "SELECT rolsuper OR pg_catalog.pg_has_role('pg_monitor', 'MEMBER')"
    " OR (pg_catalog.pg_has_role('pg_read_all_settings', 'MEMBER')"
    " AND pg_catalog.pg_has_role('pg_read_all_stats', 'MEMBER'))"
    " FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER"
)


@dataclass(frozen=True, slots=True)
class ConnectionParameters:
    """Where to connect, as the command line says; what is None is left to libpq."""

    dbname: str = "postgres"
    """A database name, or a whole connection string or URI, which then stands alone."""
    host: str | None = None
    port: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What the server says of itself before a backup; settings that the role can't read are None. Sizes in bytes.

    Paths are as ``os.fsdecode`` gives them: the cluster may have another encoding than this machine's files.
    """

    system_identifier: str
    version: int
    in_recovery: bool
    segment_size: int
    data_directory: str | None
    config_file: str | None
    hba_file: str | None
    ident_file: str | None
    hosts_file: str | None
    """PostgreSQL 19 and later."""
    included_files: tuple[str, ...]
    """Configuration files with an active setting, other than ``config_file``; ascending."""
    tablespaces: tuple[tuple[str, int, str], ...]
    """Name, oid and location of each tablespace outside PGDATA's own directories, as the catalogue returns them."""
    data_checksums: str | None
    summarize_wal: str | None
    archive_mode: str | None
    archive_command: str | None
    archive_library: str | None
    block_size: int
    relation_segment_blocks: int
    """Blocks of one file of a relation; a larger relation has several."""
    cluster_size: int | None


def connect(parameters: ConnectionParameters, application_name: str = "barman_cloud_backup") -> Connection:
    """Connect in autocommit mode and make the session independent of the role's and the database's settings.

    ``ConfigurationError`` if the connection string isn't understood or the server is too old, ``OperationError`` if the
    server can't be reached or refuses the login.
    """
    arguments = connection_arguments(parameters, application_name)
    # Any server takes this one; _settle() asks for UTF-8.
    arguments["client_encoding"] = _RAW
    try:
        connection: Connection = psycopg.connect(**arguments, autocommit=True)
    except psycopg.Error as error:
        raise OperationError(
            f"cannot connect to PostgreSQL: {first_line(error)}",
            hint=tls_hint(error, arguments)
            or "check --host, --port, --user and --dbname, or libpq's environment variables and password file",
        ) from error
    except UnicodeEncodeError:
        raise ConfigurationError(
            "the name of the database, host or user is not valid UTF-8",
            hint="any database will do: connect to another one, such as postgres",
        ) from None
    try:
        _settle(connection)
    except psycopg.Error as error:
        connection.close()
        raise OperationError(f"cannot prepare the PostgreSQL session: {first_line(error)}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def connection_arguments(parameters: ConnectionParameters, application_name: str) -> dict[str, Any]:
    """Return what libpq is told to connect; ``ConfigurationError`` if the connection string isn't understood."""
    arguments = _arguments(parameters)
    arguments.setdefault("application_name", application_name)
    for name, value in _TCP_KEEPALIVES.items():
        arguments.setdefault(name, value)
    arguments["client_encoding"] = "utf8"
    return arguments


def tls_hint(error: BaseException, arguments: Mapping[str, Any]) -> str | None:
    """Return what to do about a connection that failed for TLS, naming the setting in force; None if it wasn't that."""
    if not re.search(r"\b(SSL|TLS|certificate)\b", first_line(error)):
        return None
    mode = arguments.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
    return f"sslmode is {mode} here: check it, sslrootcert, the server's ssl and the hostssl lines of its pg_hba.conf"


def read_metadata(connection: Connection) -> ServerMetadata:
    """Ask the server for everything that ``backup.info`` keeps of it; ``OperationError`` if it doesn't answer."""
    try:
        with unconverted_text(connection):
            return _read_metadata(connection)
    except psycopg.Error as error:
        raise OperationError(f"cannot read the server's metadata: {first_line(error)}") from error


def read_system_identifier(connection: Connection) -> str:
    """Return the cluster's system identifier, as text."""
    return str(_value(connection, "SELECT system_identifier FROM pg_catalog.pg_control_system()"))


def may_read_settings(connection: Connection) -> bool:
    """Tell whether the role sees all settings and sizes: superuser, pg_monitor, or the two roles that it stands for."""
    return bool(_value(connection, MAY_READ_SETTINGS))


@contextmanager
def unconverted_text(connection: Connection) -> Iterator[None]:
    """Let the server send text as it has it: its values are ``bytes`` in here (:func:`text_of`, :func:`name_of`).

    The names of files have no encoding, and a cluster may hold names that aren't valid in the encoding of its
    databases: converting them would fail, or give the name of another file.
    """
    encoding = connection.info.parameter_status("client_encoding") or "UTF8"
    set_encoding = "SELECT pg_catalog.set_config('client_encoding', %s, false)"
    connection.execute(set_encoding, (_RAW,))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(set_encoding, (encoding,))


def text_of(value: bytes | str) -> str:
    """Return the path or setting that was read in :func:`unconverted_text`, as ``os.fsdecode`` does."""
    return os.fsdecode(value)


def name_of(value: bytes | str, connection: Connection) -> str:
    """Return a name of a database object that was read so; bytes that aren't text stay as surrogates."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        encoding = connection.info.parameter_status("server_encoding") or ""
    try:
        return value.decode(_PYTHON_NAME.get(encoding, encoding))
    except (UnicodeDecodeError, LookupError):
        return value.decode("utf-8", "surrogateescape")


_PYTHON_NAME = {
    **{f"WIN{number}": f"cp{number}" for number in (866, 874, *range(1250, 1259))},
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
    "ISO_8859_5": "iso8859_5",
    "ISO_8859_6": "iso8859_6",
    "ISO_8859_7": "iso8859_7",
    "ISO_8859_8": "iso8859_8",
    "SQL_ASCII": "utf-8",
    "EUC_CN": "gb2312",
}
"""Character sets whose names Python doesn't know (PostgreSQL docs, "Supported Character Sets")."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without psycopg's or the server's prefix."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^(connection failed: |FATAL: +|ERROR: +)+", "", lines[0])


def _arguments(parameters: ConnectionParameters) -> dict[str, Any]:
    text = parameters.dbname
    if "=" not in text and text and not text.startswith(("postgresql://", "postgres://")):
        given = {"dbname": text, "host": parameters.host, "port": parameters.port, "user": parameters.user}
        return {name: value for name, value in given.items() if value is not None}
    try:
        arguments = dict(conninfo_to_dict(make_conninfo(text)))
    except psycopg.Error as error:
        # libpq quotes pieces of the string, and a piece may be a password, with quotes in it.
        reason = re.sub(r'".*"', '"..."', first_line(error))
        raise ConfigurationError(
            f"the connection string is not understood: {reason}",
            hint="--dbname takes a database name, a connection string (key=value ...) or a postgresql:// URI",
        ) from None
    if any("@" in host[1:] for host in str(arguments.get("host", "")).split(",")):
        # libpq takes the end of a password for the name of a host, and messages would name it. A socket may begin so.
        raise ConfigurationError(
            "the connection string is not understood: its host name holds an '@'",
            hint="write an '@' of the user's name or password as %40",
        )
    return arguments


def _settle(connection: Connection) -> None:
    version = connection.info.server_version
    if version < MIN_VERSION:
        raise ConfigurationError(
            f"PostgreSQL {version // 10000} is too old: {MIN_VERSION // 10000} is the oldest supported version"
        )
    if version // 10000 > NEWEST_TRIED:
        log.info("PostgreSQL %d is newer than the versions that this program was tried with", version // 10000)
    for since, name, value in _SESSION_SETTINGS:
        if version >= since:
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
    try:
        connection.execute("SELECT pg_catalog.set_config('client_encoding', 'UTF8', false)")
    except psycopg.errors.InvalidParameterValue:
        log.debug("the server can't convert its encoding to UTF-8")


def _read_metadata(connection: Connection) -> ServerMetadata:
    found = connection.execute("SELECT name, setting FROM pg_catalog.pg_settings").fetchall()
    settings = {text_of(name): text_of(value) for name, value in found if value is not None}
    included = connection.execute(
        "SELECT DISTINCT sourcefile FROM pg_catalog.pg_settings WHERE sourcefile IS NOT NULL"
    ).fetchall()
    files = sorted(text_of(file) for (file,) in included)
    tablespaces = connection.execute(
        "SELECT spcname, oid, location FROM (SELECT spcname, oid, pg_catalog.pg_tablespace_location(oid) AS location"
        " FROM pg_catalog.pg_tablespace) AS spaces WHERE location LIKE '/%'"
    ).fetchall()
    size = None
    if may_read_settings(connection):
        size = _value(
            connection,
            "SELECT sum(pg_catalog.pg_tablespace_size(oid))::pg_catalog.int8 FROM pg_catalog.pg_tablespace",
        )
    return ServerMetadata(
        system_identifier=read_system_identifier(connection),
        version=connection.info.server_version,
        in_recovery=bool(_value(connection, "SELECT pg_catalog.pg_is_in_recovery()")),
        segment_size=int(settings.get("wal_segment_size") or DEFAULT_SEGMENT_SIZE),
        data_directory=settings.get("data_directory"),
        config_file=settings.get("config_file"),
        hba_file=settings.get("hba_file"),
        ident_file=settings.get("ident_file"),
        hosts_file=settings.get("hosts_file"),
        included_files=tuple(file for file in files if file != settings.get("config_file")),
        tablespaces=tuple(
            (name_of(name, connection), int(oid), text_of(location)) for name, oid, location in tablespaces
        ),
        data_checksums=settings.get("data_checksums"),
        summarize_wal=settings.get("summarize_wal"),
        archive_mode=settings.get("archive_mode"),
        archive_command=settings.get("archive_command"),
        archive_library=settings.get("archive_library"),
        block_size=int(settings.get("block_size") or DEFAULT_BLOCK_SIZE),
        relation_segment_blocks=int(settings.get("segment_size") or DEFAULT_RELATION_SEGMENT_BLOCKS),
        cluster_size=int(size) if size is not None else None,
    )


def _value(connection: Connection, query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
