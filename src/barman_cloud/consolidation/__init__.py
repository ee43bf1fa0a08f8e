"""A full backup out of a chain of incremental ones, from bucket to bucket.

Nothing is staged on a disk. Begin with ``consolidate`` (the life of the new backup), then ``held_blocks`` (which
changed blocks are in memory; ``incremental.blocks`` tells where each block comes from) and ``members`` (what the new
archives get). May import ``backup``, ``restore``, ``incremental``, ``catalog`` and what is below.
"""
