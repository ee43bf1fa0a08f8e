"""The keys that Barman doesn't have. Barman names each one in a warning and goes on."""

from __future__ import annotations

from barman_cloud.config import kinds
from barman_cloud.config.keys import Key, own

OWN_KEYS: tuple[Key, ...] = (
    own("endpoint_url", "GSM", kinds.http_url, None, "address of an S3-compatible service", "--endpoint-url"),
    own(
        "addressing_style",
        "GSM",
        kinds.one_of("auto", "virtual", "path"),
        None,
        "bucket in the host name or in the path",
        "--addressing-style",
    ),
    own("storage_class", "GSM", kinds.text, None, "storage class of archives and WAL", "--storage-class"),
    own("azure_encryption_scope", "GSM", kinds.text, None, "encryption scope of Azure", "--encryption-scope"),
    own("google_kms_key_name", "GSM", kinds.text, None, "KMS key of Google", "--kms-key-name"),
    own("tags", "GSM", kinds.tags, None, "tags of every object: key=value, key=value", "--tag"),
    own("history_tags", "GSM", kinds.tags, None, "tags of history files", "--history-tag"),
    own("backup_jobs", "GSM", kinds.positive, None, "workers of a backup and a restore", "--jobs"),
    own(
        "base_compression",
        "GSM",
        kinds.one_of("none", "gzip", "bzip2", "lz4", "snappy", "zstd"),
        "none",
        "compression of base backups",
        "--gzip, --zstd …",
    ),
    own("base_compression_level", "GSM", kinds.compression_level, None, "its level", "--compression-level"),
    own("command_timeout", "GSM", kinds.positive, None, "seconds after which a command gives up", "--timeout"),
    own(
        "wal_receiver",
        "GSM",
        kinds.one_of("spool", "direct"),
        "spool",
        "acknowledge WAL when it is on this disk, or when it is in the bucket",
    ),
    own("spool_max", "GSM", kinds.size, 16 * 1024**3, "bytes that receive-wal spools at most", "--spool-max"),
    own("backup_schedule", "GSM", kinds.schedule, None, "when cron takes full backups: five fields, as in crontab"),
    own("incremental_schedule", "GSM", kinds.schedule, None, "when it takes incremental ones"),
    own("verify_schedule", "GSM", kinds.schedule, None, "when it verifies"),
    own("drill_schedule", "GSM", kinds.schedule, None, "when it restores to see that it works"),
    own("schedule_time_zone", "GSM", kinds.time_zone, "UTC", "time zone of the schedules"),
    own("schedule_jitter", "GSM", kinds.natural, 0, "seconds by which starts are spread at random"),
    own("drill_directory", "GSM", kinds.absolute_path, None, "where drills restore to", "--directory"),
    own("verify_maximum_age", "GSM", kinds.age, None, "verify again what was verified longer ago", "--max-age"),
)
