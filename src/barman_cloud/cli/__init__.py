"""The commands: one module per command, its parser and its ``run()``, which makes one call of ``api`` of its options.

Begin with ``commands`` (the table), ``command`` (how one is run, and ends) and ``options`` (what they share);
``start`` is where all programs begin. May import everything; nothing imports it, and only here argparse is known.
"""
