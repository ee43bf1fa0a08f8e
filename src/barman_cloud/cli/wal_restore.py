"""``barman-cloud-wal-restore``: fetch one WAL file; for ``restore_command``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command, describe
from barman_cloud.cli.command import main as run_command
from barman_cloud.errors import NotFoundError, RecoveryAbortedError, SpoolError

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.deadline import Deadline
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.wal.restorer import Restorer
    from barman_cloud.wal.spool import Directory

log = logs.get_logger(__name__)


_AT_THE_END = "normal at the end of the archive; a standby asks again; 'barman-cloud check' tells of gaps"


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    parser.add_argument("wal_name", help="name of the WAL file (%%f of restore_command)")
    parser.add_argument("wal_dest", help="where to put it (%%p of restore_command)")
    parser.add_argument("--no-partial", action="store_true", help="never deliver a .partial segment")
    parser.add_argument(
        "-p", "--parallel", type=values.integer, default=0, metavar="N", help="fetch the next N-1 segments ahead"
    )
    parser.add_argument(
        "--spool-dir", metavar="DIR", help="for what is fetched ahead (default /var/tmp/walrestore-UID)"
    )
    parser.add_extension(
        "--abort-recovery-on-error",
        action="store_true",
        help="exit with 130 on errors other than 'not in the archive', so that PostgreSQL stops recovery",
    )
    parser.add_extension("--skip-page-check", action="store_true", help="deliver a file although it is damaged")
    options.add_progress(parser)


def run(args: Arguments) -> int:
    if args.is_shown:
        from barman_cloud.report import progress

        progress.current().phase(f"fetching {args.wal_name}")
    ahead = False
    try:
        ahead = _restore(args)
    except NotFoundError as error:
        code = _say_missing(args.wal_name, error)
        if args.is_shown:
            from barman_cloud.cli.wal_summaries import of_missing

            args.summary = of_missing(args.wal_name)
        return code
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if not args.abort_recovery_on_error:
            raise
        raise RecoveryAbortedError(describe(error), hint=getattr(error, "hint", None)) from error
    if args.is_shown:
        from barman_cloud.cli.wal_summaries import of_fetching

        args.summary = of_fetching(args.wal_name, args.wal_dest, ahead=ahead)
    return 0


def _say_missing(name: str, error: NotFoundError) -> int:
    """Log that the file isn't in the archive, which is no failure, and return the exit code.

    Every recovery asks for history files that don't exist yet, and for the segment behind the last one.
    """
    if name.endswith(".history"):
        by_hand = sys.stderr is not None and sys.stderr.isatty()
        level = logs.WARNING if by_hand else logs.INFO
        log.log(level, "%s: normal at this point, there is no newer timeline", error)
    else:
        log.warning("%s (hint: %s)", error, error.hint or _AT_THE_END)
    return error.exit_code


def _restore(args: Arguments) -> bool:
    """Tell whether the file had been fetched ahead."""
    from barman_cloud.postgres.wal import WalKind
    from barman_cloud.wal import background_client, restore_spool, spool
    from barman_cloud.wal.restorer import wal_name

    name = wal_name(args.wal_name)
    ahead = args.parallel >= 2 and name.kind is WalKind.SEGMENT
    directory: Directory | None = None
    try:
        directory = spool_directory(args)
    except SpoolError as error:
        # Recovery goes on without it: PostgreSQL would take a failure for the end of the archive.
        level = logs.WARNING if args.parallel >= 2 or args.spool_dir else logs.INFO
        log.log(level, "restoring without a spool, one file after the other: %s (hint: %s)", error, error.hint)

    def fetch_ahead() -> None:
        if directory is not None and ahead:
            # The next call answers without a word, and without this module, if it finds the command.
            asked = args.json_summary or args.progress != "auto"
            if not asked and (command := spool.command_of(args.command_line, variable=2)):
                spool.remember_command(directory, command[0])
            try:
                background_client.start(directory, "restore", name.text, args.command_line)
            except OSError as error:
                log.warning("restoring without --parallel: no process can be started: %s", error)

    if directory is not None and ahead and restore_spool.serve(directory, name.text, args.wal_dest, args.deadline):
        log.info("restored WAL file %s to %s, fetched ahead", name.text, args.wal_dest)
        fetch_ahead()
        return True
    with options.store_from(args) as store:
        restorer = restorer_from(args, store, directory)
        damaged = directory is not None and restore_spool.is_damaged(directory, name.text)
        # What follows is fetched while this segment is: the background process takes as long to start.
        restorer.restore(name, args.wal_dest, on_found=fetch_ahead, thorough=damaged)
        if directory is not None and damaged:
            restore_spool.forget_damage(directory, name.text)
    return False


def restorer_from(args: Arguments, store: ObjectStore, memory: Directory | None = None) -> Restorer:
    """Return a restorer that does as the options say."""
    from barman_cloud.wal.restorer import Restorer

    return Restorer(
        store,
        options.layout_from(args, store),
        partial=not args.no_partial,
        memory=memory,
        check_pages=not args.skip_page_check,
    )


def spool_directory(args: Arguments) -> Directory:
    """Create (if needed) and return the spool of this store and server; ``SpoolError`` if that can't be done."""
    from barman_cloud.wal import spool

    return spool.prepare(args.spool_dir or spool.default_spool_dir("restore"), "restore", options.spool_key(args))


def validate(args: Arguments) -> None:
    """Check the name of the WAL file before anything else."""
    from barman_cloud.wal.restorer import wal_name

    wal_name(args.wal_name)


COMMAND = Command("wal-restore", add_arguments, run, validate, connectivity_exit_code=2, per_segment=True)


def main(deadline: Deadline | None = None) -> int:
    return run_command(COMMAND, deadline=deadline)
