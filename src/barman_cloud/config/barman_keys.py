"""Barman's own keys: scopes, defaults and meanings as in its documentation (3.20, "Configuration reference")."""

from __future__ import annotations

from barman_cloud.config import kinds
from barman_cloud.config.keys import Key, key, unused

_LOCAL_ONLY = "backups and WAL go straight to object storage, nothing is kept on a local disk"
_RSYNC = "only copies by rsync over ssh have it; backups are streamed or read locally here"
_STAGING = "nothing is staged on disk"
_COMPRESSED_HERE = "PostgreSQL's own compression isn't used; see base_compression"

_CONNECTION = (
    key("conninfo", "SM", kinds.text, None, "connection string for SQL", "--dbname")._replace(secret=True),
    key(
        "streaming_conninfo",
        "SM",
        kinds.text,
        "{conninfo}",
        "connection string for replication",
        "--streaming-conninfo",
    )._replace(secret=True),
    key("wal_conninfo", "SM", kinds.text, None, "connection string of the server that gives WAL", "--dbname")._replace(
        secret=True
    ),
    key("wal_streaming_conninfo", "SM", kinds.text, None, "the same for replication", "--streaming-conninfo")._replace(
        secret=True
    ),
    key(
        "primary_conninfo",
        "SM",
        kinds.text,
        None,
        "connection string of the primary, for backups of a standby; restore --standby-mode writes it",
        "--primary-conninfo",
    )._replace(secret=True),
    unused(
        "primary_checkpoint_timeout",
        "SM",
        0,
        "the server isn't asked to switch WAL for a backup of a standby; backup --wal-timeout waits for it",
        kinds.natural,
    ),
    key(
        "ssh_command",
        "SM",
        kinds.text,
        None,
        "how to look at the mounts of a snapshot server's machine",
        "--snapshot-ssh-command",
    ),
    key("path_prefix", "GSM", kinds.text, None, "directory of PostgreSQL's programs, for drills", "--pg-bin"),
    unused("network_compression", "GSM", False, _RSYNC, kinds.boolean),
    unused(
        "primary_ssh_command", "SM", None, "a passive node copies from another Barman; the bucket is shared instead"
    ),
    unused("forward_config_path", "GSM", False, "only passive nodes have it", kinds.boolean),
)

_WAL = (
    key("streaming_archiver", "GSM", kinds.boolean, False, "receive WAL by streaming replication"),
    key("archiver", "GSM", kinds.boolean, False, "WAL comes from archive_command"),
    key("slot_name", "SM", kinds.text, None, "replication slot of receive-wal", "--slot"),
    key(
        "create_slot",
        "GSM",
        kinds.one_of("manual", "auto"),
        "manual",
        "auto: the slot is made when it is missing",
        "--create-slot",
    ),
    key("streaming_archiver_name", "GSM", kinds.text, "barman_receive_wal", "application_name of receive-wal"),
    key("archiver_batch_size", "GSM", kinds.natural, 0, "files that one archive-wal handles at most; 0: all"),
    unused("streaming_archiver_batch_size", "GSM", 0, "received WAL is stored as it comes", kinds.natural),
    key(
        "incoming_wals_directory",
        "S",
        kinds.absolute_path,
        "{backup_directory}/incoming",
        "where put-wal's files wait for archive-wal",
    ),
    key(
        "streaming_wals_directory",
        "S",
        kinds.absolute_path,
        "{backup_directory}/streaming",
        "spool of receive-wal",
        "--spool-dir",
    ),
    key("errors_directory", "S", kinds.absolute_path, "{backup_directory}/errors", "files that archive-wal refused"),
    key("max_incoming_wals_queue", "GSM", kinds.natural, None, "check warns above so many waiting files"),
    key(
        "compression",
        "GSM",
        kinds.one_of("gzip", "bzip2", "xz", "zstd", "lz4", "snappy", "none", "pygzip", "pybzip2"),
        None,
        "compression of WAL",
        "--gzip, --zstd …",
    ),
    key(
        "compression_level",
        "GSM",
        kinds.compression_level,
        "medium",
        "its level: low, medium, high or a number",
        "--compression-level",
    ),
    key(
        "cloud_wal_archive_parallel", "GSM", kinds.natural, 0, "files that cloud-wal-archive works ahead", "--parallel"
    ),
    key(
        "cloud_wal_restore_parallel",
        "GSM",
        kinds.natural,
        0,
        "files that cloud-wal-restore works ahead, and the restore_command that restore writes",
        "--parallel",
    ),
    unused("xlogdb_directory", "S", None, "the bucket is the catalogue of WAL"),
    unused("custom_compression_filter", "GSM", None, "the compressions above are built in"),
    unused("custom_compression_magic", "GSM", None, "the compressions above are built in"),
    unused("custom_decompression_filter", "GSM", None, "the compressions above are built in"),
)

