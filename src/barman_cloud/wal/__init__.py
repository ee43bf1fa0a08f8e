"""Archiving, fetching and receiving WAL: ``archive_command``, ``restore_command``, and what works beside them.

PostgreSQL runs ``wal-archive`` for each segment that is full. It is read and checked piece by piece, compressed, and
stored by one conditional create; exit 0 means that it is durable in the store. In recovery PostgreSQL runs
``wal-restore`` for each segment that it needs next, which is fetched, checked and put in its place by a rename. With
``--parallel`` a process in the background does both for the segments that follow, and leaves what it did in the spool,
where the call for a segment finds it::

    pg_wal/SEGMENT                                                              pg_wal/RECOVERYXLOG
        │ wal_file      read, page headers checked                                     ▲ delivery     temporary file,
        ▼                                                                              │              fsync, rename
    archiver ──────── compress ────────► wals/…/SEGMENT.lz4 ──────── stored ──────► restorer
        ▲               put              in the object store     get, decompress   │   ▲
        │                                                                          ▼   │
        │                                                        key_hint   where the next one is likely to be
    archive_ahead   the files that are .ready         restore_ahead   the segments that follow, all records checked
        │                                                 │
        ▼ background    one process for each directory    ▼
    spool/archive-KEY/SEGMENT                         spool/restore-KEY/SEGMENT
      archive_spool   "stored, if it still is this"     restore_spool   the segment itself, moved to its place
        ▲                                                 ▲
        └──────────────── background_client ──────────────┘
             the next call looks here first, and tells the process how far PostgreSQL is

``wal-receive`` takes WAL from a replication connection instead, and tells the server how much of it is durable::

    receive_source ───► receiver ───► receive_sink
    the server           takes        ├─ receive_spooled   in receive_spool, fsynced; receive_upload stores it then
                                      └─ receive_direct    pieces of a receive_segment in the bucket (receive_workers);
                                                           unfinished puts them together for wal-restore

``receive_plan`` finds where it begins, ``receive_resume`` goes on with what a direct receiver left, and
``receive_report`` tells ``check`` how it is.

Begin with ``archiver``. May import ``catalog``, ``replication`` and what is below; ``spool``, ``archive_spool``,
``restore_spool``, ``background_client`` and ``delivery`` nothing but ``os`` and each other, since they are all that the
call which finds its work done loads.
"""
