"""Amazon S3 and compatible stores.

``provider`` is the entry, ``open`` makes a store of settings, ``store`` and ``api`` do the work.
"""
