"""``BASE_BACKUP``: a base backup as streams of tar members, and the server's manifest of it.

PostgreSQL 15 and later send everything in one COPY whose messages say what they belong to; 13 and 14 have another
syntax for the options, and send one COPY for each tablespace, unterminated tars, and one for the manifest (PostgreSQL
docs, "Streaming Replication Protocol", of each version). A backup is walked through once, in the order of the methods:
``begin``, ``archives``, ``manifest``, ``end``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from psycopg.pq import ExecStatus

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.tar import BLOCK, Member, read_members
from barman_cloud.errors import IntegrityError, OperationError
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.replication.session import ReplicationSession, rows_of

ONE_COPY_SINCE: Final = 150000
INCREMENTAL_SINCE: Final = 170000

_MAX_RATE: Final = range(32, 1048576 + 1)
"""kB/s that ``MAX_RATE`` may be (``basebackup.c``)."""
_UNTERMINATED: Final = bytes(2 * BLOCK)
_ARCHIVE, _MANIFEST, _DATA, _PROGRESS = b"nmdp"


@dataclass(frozen=True, slots=True)
class BaseBackupOptions:
    """What the server is asked for. ``max_rate`` in bytes per second."""

    label: str
    fast: bool = False
    include_wal: bool = False
    """Send the WAL that the backup needs to become consistent along, as members of ``pg_wal``."""
    max_rate: int | None = None
    verify_checksums: bool = True
    """Let the server check each page; a damaged one is its error, at the end of the stream."""
    incremental_manifest: Iterable[bytes] | None = None
    """The manifest of the backup that this one is an increment of; PostgreSQL 17 and later."""


@dataclass(frozen=True, slots=True)
class StreamedTablespace:
    """A tablespace as the server announces it; ``oid`` is None for PGDATA itself. ``size`` is an estimate in bytes."""

    oid: int | None
    location: str
    size: int


@dataclass(frozen=True, slots=True)
class StreamStart:
    """Where recovery must begin, and what will be sent, in this order: PGDATA is the last."""

    lsn: int
    timeline: int
    tablespaces: tuple[StreamedTablespace, ...]


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How far recovery must go."""

    lsn: int
    timeline: int


@dataclass(frozen=True, slots=True)
class TarStream:
    """One tar of the backup: each member with its content, which must be consumed before the next is asked for."""

    tablespace: StreamedTablespace
    members: Iterator[tuple[Member, Iterator[Buffer]]]


