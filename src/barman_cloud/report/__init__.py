"""Text and JSON for people and programs.

``terminal`` is the one way of text to standard output, ``text`` lays tables out. ``progress`` counts what is done,
``live`` shows it, ``summary`` tells it at the end. May import ``errors`` and ``logs`` only.
"""
