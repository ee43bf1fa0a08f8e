"""Configuration files that are outside PGDATA, of a server whose files aren't visible here.

``BASE_BACKUP`` doesn't send them, and its manifest doesn't list them, so they can't be among PGDATA's archives:
``pg_verifybackup`` would take them for strangers. A role that may read the server's files gets them stored in a tar
beside the archives; otherwise a WARNING says which ones are not in the backup.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from barman_cloud import logs
from barman_cloud.archive.tar import Member, end_of_archive, member_header, padding
from barman_cloud.backup.helper_threads import call_interruptibly
from barman_cloud.backup.lifecycle import Run
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.postgres.connection import Connection, first_line

log = logs.get_logger(__name__)

_MODE = 0o600


@dataclass(frozen=True, slots=True)
class ConfigurationFiles:
    """Contents of configuration files by their absolute paths on the server."""

    contents: Mapping[str, bytes]

    @classmethod
    def read(cls, connection: Connection, info: BackupInfo) -> ConfigurationFiles:
        """Read the server's configuration files that are outside PGDATA; a WARNING names those that can't be read."""
        contents: dict[str, bytes] = {}
        for path in info.configuration_outside:
            try:
                row = connection.execute("SELECT pg_catalog.pg_read_binary_file(%s)", (path,)).fetchone()
            except psycopg.errors.UndefinedFile:
                continue
            except psycopg.Error as error:
                log.warning("%s is outside PGDATA and is not in the backup: %s", path, first_line(error))
                continue
            contents[path] = bytes(row[0]) if row else b""
        return cls(contents)

    def store(self, run: Run) -> None:
        """Store them as ``configuration.tar``, if there are any."""
        if not self.contents:
            return
        key = run.layout.configuration(run.info.backup_id)
        data = self.to_tar()
        call_interruptibly(lambda: run.store.put(key, data, tags=run.tags))
        log.info("%s are outside PGDATA: they are in %s", ", ".join(sorted(self.contents)), run.store.object_url(key))

    def to_tar(self) -> bytes:
        """Return a tar of them, with their absolute paths less the first slash."""
        now = time.time()
        pieces: list[bytes] = []
        for path, data in sorted(self.contents.items()):
            member = Member(path.lstrip("/"), mode=_MODE, uname="postgres", gname="postgres", size=len(data), mtime=now)
            pieces += (member_header(member), data, padding(len(data)))
        return b"".join((*pieces, end_of_archive(sum(map(len, pieces)))))
