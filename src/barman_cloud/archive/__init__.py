"""The pipe: tar, compression, manifest, throttle, each from an iterator of buffers to an iterator of buffers.

Begin with ``buffers`` (what flows), ``tar`` (members to bytes and back) and ``compression``; ``manifest`` is
PostgreSQL's ``backup_manifest``, ``archives_json`` our list of a backup's archives. May import ``buffers``,
``errors`` and ``logs`` only: nothing here knows a store or a server.
"""
