"""Object stores behind one written contract; a store knows nothing of PostgreSQL.

Begin with ``base`` (what every method promises) and ``providers`` (the one table); ``cloud`` is what the clouds have in
common, ``s3``, ``azure`` and ``google`` hold what differs, under equal names, and ``local`` is a directory. May import
``buffers``, ``deadline``, ``errors`` and ``logs`` only.
"""
