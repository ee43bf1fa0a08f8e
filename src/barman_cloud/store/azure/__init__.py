"""Azure Blob Storage.

``provider`` is the entry, ``open`` makes a store of settings, ``store`` and ``api`` do the work.
"""
