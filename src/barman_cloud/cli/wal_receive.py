"""``barman-cloud wal-receive``: receive WAL over a replication connection, and store it."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command
from barman_cloud.errors import BarmanCloudError, ConfigurationError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barman_cloud.catalog.layout import Layout
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.config.server import Server
    from barman_cloud.postgres.connection import ConnectionParameters
    from barman_cloud.schedule.lease import Lease
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.wal.archiver import Archiver
    from barman_cloud.wal.receive_sink import Sink
    from barman_cloud.wal.receive_source import SourceOptions
    from barman_cloud.wal.receive_spool import ReceiveSpool
    from barman_cloud.wal.receive_upload import Uploader
    from barman_cloud.wal.receiver import Receiver

log = logs.get_logger(__name__)

GIB = 1024**3
RECEIVE = "receive-wal"
"""The name of the lock file, as Barman's."""
LEASE_NAME = "wal-receive"
LEASE_DURATION = timedelta(minutes=3)
LEASE_RENEWAL = 45.0
"""Seconds between renewals."""
RELEASE_SECONDS = 5.0


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "destination_url")
    _add_server(parser)
    parser.add_argument(
        "--mode",
        choices=("spool", "direct"),
        default="spool",
        help="acknowledge WAL when it is fsynced in the spool (default), or when it is in the store: nothing on disk",
    )
    parser.add_argument(
        "--piece-jobs",
        type=values.positive,
        default=4,
        metavar="N",
        help="with --mode direct: pieces of a segment on their way at a time (default 4)",
    )
    spool = parser.add_argument_group("spool")
    spool.add_argument(
        "--spool-dir", metavar="DIR", help="where received WAL is until it is stored: on a disk that outlives a crash"
    )
    spool.add_argument(
        "--spool-max",
        type=values.size,
        default=16 * GIB,
        metavar="SIZE",
        help="take no more WAL from the server while the spool holds so much (default 16GB)",
    )
    parser.add_argument("-J", "--jobs", type=values.positive, default=4, help="segments stored at a time (default 4)")
    parser.add_argument(
        "--partial-interval",
        type=values.non_negative,
        default=300,
        metavar="SECONDS",
        help="how often to store the segment in progress as .partial (default 300; 0: only at the end)",
    )
    options.add_wal_storage(parser)
    options.add_accept_cluster(parser)
    options.add_progress(parser)


def _add_server(parser: Declarations) -> None:
    server = parser.add_argument_group("PostgreSQL")
    server.add_argument("-h", "--host", help="host name or socket directory")
    server.add_argument("-p", "--port", help="port")
    server.add_argument("-U", "--user", help="role, with REPLICATION")
    server.add_argument("-d", "--dbname", default="postgres", help="database name or connection string")
    server.add_argument(
        "--streaming-conninfo",
        metavar="CONNINFO",
        help="connection string of the stream (default: the same server and role)",
    )
    server.add_argument("--slot", metavar="NAME", help="physical replication slot that keeps WAL for this receiver")
    server.add_argument("--create-slot", action="store_true", help="create the slot if there is none")
    server.add_argument("--drop-slot", action="store_true", help="drop the slot and exit")
    server.add_argument("--accept-gap", action="store_true", help="go on behind WAL that the server no longer has")


def validate(args: Arguments) -> None:
    """Refuse combinations that the parser can't judge."""
    if (args.create_slot or args.drop_slot) and not args.slot:
        raise UsageError("--create-slot and --drop-slot need the name of a slot", hint="add --slot NAME")
    if args.create_slot and args.drop_slot:
        raise ConfigurationError("--create-slot and --drop-slot exclude each other", hint="leave one out")
    if not args.test and not args.drop_slot and not args.spool_dir and args.mode == "spool":
        raise UsageError(
            "no spool directory is named", hint="add --spool-dir DIR, on a disk that outlives a crash of this machine"
        )


def run(args: Arguments) -> None:
    if args.drop_slot:
        _drop_slot(args)
        return
    with ExitStack() as stack:
        if args.server is not None:
            stack.enter_context(one_on_this_machine(args.server))
        spool = _spool(args)
        if spool is not None:
            stack.callback(spool.close)
        store = stack.enter_context(options.store_from(args))
        lease = stack.enter_context(_lease(store, options.layout_from(args, store)))
        _receive(args, store, spool, lease)


def one_on_this_machine(server: Server) -> ExitStack:
    """Hold the lock file of the server's receiver, by which Barman's commands find it, whoever has started it.

    ``ConflictError`` if another process has it. Where it can't be made, the lease in the bucket is all there is.
    """
    from barman_cloud.schedule import locks

    busy = f"Another receive-wal process is already running for server {server.name}."
    stack = ExitStack()
    try:
        stack.enter_context(locks.held(server["barman_lock_directory"], server.name, RECEIVE, busy))
    except ConfigurationError as error:  # a container without volume has no place for it
        log.info("%s; list-processes and terminate-process won't find this receiver", error)
    return stack


def _spool(args: Arguments) -> ReceiveSpool | None:
    """Return the spool, locked; None if nothing is to be on disk."""
    if not args.spool_dir:
        return None
    from barman_cloud.wal import spool
    from barman_cloud.wal.receive_spool import ReceiveSpool

    # Neither variables nor options decide which spool this is: WAL that waits in it must be found again.
    return ReceiveSpool(
        spool.prepare(args.spool_dir, "receive", (options.url_from(args).rstrip("/"), args.server_name), {})
    )


