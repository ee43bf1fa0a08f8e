"""Everything that stops a set-up from working, in one run, and what a set-up needs.

``doctor.py`` runs the examinations: of this machine, of the way to the bucket, of the bucket by small objects, and of
the server. ``setup.py`` prints what an administrator puts in place; both take rights from the same tables.
"""
