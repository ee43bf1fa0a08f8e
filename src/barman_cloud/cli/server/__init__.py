"""``barman-cloud server COMMAND …``: what Barman's ``barman COMMAND …`` takes, prints and ends with.

``registry`` is the table of commands, ``main`` runs one; ``output`` is text or JSON, ``session`` the servers of the
configuration with their stores. The other modules hold one group of commands each: they turn Barman's words into calls
of ``api`` or into a command line of the plain commands, and what comes back into Barman's lines.
"""
