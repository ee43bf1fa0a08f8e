"""``barman-cloud-check-wal-archive``: check that a WAL archive is safe to use for a new cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations

log = logs.get_logger(__name__)


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "destination_url")
    parser.add_argument(
        "--timeline", type=values.positive, help="accept WAL of earlier timelines (default: the archive must be empty)"
    )
    options.add_progress(parser, summary=False)


def run(args: Arguments) -> int | None:
    from barman_cloud.catalog import emptiness
    from barman_cloud.errors import BucketNotFoundError
    from barman_cloud.report.summary import Summary

    is_safe = "" if args.test else f", and the WAL archive of {args.server_name} is safe to use"
    with options.store_from(args) as store:
        try:
            store.check()
        except BucketNotFoundError:
            if not args.test:
                store.create_bucket()
                log.info("%s: the bucket is created", store.url.text)
        if not args.test:
            emptiness.require_safe_for_new_cluster(store, options.layout_from(args, store), args.timeline)
    args.summary = Summary(f"{options.url_from(args)}: the bucket is there{is_safe}", moved=False)
    return None


COMMAND = Command("check-wal-archive", add_arguments, run, connectivity_exit_code=2, has_own_test=True)


def main() -> int:
    return run_command(COMMAND)
