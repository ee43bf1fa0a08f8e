"""``barman-cloud-backup``: take a base backup and store it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command
from barman_cloud.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barman_cloud.api import Repository
    from barman_cloud.backup.archive_backup import BackupOptions
    from barman_cloud.backup.lifecycle import BackupRequest
    from barman_cloud.backup.parent import IncrementRequest
    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.snapshots.mounts import Host

MAX_TAGS = 10
UMBRELLA_WAL_TIMEOUT = 60
"""Seconds; ``barman-cloud-backup`` doesn't wait, because those who run it count on its end."""
SUMMARY_TIMEOUT = 300
"""Seconds."""


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "destination_url")
    options.add_compression(parser, {"gzip": "-z", "bzip2": "-j"}, ("gzip", "bzip2", "snappy", "lz4", "zstd"))
    parser.add_extension(
        "--compression-level",
        type=values.compression_level,
        metavar="LEVEL",
        help="low, medium, high or a number of the algorithm",
    )
    _add_server(parser)
    _add_method(parser)
    parser.add_argument("-J", "--jobs", type=values.positive, default=2, help="parallel workers (default 2)")
    options.add_upload_limits(parser)
    parser.add_argument("-n", "--name", type=values.backup_name, help="a name for the backup, besides its id")
    _add_checks(parser)
    parser.add_extension(
        "--nice", type=values.non_negative, metavar="N", help="run with this niceness and idle disk priority"
    )
    options.add_accept_cluster(parser)
    options.add_tags(parser)
    options.add_encryption(parser)
    options.add_storage_class(parser)
    options.add_progress(parser)
    _add_snapshots(parser)
    parser.set_defaults(announce=None, as_server=None, as_mode=None)


def _add_server(parser: Declarations) -> None:
    server = parser.add_argument_group("PostgreSQL")
    server.add_argument("-h", "--host", help="host name or socket directory (default: as libpq)")
    server.add_argument("-p", "--port", help="port (default: as libpq)")
    server.add_argument("-U", "--user", help="role (default: as libpq)")
    server.add_argument(
        "-d", "--dbname", default="postgres", help="database name or connection string (default: postgres)"
    )
    server.add_argument("--immediate-checkpoint", action="store_true", help="don't wait for a spread checkpoint")
    server.add_argument(
        "--keepalive-interval",
        type=values.non_negative,
        default=60,
        metavar="SECONDS",
        help="how often to use the connection that holds the backup (default 60; 0: never)",
    )


def _add_method(parser: Declarations) -> None:
    parser.add_extension(
        "--method",
        choices=("files", "stream"),
        default="files",
        help="files: read PGDATA on this machine (default); stream: over a replication connection, from anywhere",
    )
    parser.add_extension(
        "--include-wal",
        action="store_true",
        help="with --method stream: store the WAL along that makes the backup consistent",
    )
    parser.add_extension(
        "--streaming-conninfo",
        metavar="CONNINFO",
        help="with --method stream: connection string of the stream (default: the same server and role)",
    )
    parser.add_extension(
        "--incremental",
        metavar="PARENT",
        help="store only what changed since this backup: last, last-full, an id or a name",
    )
    parser.add_extension(
        "--fallback-full",
        action="store_true",
        help="with --incremental: take a full backup where an incremental one is impossible",
    )
    parser.add_extension(
        "--summary-timeout",
        type=values.non_negative,
        metavar="SECONDS",
        help="with --incremental: how long to wait for the server's WAL summaries (default 300)",
    )


def _add_checks(parser: Declarations) -> None:
    parser.add_extension(
        "--wal-timeout",
        type=values.non_negative,
        metavar="SECONDS",
        help="how long to wait for the backup's WAL in the archive (default 60; barman-cloud-backup: 0, look once)",
    )
    checksums = parser.add_mutually_exclusive_group()
    parser.add_extension(
        "--verify-checksums",
        action="store_const",
        const=True,
        group=checksums,
        help="verify page checksums while reading, or fail if that can't be done (default: where it can)",
    )
    parser.add_extension(
        "--no-verify-checksums",
        dest="verify_checksums",
        action="store_const",
        const=False,
        group=checksums,
        help="don't verify page checksums",
    )
    parser.add_extension("--strict", action="store_true", help="exit with 1 if a page fails its checksum")


