"""What we know about PostgreSQL: connections, backup mode, WAL names, pages and records, control file, settings.

Begin with ``connection`` and ``wal``. May import ``buffers``, ``errors`` and ``logs`` only: nothing here knows a
store.
"""
