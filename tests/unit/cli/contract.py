"""The options of the original commands, as data: what a drop-in must accept, with which value and which default.

Each row is ``(flags, destination, default, sample argument or None, value of the sample)``.
"""

from __future__ import annotations

from typing import Any

Row = tuple[tuple[str, ...], str, Any, str | None, Any]

GIB = 1024**3
MIB = 1024**2

COMMON: list[Row] = [
    (("-v", "--verbose"), "verbose", 0, None, 1),
    (("-q", "--quiet"), "quiet", 0, None, 1),
    (("-t", "--test"), "test", False, None, True),
    (("--cloud-provider",), "cloud_provider", None, "azure-blob-storage", "azure-blob-storage"),
    (("--endpoint-url",), "endpoint_url", None, "http://127.0.0.1:9", "http://127.0.0.1:9"),
    (("-P", "--aws-profile", "--profile"), "aws_profile", None, "work", "work"),
    (("--read-timeout",), "read_timeout", None, "60", 60),
    (("--addressing-style",), "addressing_style", None, "path", "path"),
    (("--azure-credential", "--credential", "--default"), "azure_credential", None, "azure-cli", "azure-cli"),
    (("--sse-customer-key",), "sse_customer_key", None, "file:///k", "file:///k"),
]
ENCRYPTION: list[Row] = [
    (("-e", "--encryption"), "encryption", None, "aws:kms", "aws:kms"),
    (("--sse-kms-key-id",), "sse_kms_key_id", None, "k", "k"),
    (("--encryption-scope",), "encryption_scope", None, "scope", "scope"),
    (("--kms-key-name",), "kms_key_name", None, "projects/p", "projects/p"),
]
TAGS: list[Row] = [
    (("--tag",), "tag", [], "a,b", [("a", "b")]),
    (("--tags",), "tags", None, "a,b", [("a", "b")]),
]
FORMAT: list[Row] = [(("--format",), "format", "console", "json", "json")]

COMMANDS: dict[str, tuple[list[str], list[Row]]] = {
    "backup": (
        ["destination_url", "server_name"],
        [
            *((flags, "compression", None, None, flags[-1][2:]) for flags in (("-z", "--gzip"), ("-j", "--bzip2"))),
            *((("--" + name,), "compression", None, None, name) for name in ("snappy", "lz4", "zstd")),
            (("-h", "--host"), "host", None, "db", "db"),
            (("-p", "--port"), "port", None, "5433", "5433"),
            (("-U", "--user"), "user", None, "u", "u"),
            (("-d", "--dbname"), "dbname", "postgres", "d", "d"),
            (("--immediate-checkpoint",), "immediate_checkpoint", False, None, True),
            (("--keepalive-interval",), "keepalive_interval", 60, "0", 0),
            (("-J", "--jobs"), "jobs", 2, "4", 4),
            (("-S", "--max-archive-size"), "max_archive_size", 100 * GIB, "1.5GB", 3 * GIB // 2),
            (("--min-chunk-size",), "min_chunk_size", None, "5MB", 5 * MIB),
            (("--max-bandwidth",), "max_bandwidth", None, "1MiB", 1_000_000),
            (("-n", "--name"), "name", None, "nightly", "nightly"),
            (("--snapshot-instance",), "snapshot_instance", None, "i", "i"),
            (("--snapshot-disk",), "snapshot_disks", [], "d1", ["d1"]),
            (("--gcp-zone", "--snapshot-zone"), "gcp_zone", None, "z", "z"),
            (("--gcp-project", "--snapshot-gcp-project"), "gcp_project", None, "p", "p"),
            *TAGS,
            *ENCRYPTION,
            (("--aws-region",), "aws_region", None, "r", "r"),
            (("--aws-await-snapshots-timeout",), "aws_await_snapshots_timeout", 3600, "1", 1),
            (("--aws-snapshot-lock-mode",), "aws_snapshot_lock_mode", None, "governance", "governance"),
            (("--aws-snapshot-lock-cool-off-period",), "aws_snapshot_lock_cool_off_period", None, "72", 72),
            (
                ("--aws-snapshot-lock-expiration-date",),
                "aws_snapshot_lock_expiration_date",
                None,
                "2027-01-01T00:00:00.0Z",
                "2027-01-01T00:00:00.0Z",
            ),
            (("--aws-snapshot-lock-duration",), "aws_snapshot_lock_duration", None, "36500", 36500),
            (("--azure-subscription-id",), "azure_subscription_id", None, "s", "s"),
            (("--azure-resource-group",), "azure_resource_group", None, "g", "g"),
        ],
    ),
    "backup-delete": (
        ["source_url", "server_name", "--retention-policy=REDUNDANCY 1"],
        [
            (("-m", "--minimum-redundancy"), "minimum_redundancy", 0, "0", 0),
            (("--dry-run",), "dry_run", False, None, True),
            (("--batch-size",), "batch_size", None, "-5", -5),
            (("--check-object-lock",), "check_object_lock", False, None, True),
        ],
    ),
    "backup-keep": (["source_url", "server_name", "backup_id", "--status"], []),
    "backup-list": (["source_url", "server_name"], FORMAT),
    "backup-show": (["source_url", "server_name", "backup_id"], FORMAT),
    "check-wal-archive": (
        ["destination_url", "server_name"],
        [(("--timeline",), "timeline", None, "2", 2)],
    ),
    "restore": (
        ["source_url", "server_name", "backup_id", "recovery_dir"],
        [
            (("--tablespace",), "tablespaces", [], "a:/b", ["a:/b"]),
            (("--snapshot-recovery-instance",), "snapshot_recovery_instance", None, "i", "i"),
            (("--gcp-zone", "--snapshot-recovery-zone"), "gcp_zone", None, "z", "z"),
            (("--aws-region",), "aws_region", None, "r", "r"),
            (("--azure-resource-group",), "azure_resource_group", None, "g", "g"),
            (("--target-tli",), "target_tli", None, "latest", "latest"),
            (("--target-lsn",), "target_lsn", None, "0/1", "0/1"),
            (("--target-time",), "target_time", None, "now", "now"),
        ],
    ),
    "wal-archive": (
        ["destination_url", "server_name", "wal_path"],
        [
            *((flags, "compression", None, None, flags[-1][2:]) for flags in (("-z", "--gzip"), ("-j", "--bzip2"))),
            *((("--" + name,), "compression", None, None, name) for name in ("xz", "snappy", "zstd", "lz4")),
            # Barman's default is medium, ours what a measurement on WAL shows best.
            (("--compression-level",), "compression_level", None, "-5", -5),
            *TAGS,
            (("--history-tag",), "history_tag", [], "a,b", [("a", "b")]),
            (("--history-tags",), "history_tags", None, "a,b", [("a", "b")]),
            *ENCRYPTION,
            (("--max-block-size",), "max_block_size", 4 * MIB, "1MB", MIB),
            (("--max-concurrency",), "max_concurrency", 1, "8", 8),
            (("--max-single-put-size",), "max_single_put_size", 64 * MIB, "8mb", 8 * MIB),
        ],
    ),
    "wal-restore": (
        ["source_url", "server_name", "wal_name", "wal_dest"],
        [
            (("--no-partial",), "no_partial", False, None, True),
            (("-p", "--parallel"), "parallel", 0, "-2", -2),
            # Barman's default is /var/tmp/walrestore for all users, ours has the user's number behind it.
            (("--spool-dir",), "spool_dir", None, "/s", "/s"),
        ],
    ),
}
"""Positionals (with a required option where there is one), and the options beside the common ones."""
