"""What is in the bucket, and the rules about it: keys, ``backup.info``, selection, retention, deletion, WAL ranges.

Begin with ``layout`` (every key) and ``catalog`` (listing and loading backups); ``retention`` and ``wal_cleanup``
plan without touching anything, ``deletion`` carries plans out. May import ``archive``, ``postgres``, ``report``
and what is below.
"""