def _add_snapshots(parser: Declarations) -> None:
    snapshot = parser.add_argument_group("disk snapshots instead of archives")
    snapshot.add_argument("--snapshot-instance", help="the machine whose disks hold the cluster")
    snapshot.add_argument(
        "--snapshot-disk", dest="snapshot_disks", action="append", default=[], metavar="NAME", help="a disk; repeatable"
    )
    extend = partial(parser.add_extension, group=snapshot)
    extend(
        "--snapshot-provider", choices=("aws", "azure", "gcp"), help="whose disks they are (default: told by the URL)"
    )
    extend(
        "--snapshot-ssh-command",
        metavar="COMMAND",
        help="look at the machine's mounts by this command, such as 'ssh postgres@db1' (default: on this machine)",
    )
    snapshot.add_argument("--gcp-zone", "--snapshot-zone", dest="gcp_zone", help="Google: zone of machine and disks")
    snapshot.add_argument("--gcp-project", "--snapshot-gcp-project", dest="gcp_project", help="Google: project")
    snapshot.add_argument("--aws-region", help="AWS: region of machine and disks")
    snapshot.add_argument(
        "--aws-await-snapshots-timeout",
        type=values.positive,
        default=3600,
        metavar="SECONDS",
        help="AWS: how long to wait for snapshots to complete (default 3600)",
    )
    snapshot.add_argument(
        "--aws-snapshot-lock-mode", choices=("governance", "compliance"), help="AWS: lock the snapshots"
    )
    snapshot.add_argument(
        "--aws-snapshot-lock-cool-off-period",
        type=values.lock_cool_off,
        metavar="HOURS",
        help="AWS: compliance locks, 1 to 72",
    )
    until = snapshot.add_mutually_exclusive_group()
    until.add_argument(
        "--aws-snapshot-lock-expiration-date", type=values.lock_date, metavar="DATE", help="AWS: YYYY-MM-DDThh:mm:ss.fZ"
    )
    until.add_argument(
        "--aws-snapshot-lock-duration", type=values.lock_duration, metavar="DAYS", help="AWS: 1 to 36500"
    )
    snapshot.add_argument("--azure-subscription-id", help="Azure: subscription")
    snapshot.add_argument("--azure-resource-group", help="Azure: resource group")


def validate(args: Arguments) -> None:
    """Refuse combinations that the parser can't judge; raises ``ConfigurationError``."""
    snapshots = args.snapshot_instance or args.snapshot_disks
    if snapshots and args.compression:
        raise ConfigurationError(
            f"--{args.compression} has no effect on disk snapshots", hint="leave the compression out"
        )
    if snapshots and args.method == "stream":
        raise ConfigurationError("--method stream makes no disk snapshots", hint="leave one of the two out")
    for given, option in ((args.include_wal, "--include-wal"), (args.streaming_conninfo, "--streaming-conninfo")):
        if given and args.method != "stream":
            raise ConfigurationError(f"{option} needs --method stream")
    if args.snapshot_instance and args.kms_key_name and _uses_google(args):
        raise ConfigurationError("--kms-key-name can't be used with --snapshot-instance")
    if args.aws_snapshot_lock_mode == "governance" and args.aws_snapshot_lock_cool_off_period is not None:
        raise ConfigurationError("--aws-snapshot-lock-cool-off-period needs --aws-snapshot-lock-mode compliance")
    _validate_checksums(args, bool(snapshots))
    _validate_increment(args, bool(snapshots))
    pairs = args.tag or args.tags or []
    if len(pairs) > MAX_TAGS:
        raise ConfigurationError(f"{len(pairs)} tags given; object stores take at most {MAX_TAGS}")
    keys = [key for key, _ in pairs]
    if duplicates := {key for key in keys if keys.count(key) > 1}:
        raise ConfigurationError(f"tag key given twice: {', '.join(sorted(duplicates))}")


def _validate_checksums(args: Arguments, snapshots: bool) -> None:
    if not (args.strict or args.verify_checksums):
        return
    option = "--strict" if args.strict else "--verify-checksums"
    if args.verify_checksums is False:
        raise ConfigurationError("--strict has no effect with --no-verify-checksums")
    if snapshots:
        raise ConfigurationError(f"{option} has no effect on disk snapshots")
    if "BARMAN_HOOK" in os.environ:
        raise ConfigurationError(f"{option} has no effect on a backup that Barman has made")
    if args.method == "stream":
        return  # the server verifies them, and fails the backup
    from barman_cloud.postgres import page_checksum

    if not page_checksum.is_available():
        raise ConfigurationError(f"{option} needs NumPy", hint="pip install 'barman-cloud[verify]'")


def _validate_increment(args: Arguments, snapshots: bool) -> None:
    if args.incremental is None:
        for option, value in (("--fallback-full", args.fallback_full), ("--summary-timeout", args.summary_timeout)):
            if value not in (None, False):
                raise ConfigurationError(f"{option} has no effect without --incremental")
        return
    if snapshots:
        raise ConfigurationError("--incremental has no effect on disk snapshots, which are incremental by themselves")
    if "BARMAN_HOOK" in os.environ:
        raise ConfigurationError("--incremental has no effect on a backup that Barman has made")
    if args.method == "stream" and args.summary_timeout is not None:
        raise ConfigurationError(
            "--summary-timeout has no effect with --method stream",
            hint="the server itself waits for its WAL summarizer, until that makes no progress for a minute",
        )


def _uses_google(args: Arguments) -> bool:
    if args.cloud_provider:
        return bool(args.cloud_provider == "google-cloud-storage")
    return options.url_from(args).startswith("gs://")