def _receive(args: Arguments, store: ObjectStore, spool: ReceiveSpool | None, lease: _Held) -> None:
    from barman_cloud.catalog.identity import ArchiveIdentity
    from barman_cloud.wal.archiver import ArchiveOptions, Archiver
    from barman_cloud.wal.receive_report import Reporter
    from barman_cloud.wal.receiver import Receiver

    layout = options.layout_from(args, store)
    tags = options.tags_from(args)
    identity = ArchiveIdentity(store, layout, accepted=args.accept_cluster, tags=tags)
    how = ArchiveOptions(args.compression, args.compression_level, tags, options.tags_from(args, "history-"))
    archiver = Archiver(store, layout, how, identity)
    if args.server is not None:
        from barman_cloud.cli.hooks import hook_archiver

        if hook_archiver(args, archiver, store, layout):
            args.jobs = 1  # scripts expect one file after the other, in the order of WAL
    if args.mode == "spool":
        assert spool is not None
        sink: Sink = _spool_sink(args, archiver, spool)
    else:
        if spool is not None:
            _empty(args, archiver, spool)
        sink = _direct_sink(args, store, archiver, lease)
    receiver = Receiver(
        _source(args),
        store,
        layout,
        sink,
        accept_gap=args.accept_gap,
        require_cluster=lambda found: identity.require(found, "the server"),
        check_lease=lease.check,
    )
    with _stopped_by_signals(receiver), Reporter(store, layout, receiver.describe, is_ours=lambda: not lease.lost):
        receiver.run()
    if args.is_shown:
        from barman_cloud.cli.wal_summaries import of_receiving

        args.summary = of_receiving(receiver.received())


def _uploader(args: Arguments, archiver: Archiver) -> Uploader:
    from barman_cloud.wal.receive_upload import Uploader

    return Uploader(archiver, args.jobs, archiver.drop_partial)


def _spool_sink(args: Arguments, archiver: Archiver, spool: ReceiveSpool) -> Sink:
    from barman_cloud.wal.receive_spooled import SpoolOptions, SpoolSink

    uploader = _uploader(args, archiver)
    for path in spool.left_over():
        uploader.add(path)
    return SpoolSink(spool, uploader, SpoolOptions(args.spool_max, args.partial_interval))


def _direct_sink(args: Arguments, store: ObjectStore, archiver: Archiver, lease: _Held) -> Sink:
    from barman_cloud.wal.receive_direct import DirectOptions, DirectSink

    how = DirectOptions(lease.number, args.jobs, args.piece_jobs, options.tags_from(args))
    return DirectSink(store, options.layout_from(args, store), archiver, how)


def _empty(args: Arguments, archiver: Archiver, spool: ReceiveSpool) -> None:
    """Store what a receiver with a spool has left: it was acknowledged, and the server needn't have it any more."""
    uploader = _uploader(args, archiver)
    for path in spool.left_over():
        uploader.add(path)
    while not uploader.wait(LEASE_RENEWAL):
        if uploader.failure is not None:
            raise uploader.failure
        log.warning("%d files of the spool are to be stored before WAL is received", uploader.waiting)


@contextmanager
def _stopped_by_signals(receiver: Receiver) -> Iterator[None]:
    import signal

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: receiver.request_stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Held:
    """A lease that is renewed behind our back."""

    def __init__(self, lease: Lease) -> None:
        self.number = lease.number
        self.lost: list[BarmanCloudError] = []

    def check(self) -> None:
        """Raise once another receiver has taken over."""
        if self.lost:
            raise self.lost[0]


@contextmanager
def _lease(store: ObjectStore, layout: Layout) -> Iterator[_Held]:
    """Be the only receiver of the server."""
    from barman_cloud.schedule.lease import acquire

    lease = acquire(store, layout, LEASE_NAME, LEASE_DURATION)
    if not lease.exclusive:
        log.warning("this store can't keep a second receiver of %s on another host away", layout.server)
    ended = threading.Event()
    held = _Held(lease)
    renewal = threading.Thread(target=_renew, args=(lease, ended, held.lost), name="lease", daemon=True)
    renewal.start()
    try:
        yield held
    finally:
        ended.set()
        if not held.lost:
            # A store that doesn't answer mustn't hold up the end: the lease of a process that has gone ends by itself.
            release = threading.Thread(target=_release, args=(lease,), name="release", daemon=True)
            release.start()
            release.join(RELEASE_SECONDS)


def _release(lease: Lease) -> None:
    try:
        lease.release()
    except BarmanCloudError as error:
        log.info("the lease ends by itself: %s", error)


def _renew(lease: Lease, ended: threading.Event, lost: list[BarmanCloudError]) -> None:
    from barman_cloud.errors import ConflictError

    while not ended.wait(LEASE_RENEWAL):
        try:
            lease.renew()
        except ConflictError as error:
            lost.append(error)
            return
        except BarmanCloudError as error:
            log.info("the lease can't be renewed now: %s", error)  # that the store is away is said with the uploads


def _parameters(args: Arguments) -> ConnectionParameters:
    from barman_cloud.postgres.connection import ConnectionParameters

    return ConnectionParameters(args.dbname, args.host, args.port, args.user)


def _source(args: Arguments) -> SourceOptions:
    from barman_cloud.wal.receive_source import SourceOptions

    return SourceOptions(_parameters(args), args.streaming_conninfo, args.slot, args.create_slot)


def _drop_slot(args: Arguments) -> None:
    from barman_cloud.postgres.connection import connect
    from barman_cloud.replication import slots
    from barman_cloud.replication.session import open_session

    with connect(_parameters(args)) as beside:
        slots.require_usable(slots.look_at(beside, args.slot), args.slot)
        session = open_session(beside, args.streaming_conninfo)
        try:
            slots.drop(session, args.slot)
        finally:
            session.close()


COMMAND = Command("wal-receive", add_arguments, run, validate)
