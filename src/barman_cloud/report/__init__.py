"""Text and JSON for people and programs.

``terminal`` is the one way of text to standard output, ``text`` lays tables out. May import ``errors`` and ``logs``
only.
"""
