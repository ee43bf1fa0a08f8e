"""What is due, who may do it, and what was done: the state of maintenance, all of it in the bucket.

Begin with ``due`` (when a job is due), then ``lease`` (one owner at a time, on any number of hosts) and ``history``
(one small object for each run). May import ``verify``, ``config``, ``snapshots`` and what is below.
"""