_BACKUP = (
    key(
        "backup_method",
        "GSM",
        kinds.one_of("postgres", "local-to-cloud", "snapshot", "rsync", "local-rsync"),
        "rsync",
        "postgres: streamed; local-to-cloud: files of this machine; snapshot: disk snapshots",
        "--method",
    ),
    key(
        "immediate_checkpoint",
        "GSM",
        kinds.boolean,
        False,
        "don't wait for a spread checkpoint",
        "--immediate-checkpoint",
    ),
    key("bandwidth_limit", "GSM", kinds.natural, None, "kB per second of a backup", "--max-bandwidth"),
    key("basebackup_retry_times", "GSM", kinds.natural, 0, "how often a failed backup is tried again"),
    key("basebackup_retry_sleep", "GSM", kinds.natural, 30, "seconds before that"),
    key("parallel_jobs", "GSM", kinds.positive, 1, "workers of a backup and a restore; backup_jobs wins", "--jobs"),
    key(
        "keepalive_interval",
        "GSM",
        kinds.natural,
        60,
        "how often the connection that holds a backup is used, in seconds",
        "--keepalive-interval",
    ),
    key("streaming_backup_name", "GSM", kinds.text, "barman_streaming_backup", "application_name of streamed backups"),
    key("check_timeout", "GSM", kinds.natural, 30, "seconds after which check gives up", "--timeout"),
    key(
        "cloud_upload_max_archive_size",
        "GSM",
        kinds.size,
        100 * 1024**3,
        "largest archive, in bytes",
        "--max-archive-size",
    ),
    key(
        "cloud_upload_min_chunk_size",
        "GSM",
        kinds.size,
        None,
        "smallest part of a multipart upload, in bytes",
        "--min-chunk-size",
    ),
    key("cloud_delete_batch_size", "GSM", kinds.positive, None, "objects of one delete request", "--batch-size"),
    unused(
        "backup_options", "GSM", "concurrent_backup", "every backup is concurrent; PostgreSQL 15 removed the other kind"
    ),
    unused("cloud_staging_directory", "GSM", "/tmp/barman/cloud-staging", _STAGING),  # noqa: S108 - Barman's default
    unused("cloud_staging_max_size", "GSM", 30 * 1024**3, _STAGING, kinds.size),
    unused("parallel_jobs_start_batch_period", "GSM", 1, _RSYNC, kinds.positive),
    unused("parallel_jobs_start_batch_size", "GSM", 10, _RSYNC, kinds.positive),
    unused("reuse_backup", "GSM", None, "backup --incremental stores changed blocks only"),
    unused("autogenerate_manifest", "GSM", False, "every backup has its manifest", kinds.boolean),
    unused("tablespace_bandwidth_limit", "GSM", None, "bandwidth_limit holds for the whole backup"),
    unused("backup_compression", "GSM", None, _COMPRESSED_HERE),
    unused("backup_compression_format", "GSM", None, _COMPRESSED_HERE),
    unused("backup_compression_level", "GSM", None, _COMPRESSED_HERE),
    unused("backup_compression_location", "GSM", None, _COMPRESSED_HERE),
    unused("backup_compression_workers", "GSM", None, _COMPRESSED_HERE),
    unused("encryption", "GSM", None, "objects are encrypted by the store; see aws_encryption"),
    unused("encryption_key_id", "GSM", None, "objects are encrypted by the store; see aws_sse_kms_key_id"),
    unused("encryption_passphrase_command", "GSM", None, "objects are encrypted by the store"),
    unused("warehousepg_dbid", "GSM", None, "WarehousePG isn't supported"),
)

