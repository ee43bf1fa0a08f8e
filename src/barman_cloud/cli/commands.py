"""The one table of commands. Command ``some-name`` is in the module ``some_name`` of this package."""

from __future__ import annotations

PROGRAMS = {
    "backup": "Take a base backup of a PostgreSQL cluster and store it.",
    "backup-delete": "Delete backups, by name or by retention policy, and the WAL that no other backup needs.",
    "backup-keep": "Keep a backup regardless of retention policies, release it, or tell whether it is kept.",
    "backup-list": "List the backups of a server.",
    "backup-show": "Show one backup in detail.",
    "check-wal-archive": "Check that the WAL archive is safe to use for a new cluster.",
    "restore": "Restore a base backup into a directory.",
    "wal-archive": "Store one WAL file; for archive_command.",
    "wal-restore": "Fetch one WAL file; for restore_command.",
}
"""Installed as ``barman-cloud-NAME`` too: the drop-ins."""

OWN = {
    "check": "Tell whether backups and WAL are whole and fresh, from listings alone.",
    "cleanup": "Remove what runs that were killed left in the bucket.",
    "consolidate": "Make a full backup out of a chain of incremental ones, from bucket to bucket.",
    "doctor": "Find everything that stops a set-up from working: credentials, bucket, rights, settings.",
    "cron": "Start what is due for the servers of the configuration, and return.",
    "config-switch": "Lay a model of the configuration over a server, or take it off.",
    "drill": "Restore, recover and start a backup in private: does it work, and how long does that take?",
    "report": "Show what can be recovered, how it grows and what it costs, in the terminal or as a page.",
    "setup": "Print what a set-up needs: policies, roles, settings, systemd units; nothing is changed.",
    "verify": "Read backups and WAL, and tell what is broken and what can be restored.",
    "wal-receive": "Receive WAL from a server as it is written, and store it.",
}
"""Only subcommands of ``barman-cloud``."""

SHORT = {"delete": "backup-delete", "keep": "backup-keep", "list": "backup-list", "show": "backup-show"}
"""Shorter words for subcommands of ``barman-cloud``."""

SUMMARIES = {**PROGRAMS, **OWN}
"""Every command with one line about it, for help and documentation."""
