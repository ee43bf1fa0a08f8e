"""``python benchmarks/received.py CONNINFO``: receive a base backup, take its tars apart, and drop everything.

It is what a streamed backup does before compression and the store, in the part of it that can't be shared among
processors, so it is compared with ``pg_basebackup`` that writes to nowhere. As that one, it doesn't wait for the
archiver at the end, which needs WAL to be sent along.
"""

from __future__ import annotations

import sys

import psycopg

from barman_cloud.replication.base_backup import BaseBackup, BaseBackupOptions
from barman_cloud.replication.session import open_session


def main() -> None:
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        session = open_session(connection)
        try:
            backup = BaseBackup(session, BaseBackupOptions("benchmark", fast=True, include_wal=True))
            backup.begin()
            for archive in backup.archives():
                for _member, content in archive.members:
                    for _piece in content:
                        pass
            for _piece in backup.manifest():
                pass
            backup.end()
        finally:
            session.close()


if __name__ == "__main__":
    main()