_POLICY = (
    key(
        "retention_policy",
        "GSM",
        kinds.retention_policy,
        None,
        "REDUNDANCY n or RECOVERY WINDOW OF n DAYS|WEEKS|MONTHS",
        "--retention-policy",
    ),
    key("retention_policy_mode", "GSM", kinds.one_of("auto"), "auto", "cron enforces the policy"),
    key("wal_retention_policy", "GSM", kinds.one_of("main"), "main", "WAL follows the backups"),
    key("minimum_redundancy", "GSM", kinds.natural, 0, "never keep fewer full backups", "--minimum-redundancy"),
    key(
        "last_backup_maximum_age",
        "GSM",
        kinds.age,
        None,
        "check fails when the newest backup is older",
        "--max-backup-age",
    ),
    key(
        "last_backup_minimum_size",
        "GSM",
        kinds.size,
        None,
        "check fails when the newest backup is smaller",
        "--min-backup-size",
    ),
    key("last_wal_maximum_age", "GSM", kinds.age, None, "check fails when the newest WAL is older", "--max-wal-age"),
    unused("worm_mode", "GSM", False, "object lock of the bucket does this; see aws_check_object_lock", kinds.boolean),
)

_RESTORE = (
    unused("recovery_options", "GSM", "", "recovery always fetches WAL from the bucket"),
    unused("staging_path", "GSM", None, "increments are restored in place, in one pass"),
    unused("staging_location", "GSM", "local", "increments are restored in place, in one pass"),
    unused("local_staging_path", "GSM", None, "increments are restored in place, in one pass"),
    unused("recovery_staging_path", "GSM", None, "increments are restored in place, in one pass"),
    unused("combine_mode", "GSM", "copy", "increments are restored in place, in one pass"),
)

_HOOKS = tuple(
    key(
        f"{when}_{what}{retry}_script",
        "GSM",
        kinds.text,
        None,
        f"program that runs {words} {what.replace('_', ' ')}{again}",
    )
    for what in ("backup", "archive", "delete", "wal_delete", "recovery")
    for when, words in (("pre", "before"), ("post", "after"))
    for retry, again in (("", ""), ("_retry", ", again until it succeeds"))
)

_IDENTITY = (
    key("description", "SM", kinds.text, None, "one line about the server"),
    key("active", "SM", kinds.boolean, True, "off: cron and commands for all servers leave it out"),
    key("cluster", "SM", kinds.text, "{name}", "name that models are for"),
    key(
        "backup_directory",
        "S",
        kinds.absolute_path,
        "{barman_home}/{name}",
        "cache and spool; the bucket holds everything else",
    ),
    key(
        "basebackups_directory",
        "S",
        kinds.location,
        "{backup_directory}/base",
        "URL (or directory) that base backups go to",
    ),
    key("wals_directory", "S", kinds.location, "{backup_directory}/wals", "URL (or directory) that WAL goes to"),
)

