"""Text and JSON for people and programs.

Begin with ``terminal``, the one way of text to standard output, and ``text``, which lays tables out. ``progress``
counts what is done, ``live`` shows it, ``summary`` tells it at the end. May import ``errors`` and ``logs`` only.
"""
