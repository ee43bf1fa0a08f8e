"""``barman-cloud-backup-list``: list the backups of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command

if TYPE_CHECKING:
    from barman_cloud.api import Repository
    from barman_cloud.catalog.catalog import CatalogView
    from barman_cloud.cli.plain import Arguments, Declarations

log = logs.get_logger(__name__)


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    options.add_format(parser, more=("wide", "csv"))
    options.add_progress(parser, summary=False)


def run(args: Arguments) -> int | None:
    """Print every backup, those that can't be read included: who reads the list takes it for complete."""
    from barman_cloud.catalog import keep, lineage, summary
    from barman_cloud.report import progress
    from barman_cloud.report.terminal import write

    progress.current().phase("reading the catalog")
    with options.repository_from(args) as repository:
        view = repository.view()
        if args.format in ("wide", "csv"):
            write(_table(args, repository, view))
            _warn(view)
            return None
        sizes = lineage.stored_sizes(repository.catalog, view.backups) if args.is_umbrella else None
        if args.format == "console":
            write(summary.list_as_text(view, keep.read_all(repository.catalog), sizes))
        else:
            write(summary.list_as_json(view, sizes))
    _warn(view)
    return None


def _table(args: Arguments, repository: Repository, view: CatalogView) -> str:
    from datetime import datetime

    from barman_cloud.catalog import backup_table, keep, lineage
    from barman_cloud.report import progress
    from barman_cloud.verify import ledger

    catalog = repository.catalog
    verified = {
        backup_id: backup_table.Verified(entry.moment, entry.state)
        for backup_id, entry in ledger.load(catalog.store, catalog.layout).backups.items()
    }
    progress.current().phase("listing WAL")
    rows = backup_table.rows_of(
        view,
        keep.read_all(catalog),
        lineage.stored_sizes(catalog, view.backups),
        backup_table.wal_of_backups(catalog, view.backups.values()),
        verified,
    )
    if args.format == "csv":
        return backup_table.as_csv(rows)
    return backup_table.as_wide(rows, datetime.now().astimezone())


def _warn(view: CatalogView) -> None:
    """Tell what of the list isn't as it should be."""
    from barman_cloud.catalog import summary
    from barman_cloud.catalog.retention import by_cluster

    for error in view.unreadable.values():
        log.warning("%s", error)
    if len(clusters := by_cluster(view.backups.values())) > 1:
        log.warning("these are backups of %d clusters: %s", len(clusters), summary.describe_clusters(clusters))


COMMAND = Command("backup-list", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
