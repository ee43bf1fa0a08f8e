"""A full backup out of a chain of incremental ones, from bucket to bucket.

Nothing is staged on a disk. Begin with ``consolidate`` (the life of the new backup), then ``blocks`` (where each block
of a relation file comes from), ``held_blocks`` (what of it is in memory) and ``members`` (what the new archives get).
"""
