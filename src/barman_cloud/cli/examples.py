"""Two examples for each command: for ``--help`` and the manual pages. Tests parse every line."""

from __future__ import annotations

REPOSITORY = "https://github.com/barman-cloud/barman-cloud"
"""Where the project is published. Nothing else has the address, except for ``project.urls`` in ``pyproject.toml``,
which a test compares: a fork changes it in these two places."""

DOCUMENTATION = f"{REPOSITORY}/blob/main/docs/reference/commands.md"
"""The page of all commands; the heading of a command is behind it."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "backup": (
        ("of the server on this machine, in four archives at a time", "--zstd --jobs 4 s3://backups/prod main"),
        ("of another host, over the network", "--method stream --zstd --host db1 --user barman s3://backups/prod main"),
    ),
    "backup-delete": (
        ("what the policy calls obsolete", "-r 'RECOVERY WINDOW OF 14 DAYS' s3://backups/prod main"),
        ("one backup; only tell what would go", "-b 20261126T030000 --dry-run s3://backups/prod main"),
    ),
    "backup-keep": (
        ("keep a backup with all WAL since", "--target full s3://backups/prod main 20261126T030000"),
        ("let policies have it again", "--release s3://backups/prod main 20261126T030000"),
    ),
    "backup-list": (
        ("as a table", "s3://backups/prod main"),
        ("for programs", "--format json s3://backups/prod main"),
    ),
    "backup-show": (
        ("the newest one", "s3://backups/prod main latest"),
        ("for programs", "--format json s3://backups/prod main 20261126T030000"),
    ),
    "check-wal-archive": (
        ("before a new cluster archives there", "s3://backups/prod main"),
        ("the store of another provider", "--endpoint-url https://s3.example.org s3://backups/prod main"),
    ),
    "restore": (
        ("the newest backup, ready to recover", "--write-recovery-settings s3://backups/prod main latest /srv/pg/data"),
        (
            "to a moment, from the backup before it",
            "--write-recovery-settings --target-time '2026-11-23 08:00+00' s3://backups/prod main auto /srv/pg/data",
        ),
    ),
    "wal-archive": (
        ("in archive_command", "--zstd s3://backups/prod main %p"),
        ("several segments at a time", "--zstd --parallel 8 s3://backups/prod main %p"),
    ),
    "wal-restore": (
        ("in restore_command of a recovery", "--abort-recovery-on-error s3://backups/prod main %f %p"),
        ("in that of a standby, fetching ahead", "--parallel 8 s3://backups/prod main %f %p"),
    ),
    "check": (
        ("each hour", "--max-backup-age 26h --max-wal-age 15min s3://backups/prod main"),
        ("for monitoring", "--prometheus /var/lib/node_exporter/barman-cloud.prom s3://backups/prod main"),
    ),
    "cleanup": (
        ("tell what would be removed", "--dry-run s3://backups/prod main"),
        ("remove it", "s3://backups/prod main"),
    ),
    "cron": (
        ("each minute, for all servers of the configuration", ""),
        ("what ran last, and what runs next", "--list main"),
    ),
    "config-switch": (
        ("lay a model over a server", "main main-after-failover"),
        ("and take it off", "main --reset"),
    ),
    "consolidate": (
        ("the newest chain", "s3://backups/prod main last"),
        ("with a name of its own", "--name weekly --jobs 4 s3://backups/prod main 20261126T030000"),
    ),
    "doctor": (
        ("the way to the bucket, and what may be done there", "s3://backups/prod main"),
        ("the server as well, with one segment on its way", "--dbname postgres --switch-wal s3://backups/prod main"),
    ),
    "drill": (
        ("the newest backup, with all WAL", "s3://backups/prod main"),
        ("to a moment", "--target-time '2026-11-23 08:00+00' s3://backups/prod main"),
    ),
    "report": (
        ("one server, in the terminal", "s3://backups/prod main"),
        ("all servers, as a page", "--html report.html s3://backups/prod"),
    ),
    "setup": (
        ("everything", "s3://backups/prod main"),
        ("only the policies for the bucket", "--part policy s3://backups/prod main"),
    ),
    "verify": (
        ("the newest backup and its WAL", "s3://backups/prod main"),
        ("all that wasn't read within a month", "--wal --max-age 30d s3://backups/prod main all"),
    ),
    "wal-receive": (
        (
            "with a slot, which is made if it is missing",
            "--slot archive --create-slot --spool-dir /var/spool/wal --host db1 --user barman s3://backups/prod main",
        ),
        (
            "compressed",
            "--zstd --slot archive --spool-dir /var/spool/wal --host db1 --user barman s3://backups/prod main",
        ),
    ),
}


def help_text(name: str, prog: str) -> str:
    """Return what stands below the options in ``--help``: examples, and where to read on."""
    anchor = prog.replace(" ", "-")
    lines = [f"  {what}:\n    {prog} {words}" for what, words in EXAMPLES.get(name, ())]
    return "\n".join(["", "examples:", *lines, "", f"{DOCUMENTATION}#{anchor}", ""])
