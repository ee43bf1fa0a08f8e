"""``barman-cloud-backup-list``: list the backups of a server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from barman_cloud.cli import options
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    options.add_format(parser)


def run(args: Arguments) -> int | None:
    """Print every backup, or fail: a list that leaves one out would look complete to whoever reads it."""
    from barman_cloud.catalog import keep, summary
    from barman_cloud.catalog.catalog import Catalog

    with options.store_from(args) as store:
        catalog = Catalog(store, options.layout_from(args, store))
        view = catalog.load()
        if args.format == "console":
            sys.stdout.write(summary.list_as_text(view, keep.read_all(catalog)))
        view.require_readable("the list")
        if args.format != "console":
            sys.stdout.write(summary.list_as_json(view.backups.values()))
    return None


COMMAND = Command("backup-list", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
