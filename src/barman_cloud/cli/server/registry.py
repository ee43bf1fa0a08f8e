"""The table of server commands: parser, code, help and the reference page are found by it.

Command ``some-name`` is in the module of this package that the table names: ``some_name(session, args)`` does it, and
``some_name_arguments(parser)`` declares what it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import Session


class Entry(NamedTuple):
    """One command. ``differs`` says what isn't as with Barman, and why; empty: nothing that was found."""

    module: str
    summary: str
    differs: str = ""
    aliases: tuple[str, ...] = ()


COMMANDS: dict[str, Entry] = {
    "list-servers": Entry("servers", "List the servers of the configuration.", aliases=("list-server",)),
    "show-servers": Entry(
        "servers",
        "Show every effective value of a server, and what PostgreSQL and the bucket say.",
        "live values of programs that aren't used here (pg_basebackup, pg_receivewal, rsync) are left out; "
        "our own keys are shown",
        aliases=("show-server",),
    ),
    "check": Entry(
        "check",
        "Tell whether a server can be backed up and restored.",
        "the lines of Barman come first, under the same names; behind them are ours, such as `wal continuity` and "
        "`configuration`; a bucket that doesn't exist FAILED; a receiver on another host counts as running",
    ),
    "status": Entry(
        "status",
        "Show the state of a server and its backups.",
        "at the end what is wrong with receiving WAL, if anything is, and the last and next run of what has a schedule",
    ),
    "replication-status": Entry("replication", "Show the clients that stream WAL from a server."),
    "backup": Entry(
        "backup",
        "Take a base backup.",
        "nothing is staged on disk, so `--cloud-staging-…` has no effect; the first backup removes no WAL; the end of "
        "the WAL is waited for up to 60 seconds without `--wait`; `--incremental` also works with `local-to-cloud` and "
        "before PostgreSQL 17",
    ),
    "list-backups": Entry(
        "backups",
        "List the backups of a server.",
        "read from the bucket, so that backups, keeps and deletions of other hosts and tools are seen",
        aliases=("list-backup",),
    ),
    "show-backup": Entry("show_backup", "Show one backup in detail.", aliases=("show-backups",)),
    "list-files": Entry("backups", "List the objects of a backup.", "small objects of ours are listed too"),
    "check-backup": Entry("catalogue", "Check that the WAL of a backup is in the archive."),
    "verify-backup": Entry(
        "catalogue",
        "Read a backup and its WAL, and compare it with its manifest.",
        "Barman refuses this with cloud storage",
        aliases=("verify",),
    ),
    "generate-manifest": Entry(
        "catalogue",
        "Put the manifest of a backup beside its archives.",
        "Barman refuses this with cloud storage; here it takes the manifest out of the archive",
    ),
    "keep": Entry("catalogue", "Keep a backup regardless of the retention policy."),
    "delete": Entry(
        "catalogue",
        "Delete a backup, what builds on it, and WAL that nothing else needs.",
        "the WAL files that go are not named one by one",
    ),
    "restore": Entry(
        "restore",
        "Restore a backup and make PostgreSQL ready to recover.",
        "`restore_command` stands alone: program, URL and options instead of `barman`; chains are restored in one pass "
        "without staging, so staging options have no effect; `--remote-ssh-command` is refused: run it on that "
        "machine; `--delta-restore` works",
        aliases=("recover",),
    ),
    "receive-wal": Entry(
        "receiving",
        "Receive WAL by streaming replication, until it is stopped.",
        "segments go to the bucket by themselves, `.partial` included; `--reset` only looks: the receiver finds its "
        "place in the bucket",
    ),
    "switch-wal": Entry("receiving", "Close the current WAL segment.", aliases=("switch-xlog",)),
    "archive-wal": Entry(
        "incoming", "Store the WAL files that wait on this machine.", "several at a time, and equal content is success"
    ),
    "list-processes": Entry("receiving", "List the processes of a server on this machine.", aliases=("list-process",)),
    "terminate-process": Entry("receiving", "Stop a process of a server on this machine."),
    "cloud-wal-archive": Entry(
        "wal_programs",
        "Store one WAL file; for archive_command.",
        "every file is in the bucket before 0 is returned, and other content under the same name is refused; "
        "works with all backup methods",
    ),
    "cloud-wal-restore": Entry(
        "wal_programs", "Fetch one WAL file; for restore_command.", "2 when the store can't be reached, not 1"
    ),
    "get-wal": Entry("wal", "Print a WAL file, or list those that follow.", "Barman refuses this with cloud storage"),
    "put-wal": Entry("incoming", "Take WAL files from standard input (a tar with checksums)."),
    "check-wal-archive": Entry("wal", "Check that the WAL archive is safe to use for a new cluster."),
    "check-archived-wal-range": Entry("wal", "Look for missing segments between two."),
    "rebuild-xlogdb": Entry(
        "wal",
        "Count the WAL in the bucket.",
        "Barman refuses this with cloud storage; here there is nothing to rebuild, since the bucket is the catalogue",
    ),
    "diagnose": Entry("servers", "Print configuration and state of everything as JSON.", "other keys of the machine"),
    "cron": Entry(
        "cron",
        "Start what is due for all servers, and return.",
        "also starts what schedules of ours mean; retention is enforced once an hour; several hosts may run it",
    ),
    "config-switch": Entry(
        "config_switch",
        "Lay a model over a server, or take it off.",
        "the active model is in the bucket, for all hosts; the next `cron` starts the receiver again",
    ),
    "sync-info": Entry("refused", "", "passive nodes share the bucket instead"),
    "sync-backup": Entry("refused", "", "the same"),
    "sync-wals": Entry("refused", "", "the same"),
    "export-backup": Entry("refused", "", "restore the backup, or copy its objects"),
    "import-backup": Entry("refused", "", "copy the objects into the bucket"),
    "config-update": Entry("refused", "", "edit the file; `config-switch` changes values for a while"),
    "lock-directory-cleanup": Entry("refused", "", "does nothing: locks end with their processes"),
    "import-state": Entry(
        "import_state",
        "Take over what a Barman server has on this machine: keeps, manifests and WAL that isn't stored yet.",
        "not a command of Barman's",
    ),
}

ALIASES = {alias: name for name, entry in COMMANDS.items() for alias in entry.aliases}


def find(word: str) -> str | None:
    """Return the name of the command that a word means, None if there is none."""
    return word if word in COMMANDS else ALIASES.get(word)


def functions(name: str) -> tuple[Callable[[ArgumentParser], None], Callable[[Session, Namespace], Any]]:
    """Import the module of a command, and return what declares its arguments and what does it."""
    from importlib import import_module

    module = import_module(f"barman_cloud.cli.server.{COMMANDS[name].module}")
    stem = name.replace("-", "_")
    return getattr(module, f"{stem}_arguments"), getattr(module, stem)
