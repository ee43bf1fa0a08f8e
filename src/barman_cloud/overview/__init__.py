"""One look at a server's backups and WAL: what can be recovered, how it grows, what it costs.

``gather`` reads listings and the catalog into the values of ``model``; ``text`` and ``page`` (with ``drawing``) show
them; ``prices`` estimates.
"""
