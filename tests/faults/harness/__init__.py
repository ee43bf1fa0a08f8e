"""A harness that disturbs the commands at every step: kills, failing system calls, scarce resources, lying stores.

::

    site/sitecustomize.py   in the process of a command: stops it, or lets a call fail, at a chosen file operation
    process.py              runs a command with one disturbance, and returns how it ended
    wire.py                 faults of the network and of the store, for ``tests.support.fault_proxy``
    material.py             real backups and WAL to work on, made once
    scenarios/              what each command is given, and what has to hold afterwards
    cases.py                which disturbances there are for a scenario, how one is named, run and judged

``python -m tests.torture`` runs as many as there is time for, ``tests/faults/test_torture.py`` a few in every test run.
"""
