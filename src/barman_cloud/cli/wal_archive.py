"""``barman-cloud-wal-archive``: store one WAL file; for ``archive_command`` and Barman's pre-archive hook."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command
from barman_cloud.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.deadline import Deadline
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.wal.archiver import Archiver
    from barman_cloud.wal.spool import Directory

log = logs.get_logger(__name__)

MIB = 1024**2


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "destination_url")
    parser.add_argument(
        "wal_path", nargs="?", help="path of the WAL file (%%p of archive_command); not needed in a Barman hook"
    )
    parser.extra_positional = "wal_path"
    options.add_wal_storage(parser)
    azure = parser.add_argument_group("Azure uploads")
    azure.add_argument(
        "--max-block-size", type=values.size, default=4 * MIB, metavar="SIZE", help="of a block (default 4MB)"
    )
    azure.add_argument(
        "--max-concurrency", type=values.positive, default=1, metavar="N", help="blocks at a time (default 1)"
    )
    azure.add_argument(
        "--max-single-put-size",
        type=values.size,
        default=64 * MIB,
        metavar="SIZE",
        help="upload in one request up to this (default 64MB)",
    )
    parser.add_extension(
        "-p",
        "--parallel",
        type=values.integer,
        default=0,
        metavar="N",
        help="also archive the next N-1 segments that are ready",
    )
    parser.add_extension(
        "--spool-dir", metavar="DIR", help="where --parallel remembers them (default /var/tmp/walarchive-UID)"
    )
    parser.add_extension(
        "--overwrite", action="store_true", help="replace an archived file of the same name and other content"
    )
    parser.add_extension("--skip-page-check", action="store_true", help="archive a file although it is damaged")
    options.add_accept_cluster(parser)
    options.add_progress(parser)


def run(args: Arguments) -> None:
    stored = _run(args)
    if args.is_shown:
        from barman_cloud.cli.wal_summaries import of_archiving

        args.summary = of_archiving(args.wal_path, stored)


def _run(args: Arguments) -> int | Literal["ahead"] | None:
    """Return how many bytes were stored, None if they were there; ``ahead``: an earlier call has stored the file."""
    from barman_cloud.errors import SpoolError
    from barman_cloud.wal import archive_spool

    path: str = args.wal_path
    if args.is_shown:
        from barman_cloud.report import progress

        progress.current().phase(f"archiving {os.path.basename(path)}")
    scripts = args.server is not None and _has_scripts(args)  # which nobody would run for files archived ahead
    if args.parallel >= 2 and not scripts:
        try:
            directory = spool_directory(args)
        except SpoolError as error:
            log.warning("archiving without --parallel: %s (hint: %s)", error, error.hint)
        else:
            held = archive_spool.holds(directory, path, args.deadline)
            _have_others_archived(directory, path, args.command_line)
            if held:
                log.info("WAL file %s was archived ahead", path)
                archive_spool.release_cache(path)
                return "ahead"
    with options.store_from(args) as store:
        archiver = archiver_from(args, store)
        if scripts:
            from barman_cloud.cli.hooks import hook_archiver

            hook_archiver(args, archiver, store, options.layout_from(args, store))
        return archiver.archive(path)


def _has_scripts(args: Arguments) -> bool:
    from barman_cloud.cli.hooks import hooks_of

    return hooks_of(args, "archive") is not None


def spool_directory(args: Arguments) -> Directory:
    """Create (if needed) and return the spool of this command line, so that the next call finds it by a link.

    Raises ``SpoolError`` if that can't be done. Another command line, with another compression or other tags, has a
    spool and a background process of its own.
    """
    from barman_cloud.wal import spool

    spool_dir = args.spool_dir or spool.default_spool_dir("archive")
    constant = ("" if word == args.wal_path else word for word in args.command_line)
    directory = spool.prepare(spool_dir, "archive", (*options.spool_key(args), *constant))
    # The next call answers without a word, and without this module, if it finds the command.
    if not (args.json_summary or args.progress != "auto") and (
        command := spool.command_of(args.command_line, variable=1)
    ):
        spool.remember_command(directory, command[0])
    return directory


def archiver_from(args: Arguments, store: ObjectStore) -> Archiver:
    """Return an archiver that stores as the options say."""
    from barman_cloud.catalog.identity import ArchiveIdentity
    from barman_cloud.wal.archiver import ArchiveOptions, Archiver

    wal_options = ArchiveOptions(
        compression=args.compression,
        level=args.compression_level,
        tags=options.tags_from(args),
        history_tags=options.tags_from(args, "history-"),
        overwrite=args.overwrite,
        check_content=not args.skip_page_check,
    )
    layout = options.layout_from(args, store)
    identity = ArchiveIdentity(
        store, layout, accepted=args.accept_cluster, notes=_notes(args), tags=options.tags_from(args)
    )
    return Archiver(store, layout, wal_options, identity)


def _notes(args: Arguments) -> Directory | None:
    """Return a directory for what calls tell each other about this archive, or None if there is no place for one.

    Containers often have a read-only root, and still ``/dev/shm``.
    """
    from barman_cloud.errors import SpoolError
    from barman_cloud.wal import spool

    default = spool.default_spool_dir("archive")
    for parent in (args.spool_dir or default, f"/dev/shm/{os.path.basename(default)}"):  # noqa: S108 - the user's own
        try:
            return spool.prepare(parent, "archive", options.spool_key(args))
        except SpoolError as error:
            log.debug("no notes between calls in %s: %s", parent, error)
    return None


def _have_others_archived(directory: Directory, path: str, command_line: Sequence[str]) -> None:
    """Let the background process archive the other files that are ready, if there are any."""
    from barman_cloud.wal import background_client
    from barman_cloud.wal.archiver import ready_files

    if not ready_files(path):
        return
    try:
        background_client.start(directory, "archive", os.path.abspath(path), command_line)
    except OSError as error:
        log.warning("archiving without --parallel: no process can be started: %s", error)


def validate(args: Arguments) -> None:
    """Fill in the path that a Barman hook passes, and check the name, before anything else."""
    from barman_cloud.wal.wal_file import wal_name_of

    if not args.test and "BARMAN_HOOK" in os.environ and "BARMAN_PHASE" in os.environ:
        args.wal_path = _hook_path(os.environ)
    if args.wal_path is None:
        if args.test:
            return
        raise OperationError("no WAL file is named", hint="put the path (%p of archive_command) behind the server name")
    wal_name_of(args.wal_path)


def _hook_path(environ: Mapping[str, str]) -> str:
    hook, phase = environ["BARMAN_HOOK"], environ["BARMAN_PHASE"]
    if hook not in ("archive_script", "archive_retry_script") or phase != "pre":
        raise OperationError(
            f"called by Barman as {phase}_{hook}, which isn't supported",
            hint="use it as pre_archive_script or pre_archive_retry_script",
        )
    path = environ.get("BARMAN_FILE")
    if not path:
        raise OperationError("Barman's hook environment lacks BARMAN_FILE, the path of the WAL file")
    return path


COMMAND = Command("wal-archive", add_arguments, run, validate, per_segment=True)


def main(deadline: Deadline | None = None) -> int:
    return run_command(COMMAND, deadline=deadline)
