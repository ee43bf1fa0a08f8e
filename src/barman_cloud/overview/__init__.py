"""One look at a server's backups and WAL: what can be recovered, how it grows, what it costs.

Begin with ``model`` (the values) and ``gather``, which reads them from listings and the catalog; ``text`` and ``page``
(with ``drawing``) show them; ``prices`` estimates. May import ``verify``, ``backup`` and what is below.
"""
