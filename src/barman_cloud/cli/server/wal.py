"""``get-wal``, ``check-wal-archive``, ``check-archived-wal-range``, ``rebuild-xlogdb``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud.catalog import wal_usage
from barman_cloud.catalog.wal_range import name_of, number_of
from barman_cloud.cli.server.session import add_server, add_servers
from barman_cloud.errors import NotFoundError, OperationError, UsageError
from barman_cloud.postgres.wal import WalKind, is_wal_name, parse_wal_name
from barman_cloud.report.text import counted, size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from barman_cloud.cli.server.session import OneServer, Session

_LARGEST_RANGE = 1 << 20
_SHOWN = 100


def get_wal_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("wal_name", help="name of the WAL file")
    parser.add_argument("-o", "--output-directory", metavar="DIR", help="write the file there instead of stdout")
    parser.add_argument("-P", "--partial", action="store_true", help="also a segment that isn't complete")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-z", "-x", "--gzip", action="store_const", const="gzip", dest="form", help="compress with gzip")
    form.add_argument("-j", "--bzip2", action="store_const", const="bzip2", dest="form", help="compress with bzip2")
    form.add_argument(
        "--keep-compression", action="store_const", const="stored", dest="form", help="as it is in the bucket"
    )
    parser.add_argument(
        "-p", "--peek", type=int, metavar="N", help="print the names of N files from this one on, instead"
    )
    parser.add_argument("-t", "--test", action="store_true", help="tell whether WAL files could be fetched")


def get_wal(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    if args.test:
        server.wals.store.check()
        session.output.info(f"Ready to retrieve WAL files from the server {server.name}")
        return
    if not is_wal_name(args.wal_name):
        raise UsageError(f"'{args.wal_name}' is not a valid wal file name")
    if args.peek is not None:
        _peek(server, args)
        return
    pieces = _content(server, args.wal_name, args.form, partial=args.partial)
    first = next(pieces, b"")  # what can't be read is told before anything is written
    if args.output_directory:
        from barman_cloud.restore.durability import replace_file

        target = Path(args.output_directory) / args.wal_name
        replace_file(target, b"".join([first, *pieces]), 0o600, None)
        return
    stdout = sys.stdout.buffer
    stdout.write(first)
    for piece in pieces:
        stdout.write(piece)
    stdout.flush()
    session.output.silent = True


def _content(server: OneServer, name: str, form: str | None, *, partial: bool) -> Iterator[bytes]:
    from barman_cloud.archive.compression import compress_stream, compression_of, decompress_stream

    store, layout = server.wals.store, server.wals.layout
    found = {}
    for item in store.list(layout.wal_prefix(name)):
        wal = layout.parse_wal_key(item.key)
        if wal is not None and (wal.name == name or (partial and wal.name == f"{name}.partial")):
            found[wal.name] = wal
    wal = found.get(name) or found.get(f"{name}.partial")
    if wal is None:
        raise NotFoundError(
            f"WAL file '{name}' not found in server '{server.name}'",
            hint=None if partial else "--partial also takes a segment that isn't complete",
        )
    stored = store.read(wal.key)
    if form == "stored":
        yield from map(bytes, stored)
        return
    plain = decompress_stream(stored, compression_of(wal.key))
    yield from map(bytes, compress_stream(plain, form) if form else plain)


def _peek(server: OneServer, args: Namespace) -> None:
    if args.peek < 1:
        raise UsageError(f"--peek {args.peek}: give a number above 0")
    usage = wal_usage.read(server.wals.store, server.wals.layout)
    following = [file.name for file in usage.segments if file.name >= args.wal_name][: args.peek]
    if not following:
        raise NotFoundError(f"no WAL file from '{args.wal_name}' on in server '{server.name}'")
    for name in following:
        server.output.info(name)


def check_wal_archive_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("--timeline", type=int, help="accept WAL of earlier timelines")


def check_wal_archive(session: Session, args: Namespace) -> None:
    from barman_cloud.catalog.emptiness import require_safe_for_new_cluster

    server = session.server(args.server_name)
    session.output.info(f"Server {server.name}:")
    try:
        require_safe_for_new_cluster(server.wals.store, server.wals.layout, args.timeline)
    except OperationError as error:
        raise OperationError(f"WAL archive check failed for server {server.name}: {error}", hint=error.hint) from error
    session.output.info(f" - WAL archive check for server {server.name} passed")


def check_archived_wal_range_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("begin_wal", help="first segment")
    parser.add_argument("end_wal", help="last segment")


def check_archived_wal_range(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    wanted = _range(server, args.begin_wal, args.end_wal)
    usage = wal_usage.read(server.wals.store, server.wals.layout)
    present = {file.name for file in usage.segments}
    missing = [name for name in wanted if name not in present]
    session.output.info(f"Server {server.name}:")
    what = f"\tWAL sequence check for server {server.name}:"
    if not missing:
        session.output.info(f"{what} all segments are present")
        return
    session.output.info(f"{what} {len(missing)} missing segment(s):")
    for name in missing[:_SHOWN]:
        session.output.info(f"\t\t{name}")
    if len(missing) > _SHOWN:
        session.output.info(f"\t\t… and {len(missing) - _SHOWN} more")
    raise OperationError(
        f"WAL sequence check failed for server '{server.name}': {len(missing)} missing segment(s) in range "
        f"{args.begin_wal}..{args.end_wal}"
    )


def _range(server: OneServer, begin: str, end: str) -> list[str]:
    """Return the names of the segments between two of one timeline, both included."""
    first, last = parse_wal_name(begin), parse_wal_name(end)
    if first is None or last is None or {first.kind, last.kind} != {WalKind.SEGMENT}:
        raise UsageError(f"'{begin}' and '{end}' must be names of WAL segments")
    done = [info for info in server.view.backups.values() if info.is_complete]
    segment_size = done[-1].xlog_segment_size if done else 16 << 20
    numbers = number_of(first.segment_name, segment_size), number_of(last.segment_name, segment_size)
    if None in numbers:
        raise UsageError(f"segments of {segment_size} bytes have no names such as '{begin}' and '{end}'")
    if first.timeline != last.timeline:
        raise UsageError(f"'{begin}' and '{end}' are of different timelines")
    low, high = int(numbers[0] or 0), int(numbers[1] or 0)
    if low > high:
        raise UsageError(f"'{begin}' comes after '{end}'")
    if high - low >= _LARGEST_RANGE:
        raise UsageError(f"{high - low + 1} segments are too many to look for")
    return [name_of(first.timeline, number, segment_size) for number in range(low, high + 1)]


def rebuild_xlogdb_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)


def rebuild_xlogdb(session: Session, args: Namespace) -> None:
    session.each(args.server_name, _count)


def _count(server: OneServer) -> None:
    server.output.info(f"Rebuilding xlogdb for server {server.name}")
    usage = wal_usage.read(server.wals.store, server.wals.layout)
    history = sum(file.wal.is_history for file in usage.files)
    server.output.info(
        f"Done rebuilding xlogdb for server {server.name} (history: {history}, backup_labels: "
        f"{sum(file.name.endswith('.backup') for file in usage.files)}, wal_file: {len(usage.segments)})"
    )
    server.output.info(
        f"The bucket is the catalogue: {counted(len(usage.files), 'object')}, {size(wal_usage.total(usage.files))}"
    )
