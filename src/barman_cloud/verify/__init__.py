"""Do my backups work? ``check`` answers from listings, ``verify`` from every byte, ``drill`` by a real recovery.

All three speak in findings (``findings``), which ``render`` shows as text, JSON, a Nagios line and Prometheus metrics.
May import everything below it: ``restore``, ``catalog``, ``archive``, ``postgres``, ``store``.
"""
