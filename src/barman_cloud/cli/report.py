"""``barman-cloud report``: what can be recovered, how it grows and what it costs, as text or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud.cli import options
from barman_cloud.cli.command import Command
from barman_cloud.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.store.base import ObjectStore


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url", several=True)
    parser.add_argument("--html", metavar="FILE", help="write a page with pictures instead, one file")
    parser.add_argument(
        "--prices", metavar="FILE", help="prices for the estimate of the cost, as JSON (docs/how-to/report.md)"
    )
    parser.add_argument(
        "--storage-class", metavar="CLASS", help="class of storage for the estimate (default: the provider's own)"
    )
    options.add_progress(parser, summary=False)


def run(args: Arguments) -> int | None:
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.overview import prices
    from barman_cloud.overview.gather import gather
    from barman_cloud.overview.page import as_html
    from barman_cloud.overview.text import as_text
    from barman_cloud.report.files import write_atomically
    from barman_cloud.report.summary import Summary
    from barman_cloud.report.terminal import write
    from barman_cloud.report.text import counted, size

    file = Path(args.html) if args.html else None
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigurationError(f"--html: there is no directory {file.absolute().parent}", hint="make it first")
    table = prices.read_table(Path(args.prices)) if args.prices else prices.TABLE
    with options.store_from(args) as store:
        names = [args.server_name] if isinstance(args.server_name, str) else args.server_name or _all_servers(store)
        found = [gather(store, Layout.of(store.url, name), table, args.storage_class) for name in names]
    if file is not None:
        page = as_html(found)
        write_atomically(file, page)
        servers, bytes_of_it = counted(len(found), "server"), size(len(page.encode()))
        args.summary = Summary(f"{file}: a page of {servers}, {bytes_of_it}", moved=False)
        return None
    write("\n".join(as_text(overview, unicode=options.writes_unicode()) for overview in found))
    return None


def _all_servers(store: ObjectStore) -> list[str]:
    from barman_cloud.catalog.servers import all_servers

    names = all_servers(store)
    if not names:
        raise NotFoundError(f"there is no server at {store.url.text}", hint="name the folder above the servers' own")
    return names


COMMAND = Command("report", add_arguments, run, connectivity_exit_code=2)
