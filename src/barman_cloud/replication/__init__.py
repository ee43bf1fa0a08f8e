"""PostgreSQL's streaming replication protocol: base backups and WAL as streams.

Begin with ``session`` (a connection to a WAL sender that never blocks inside libpq), then ``base_backup`` and
``wal_stream``; ``slots`` looks after replication slots, ``refusals`` says why a server gives no such connection. May
import ``archive``, ``postgres`` and what is below.
"""