class BaseBackup:
    """A base backup on one session. Errors of all methods are those of the session; damage is an ``IntegrityError``."""

    def __init__(self, session: ReplicationSession, options: BaseBackupOptions) -> None:
        self._session = session
        self._options = options
        self._tablespaces: tuple[StreamedTablespace, ...] = ()
        self._messages: Iterator[memoryview] = iter(())
        self._pending: memoryview | None = None
        """A message of the single COPY that was read, but belongs to what comes next."""

    @property
    def _one_copy(self) -> bool:
        return self._session.server_version >= ONE_COPY_SINCE

    def begin(self) -> StreamStart:
        """Upload the manifest of the parent if there is one, start the backup and wait for its checkpoint."""
        if self._options.incremental_manifest is not None:
            self._session.send("UPLOAD_MANIFEST")
            self._expect(ExecStatus.COPY_IN)
            self._session.copy_in(self._options.incremental_manifest)
            self._session.finish()
        self._session.send(command(self._options, self._session.server_version))
        lsn, timeline = self._position()
        announced = self._expect(ExecStatus.TUPLES_OK)
        self._tablespaces = tuple(
            StreamedTablespace(int(oid) if oid else None, location or "", int(size or 0) * 1024)
            for oid, location, size in announced
        )
        return StreamStart(lsn, timeline, self._tablespaces)

    def archives(self) -> Iterator[TarStream]:
        """Yield the tars, one after another; each must be walked through before the next is asked for."""
        return self._of_one_copy() if self._one_copy else self._of_several_copies()

    def manifest(self) -> Iterator[Buffer]:
        """Yield the server's manifest, byte for byte."""
        if not self._one_copy:
            self._expect(ExecStatus.COPY_OUT)
            yield from self._session.copy_out()
            return
        message = self._take()
        if message is None or message[0] != _MANIFEST:
            raise IntegrityError("the server's stream has no manifest")
        yield from self._content()
        if self._take() is not None:
            raise IntegrityError("the server's stream goes on behind its manifest")

    def end(self) -> StreamEnd:
        """Return where the backup ends: only now is it known to be whole."""
        lsn, timeline = self._position()
        self._session.finish()
        return StreamEnd(lsn, timeline)

    def _of_several_copies(self) -> Iterator[TarStream]:
        for tablespace in self._tablespaces:
            self._expect(ExecStatus.COPY_OUT)
            chunks: Iterator[Buffer] = chain(self._session.copy_out(), (_UNTERMINATED,))
            yield TarStream(tablespace, read_members(chunks, _source(tablespace)))

    def _of_one_copy(self) -> Iterator[TarStream]:
        self._expect(ExecStatus.COPY_OUT)
        self._messages = self._session.copy_out()
        announced = {_tar_name(tablespace): tablespace for tablespace in self._tablespaces}
        while (message := self._take()) is not None:
            if message[0] == _PROGRESS:
                continue
            if message[0] != _ARCHIVE:
                self._pending = message
                return
            name = bytes(message[1:]).partition(b"\0")[0].decode()
            tablespace = announced.get(name)
            if tablespace is None:
                raise IntegrityError(f"the server's stream has an archive {name!r} that wasn't announced")
            yield TarStream(tablespace, read_members(self._content(), _source(tablespace)))

    def _content(self) -> Iterator[memoryview]:
        """Yield data up to the message that begins something else."""
        for message in self._messages:
            kind = message[0]
            if kind == _DATA:
                yield message[1:]
            elif kind != _PROGRESS:
                self._pending = message
                return

    def _take(self) -> memoryview | None:
        message, self._pending = self._pending, None
        return message if message is not None else next(self._messages, None)

    def _position(self) -> tuple[int, int]:
        """Take a result that holds an LSN and a timeline."""
        ((lsn, timeline, *_),) = self._expect(ExecStatus.TUPLES_OK)
        return parse_lsn(str(lsn)), int(str(timeline))

    def _expect(self, status: ExecStatus) -> list[list[str | None]]:
        result = self._session.result()
        if result is not None and result.status == ExecStatus.COMMAND_OK != status:
            result = self._session.result()
        if result is None or result.status != status:
            found = "nothing" if result is None else ExecStatus(result.status).name
            raise OperationError(f"the server answers BASE_BACKUP with {found} instead of {status.name}")
        return rows_of(result)


def command(options: BaseBackupOptions, version: int) -> str:
    """Return the command for a server of this version."""
    rate = _rate(options.max_rate)
    label = "'" + options.label.replace("'", "''") + "'"
    if version < ONE_COPY_SINCE:
        words = [f"LABEL {label}", "PROGRESS", "MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'CRC32C'"]
        words += ["FAST"] if options.fast else []
        words += ["WAL", "NOWAIT"] if options.include_wal else []
        words += [f"MAX_RATE {rate}"] if rate else []
        words += [] if options.verify_checksums else ["NOVERIFY_CHECKSUMS"]
        return f"BASE_BACKUP {' '.join(words)}"
    words = [f"LABEL {label}", "PROGRESS", "MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'CRC32C'"]
    words.append(f"CHECKPOINT '{'fast' if options.fast else 'spread'}'")
    words += ["WAL", "WAIT false"] if options.include_wal else []
    words += [f"MAX_RATE {rate}"] if rate else []
    words += [] if options.verify_checksums else ["VERIFY_CHECKSUMS false"]
    words += ["INCREMENTAL"] if options.incremental_manifest is not None else []
    return f"BASE_BACKUP ({', '.join(words)})"


def _rate(bytes_per_second: int | None) -> int | None:
    """Return the nearest rate in kB/s that the server takes; None for no limit, or one that is above its highest."""
    if bytes_per_second is None or bytes_per_second // 1024 > _MAX_RATE[-1]:
        return None
    return max(bytes_per_second // 1024, _MAX_RATE[0])


def _tar_name(tablespace: StreamedTablespace) -> str:
    return "base.tar" if tablespace.oid is None else f"{tablespace.oid}.tar"


def _source(tablespace: StreamedTablespace) -> str:
    return f"the server's stream of {'PGDATA' if tablespace.oid is None else f'tablespace {tablespace.oid}'}"
