"""Small mistakes in safety-relevant code, one at a time, and whether the tests notice.

::

    mutant.py     what a mutant is, and the changed copy of the source tree that it is tested in
    table/        the mutants, by package
    runner.py     runs the tests that belong to a mutant in a process of its own
    memory.py     which mutants needn't be run again
    page.py       writes the score into docs/explanation/testing.md

``make mutants`` runs all of them. ``tests/unit/test_mutants.py`` holds the table against the source, in every test run.
"""