_PROVIDERS = (
    key("aws_profile", "GSM", kinds.text, None, "profile of the AWS configuration files", "--aws-profile"),
    key("aws_region", "GSM", kinds.text, None, "region of bucket and disks", "--aws-region"),
    key(
        "aws_read_timeout",
        "GSM",
        kinds.positive,
        None,
        "seconds after which a silent connection is given up",
        "--read-timeout",
    ),
    key("aws_encryption", "GSM", kinds.one_of("AES256", "aws:kms"), None, "server-side encryption", "--encryption"),
    key("aws_sse_kms_key_id", "GSM", kinds.text, None, "its key", "--sse-kms-key-id"),
    key(
        "aws_sse_customer_key",
        "GSM",
        kinds.text,
        None,
        "file:// and the path of a base64 256-bit key, for SSE-C",
        "--sse-customer-key",
    ),
    key(
        "aws_check_object_lock",
        "GSM",
        kinds.boolean,
        False,
        "look for object locks before deleting",
        "--check-object-lock",
    ),
    key(
        "azure_credential",
        "GSM",
        kinds.one_of("azure-cli", "managed-identity", "default"),
        None,
        "how to sign in",
        "--azure-credential",
    ),
    key("azure_subscription_id", "SM", kinds.text, None, "subscription of the disks", "--azure-subscription-id"),
    key("azure_resource_group", "SM", kinds.text, None, "resource group of the disks", "--azure-resource-group"),
    key("gcp_project", "SM", kinds.text, None, "project of the disks", "--gcp-project"),
    key("gcp_zone", "SM", kinds.text, None, "zone of the disks", "--gcp-zone"),
    key("snapshot_gcp_project", "SM", kinds.text, None, "older name of gcp_project", "--gcp-project"),
    key("snapshot_zone", "SM", kinds.text, None, "older name of gcp_zone", "--gcp-zone"),
    key(
        "snapshot_provider",
        "SM",
        kinds.one_of("aws", "azure", "gcp"),
        None,
        "cloud of the disks",
        "--snapshot-provider",
    ),
    key("snapshot_instance", "SM", kinds.text, None, "machine whose disks hold the cluster", "--snapshot-instance"),
    key("snapshot_disks", "SM", kinds.words, None, "the disks, separated by commas", "--snapshot-disk"),
    key(
        "aws_snapshot_lock_mode",
        "GSM",
        kinds.one_of("governance", "compliance"),
        None,
        "lock the snapshots",
        "--aws-snapshot-lock-mode",
    ),
    key("aws_snapshot_lock_duration", "GSM", kinds.positive, None, "for so many days", "--aws-snapshot-lock-duration"),
    key(
        "aws_snapshot_lock_cool_off_period",
        "GSM",
        kinds.positive,
        None,
        "hours in which a compliance lock can be undone",
        "--aws-snapshot-lock-cool-off-period",
    ),
    key(
        "aws_snapshot_lock_expiration_date",
        "GSM",
        kinds.text,
        None,
        "until that time",
        "--aws-snapshot-lock-expiration-date",
    ),
    key(
        "aws_await_snapshots_timeout",
        "GSM",
        kinds.positive,
        3600,
        "seconds to wait for snapshots",
        "--aws-await-snapshots-timeout",
    ),
)

_GLOBAL = (
    key("barman_home", "G", kinds.absolute_path, "/var/lib/barman", "directory of caches and spools"),
    key("barman_lock_directory", "G", kinds.absolute_path, "{barman_home}", "where this machine's lock files are"),
    key(
        "barman_user",
        "G",
        kinds.text,
        None,
        "user that `server` commands, cron and config-switch run as; root becomes it",
    ),
    key(
        "configuration_files_directory",
        "G",
        kinds.absolute_path,
        None,
        "directory of more files (*.conf) with servers and models",
    ),
    key("log_file", "G", kinds.absolute_path, None, "file that cron and what it starts write their messages to"),
    unused(
        "log_level",
        "G",
        "INFO",
        "-v and -q of each command decide",
        kinds.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    ),
    unused("config_changes_queue", "G", None, "config-update isn't supported"),
    unused("lock_directory_cleanup", "G", True, "leases in the bucket end by themselves", kinds.boolean),
)

BARMAN_KEYS: tuple[Key, ...] = (
    *_IDENTITY,
    *_CONNECTION,
    *_BACKUP,
    *_WAL,
    *_POLICY,
    *_RESTORE,
    *_HOOKS,
    *_PROVIDERS,
    *_GLOBAL,
)
