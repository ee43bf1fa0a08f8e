"""``barman-cloud cleanup``: remove what runs that were killed left in the bucket."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be removed, remove nothing")
    parser.add_argument(
        "--older-than",
        type=values.age,
        default=timedelta(days=7),
        metavar="AGE",
        help="unfinished backups without signs of life, and objects without backup: unchanged for so long (default 7d)",
    )
    parser.add_argument(
        "--uploads-older-than",
        type=values.age,
        default=timedelta(days=1),
        metavar="AGE",
        help="unfinished uploads that were begun so long ago (default 1d)",
    )
    parser.add_argument(
        "--delete-broken",
        action="store_true",
        help="also delete complete backups that lost objects, and all that build on them",
    )
    parser.add_argument(
        "-m",
        "--minimum-redundancy",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="with --delete-broken: never keep fewer full backups (default 0)",
    )
    parser.add_argument(
        "--batch-size", type=values.integer, metavar="N", help="objects of one delete request (default: the most)"
    )
    options.add_format(parser)
    options.add_progress(parser)


def run(args: Arguments) -> int | None:
    from barman_cloud.catalog import servers
    from barman_cloud.catalog.cleanup import CleanupOptions
    from barman_cloud.catalog.leftovers import Age
    from barman_cloud.cli.summaries import of_cleanup
    from barman_cloud.errors import NotFoundError
    from barman_cloud.report.json_text import document
    from barman_cloud.report.terminal import write

    wanted = CleanupOptions(
        dry_run=args.dry_run,
        age=Age(args.older_than, args.uploads_older_than),
        delete_broken=args.delete_broken,
        minimum_redundancy=args.minimum_redundancy,
        batch_size=args.batch_size,
    )
    with options.repository_from(args) as repository:
        report = repository.clean_up(wanted)
        # A server of the configuration may be a new one. Of a name that somebody typed, silence would be an answer.
        if not report.outcomes and args.server is None and (problem := servers.describe_unknown(repository.catalog)):
            raise NotFoundError(problem)
    args.summary = of_cleanup(report)
    write(document(report.to_json()) if args.format == "json" else report.to_text())
    return 1 if report.has_failed else 0


COMMAND = Command("cleanup", add_arguments, run)
