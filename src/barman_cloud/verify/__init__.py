"""Do my backups work? ``check`` answers from listings, ``verify`` from every byte, ``drill`` by doing it.

All speak in findings (``findings``), which ``render`` shows as text, JSON, a Nagios line and Prometheus metrics.
Begin with ``check``, ``stored_backup`` and ``drill``. May import ``backup``, ``restore``, ``wal`` and what is
below.
"""
