"""Everything that stops a set-up from working, in one run, and what a set-up needs.

Begin with ``doctor``, which runs the examinations: of this machine (``machine``), of the way to the bucket (``way``),
of the bucket by small objects (``probes``), and of the server (``database``). ``setup`` prints what an administrator
puts in place; both take rights from ``rights``. May import ``verify`` and what is below.
"""
