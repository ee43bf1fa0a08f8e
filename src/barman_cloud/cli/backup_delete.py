"""``barman-cloud-backup-delete``: delete backups and the WAL that nothing else needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command

if TYPE_CHECKING:
    from barman_cloud.api import Repository
    from barman_cloud.catalog.removal import DeletionHooks
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-b", "--backup-id", help="id, name or shortcut of one backup")
    which.add_argument("-r", "--retention-policy", help="REDUNDANCY n, or RECOVERY WINDOW OF n DAYS|WEEKS|MONTHS")
    parser.add_argument(
        "-m",
        "--minimum-redundancy",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="never keep fewer backups (default 0)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, log why, delete nothing")
    parser.add_argument(
        "--batch-size", type=values.integer, metavar="N", help="objects of one delete request (default: the most)"
    )
    parser.add_argument(
        "--check-object-lock", action="store_true", help="refuse to delete a backup while an archive is locked"
    )
    parser.add_extension(
        "--with-children",
        action="store_true",
        help="with --backup-id: delete all incremental backups that build on it too, these first",
    )
    options.add_progress(parser)


def run(args: Arguments) -> int | None:
    from barman_cloud.catalog.removal import DeletionOptions
    from barman_cloud.catalog.retention import parse_policy
    from barman_cloud.cli.summaries import of_deletion
    from barman_cloud.report import progress
    from barman_cloud.report.terminal import StandardOutput
    from barman_cloud.snapshots.base import SnapshotOptions
    from barman_cloud.snapshots.deletion import with_snapshots

    if args.dry_run and not args.quiet:
        # stdout keeps the lines that scripts parse; a dry run is made by somebody who wants the reasons as well.
        logs.include(logs.INFO)
    if args.retention_policy is not None:
        parse_policy(args.retention_policy)  # before anything is asked of the store
    progress.current().phase("reading the catalog")
    with options.repository_from(args) as repository:
        how = DeletionOptions(
            dry_run=args.dry_run,
            batch_size=args.batch_size,
            check_object_lock=_can_check_locks(args, repository.store),
            hooks=_hooks(args, repository),
        )
        of_snapshots = SnapshotOptions(aws_profile=args.aws_profile, azure_credential=args.azure_credential)
        how = with_snapshots(how, of_snapshots)
        policy, least, out = args.retention_policy, args.minimum_redundancy, StandardOutput()
        if policy is not None:
            repository.enforce(policy, minimum_redundancy=least, options=how, out=out)
        else:
            repository.delete(
                args.backup_id, minimum_redundancy=least, options=how, out=out, with_children=args.with_children
            )
    args.summary = of_deletion(dry_run=args.dry_run)
    return None


def _can_check_locks(args: Arguments, store: ObjectStore) -> bool:
    if args.check_object_lock and not store.capabilities.object_lock:
        log.warning("--check-object-lock is ignored: %s knows no object locks", store.url.text)
    return args.check_object_lock and store.capabilities.object_lock


def _hooks(args: Arguments, repository: Repository) -> DeletionHooks | None:
    if args.server is None or args.dry_run:
        return None
    from barman_cloud.cli.hooks import deletion_hooks

    return deletion_hooks(args, repository.store, repository.layout)


COMMAND = Command("backup-delete", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
