"""The configuration file: Barman's own INI form, read into values that the commands take.

Begin with ``keys`` (what a key is) and ``reader`` (from files to :class:`~barman_cloud.config.server.Server`);
``barman_keys`` and ``own_keys`` are the table, ``kinds`` what values look like, ``words`` how a server becomes the
options of a command. May import ``catalog``, ``store`` and what is below.
"""
