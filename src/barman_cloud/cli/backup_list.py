"""``barman-cloud-backup-list``: list the backups of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations

log = logs.get_logger(__name__)


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    options.add_format(parser)


def run(args: Arguments) -> int | None:
    """Print every backup, those that can't be read included: who reads the list takes it for complete."""
    from barman_cloud.catalog import keep, lineage, summary
    from barman_cloud.catalog.retention import by_cluster
    from barman_cloud.report.terminal import write

    with options.repository_from(args) as repository:
        view = repository.view()
        sizes = lineage.stored_sizes(repository.catalog, view.backups) if args.is_umbrella else None
        if args.format == "console":
            write(summary.list_as_text(view, keep.read_all(repository.catalog), sizes))
        else:
            write(summary.list_as_json(view, sizes))
    for error in view.unreadable.values():
        log.warning("%s", error)
    if len(clusters := by_cluster(view.backups.values())) > 1:
        log.warning("these are backups of %d clusters: %s", len(clusters), summary.describe_clusters(clusters))
    return None


COMMAND = Command("backup-list", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
