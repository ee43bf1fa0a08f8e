"""Taking a base backup: from PGDATA or a replication stream to archives in the store, or to disk snapshots.

Begin with ``lifecycle`` (id, backup mode, ``backup.info`` from STARTED to DONE), then ``archive_backup`` (the copy
method of archives), ``source`` (where members come from: ``local_files``, ``streaming``) and ``worker`` (the
threads). May import ``catalog``, ``replication``, ``incremental``, ``snapshots`` and what is below; neither
``restore`` nor ``wal``.
"""
