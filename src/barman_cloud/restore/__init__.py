"""Bringing a base backup back: decide, check, extract in parallel, make durable, set recovery up.

Begin with ``archive_restore`` (the order of one restore), ``plan`` (decided before a byte is written) and ``extract``
(safe extraction); ``reach`` asks whether recovery can get to its target, ``chain`` restores increments, ``finish``
ends it. May import ``catalog``, ``incremental``, ``snapshots`` and what is below; neither ``backup`` nor ``wal``.
"""
