"""Base backups as disk snapshots of a cloud provider.

Begin with ``base`` (the contract of a provider) and ``taking``; ``aws``, ``azure`` and ``gcp`` are the providers,
``mounts`` finds devices on this machine. May import ``catalog`` and what is below.
"""
