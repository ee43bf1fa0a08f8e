"""Block-level incremental backups: which blocks changed, and the file format that holds them.

An incremental backup holds, for each relation file that its parent has too, only the blocks that changed since the
parent began; everything else is stored whole. Begin with ``file_format`` (what such a file looks like), then
``relations`` (which files are relation files) and ``changes`` (what to store of each). ``page_lsn`` finds changed
blocks where PostgreSQL has no WAL summaries. May import ``postgres``, ``archive`` and ``errors``; knows nothing of
stores.
"""