def run(args: Arguments) -> int | None:
    from barman_cloud.archive.allocator import keep_freed_buffers
    from barman_cloud.cli.summaries import of_backup

    keep_freed_buffers()
    if args.nice is not None:
        from barman_cloud.backup.priority import lower_priority

        lower_priority(args.nice)
    repository = options.repository_from(args)
    args.summary = of_backup(_run(args, repository))
    repository.close()  # not after an error: threads may still wait for a store that doesn't answer
    return 0


def _run(args: Arguments, repository: Repository) -> BackupInfo:
    from barman_cloud.backup.hook import is_hook, run_hook_backup

    settings = _backup_options(args)
    if is_hook(os.environ):
        if args.method == "stream":
            raise ConfigurationError("--method stream can't be given in a hook script: Barman has made the backup")
        return run_hook_backup(repository.store, repository.layout, os.environ, settings)
    with _scripts(args, repository) as before:
        settings = replace(settings, request=replace(settings.request, before=before))
        return _take(args, repository, settings)


@contextmanager
def _scripts(args: Arguments, repository: Repository) -> Iterator[Callable[[BackupInfo], None] | None]:
    """Run the server's hook scripts: what is yielded is to be called when the backup has an id."""
    from barman_cloud.cli.hooks import BackupHooks, hooks_of

    hooks = hooks_of(args, "backup")
    if hooks is None:
        yield None
        return
    around = BackupHooks(hooks, repository.store, repository.layout)
    with around.at_the_end():
        yield around.before


def _take(args: Arguments, repository: Repository, settings: BackupOptions) -> BackupInfo:
    if args.snapshot_instance or args.snapshot_disks:
        return _run_snapshot_backup(args, repository, settings.request)
    return repository.take_backup(settings, streamed=args.method == "stream")


def _backup_options(args: Arguments) -> BackupOptions:
    from barman_cloud.archive.compression import compression_level
    from barman_cloud.backup.archive_backup import BackupOptions
    from barman_cloud.backup.lifecycle import BackupRequest
    from barman_cloud.postgres.connection import ConnectionParameters

    level = args.compression_level
    return BackupOptions(
        BackupRequest(
            ConnectionParameters(args.dbname, args.host, args.port, args.user),
            backup_name=args.name,
            immediate_checkpoint=args.immediate_checkpoint,
            keepalive_interval=args.keepalive_interval,
            include_wal=args.include_wal,
            tags=options.tags_from(args),
            accept_cluster=args.accept_cluster,
            wal_timeout=_wal_timeout(args),
            server_name=args.as_server,
            mode=args.as_mode,
            announce=args.announce or _say_nothing,
        ),
        jobs=args.jobs,
        compression=args.compression,
        level=compression_level(args.compression, level) if args.compression and level is not None else None,
        max_archive_size=args.max_archive_size,
        min_chunk_size=args.min_chunk_size,
        max_bandwidth=args.max_bandwidth,
        verify_checksums=args.verify_checksums,
        strict=args.strict,
        streaming_conninfo=args.streaming_conninfo,
        increment=_increment(args),
    )


def _increment(args: Arguments) -> IncrementRequest | None:
    from barman_cloud.backup.parent import IncrementRequest

    if args.incremental is None:
        return None
    timeout = SUMMARY_TIMEOUT if args.summary_timeout is None else args.summary_timeout
    return IncrementRequest(args.incremental, fallback_full=args.fallback_full, summary_timeout=timeout)


def _say_nothing(info: BackupInfo) -> None:
    pass


def _wal_timeout(args: Arguments) -> int:
    if args.wal_timeout is not None:
        return int(args.wal_timeout)
    return UMBRELLA_WAL_TIMEOUT if args.is_umbrella else 0


def _run_snapshot_backup(args: Arguments, repository: Repository, request: BackupRequest) -> BackupInfo:
    from barman_cloud.backup.snapshot import run_snapshot_backup
    from barman_cloud.snapshots.base import SnapshotOptions

    given = {name: getattr(args, name) for name in SnapshotOptions.names() if name != "tags"}
    snapshots = SnapshotOptions(**given, tags=request.tags or {})
    instance, disks = args.snapshot_instance, args.snapshot_disks
    with _machine(args.snapshot_ssh_command) as host:
        return run_snapshot_backup(
            repository.store, repository.layout, request, instance, disks, snapshots, host, args.snapshot_provider
        )


@contextmanager
def _machine(ssh_command: str | None) -> Iterator[Host | None]:
    """Look at another machine's devices and mounts; None: this one's."""
    if ssh_command is None:
        yield None
        return
    from barman_cloud.snapshots.remote import look_at

    with TemporaryDirectory(prefix="barman-cloud-mounts-") as directory:
        yield look_at(ssh_command, Path(directory))


COMMAND = Command("backup", add_arguments, run, validate=validate, interrupt_exit_code=1)


def main() -> int:
    return run_command(COMMAND)
