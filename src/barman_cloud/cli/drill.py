"""``barman-cloud drill``: restore a backup, recover it, start PostgreSQL on it, and ask whether all is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options, recovery, values
from barman_cloud.cli.command import Command
from barman_cloud.errors import ConfigurationError, DrillError, UsageError
from barman_cloud.report import progress

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.restore.recovery_settings import RecoverySettings
    from barman_cloud.verify.drill import DrillOptions, DrillResult
    from barman_cloud.verify.drill_checks import Assertion

log = logs.get_logger(__name__)

_LARGEST_FILE = 1 << 20
_TARGETS = ("target_lsn", "target_time", "target_name", "target_xid", "target_immediate")


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    parser.add_argument(
        "backup_id",
        nargs="?",
        help="id, name or shortcut of a backup (default: the newest complete one that can reach the target)",
    )
    parser.extra_positional = "backup_id"
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="make the drill's own directory in this one (default: where temporary files go)",
    )
    parser.add_argument("--keep", action="store_true", help="leave the restored cluster there, and say where it is")
    parser.add_argument(
        "-j", "--jobs", type=values.positive, default=4, metavar="N", help="parallel workers (default 4)"
    )
    _add_target(parser)
    server = parser.add_argument_group("PostgreSQL")
    server.add_argument("--pg-bin", metavar="DIR", help="where the programs of the backup's PostgreSQL version are")
    server.add_argument("-U", "--user", default="postgres", help="superuser of the cluster (default postgres)")
    server.add_argument("--run-as", metavar="USER", help="as root: become this user first (default postgres)")
    server.add_argument(
        "--recovery-timeout",
        type=values.age,
        default="1d",
        metavar="AGE",
        help="the drill has failed if recovery takes longer (default 1d)",
    )
    checks = parser.add_argument_group("checks")
    checks.add_argument("--no-amcheck", action="store_true", help="don't check tables and indexes")
    checks.add_argument(
        "--assert",
        dest="assertions",
        action="append",
        default=[],
        metavar="SQL",
        help="fail unless the first column of its first row is true; repeatable",
    )
    checks.add_argument(
        "--assert-file",
        dest="assertion_files",
        action="append",
        default=[],
        metavar="FILE",
        help="the same for each statement of a file that returns rows; repeatable",
    )
    checks.add_argument("-d", "--dbname", default="postgres", help="database of the assertions (default postgres)")
    checks.add_argument(
        "--max-rto", type=values.age, metavar="AGE", help="fail if it takes longer until the server is open for writing"
    )
    options.add_format(parser)
    options.add_progress(parser)


def _add_target(parser: Declarations) -> None:
    parser.add_argument("--target-tli", type=values.timeline, metavar="TLI", help="recover along this timeline")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--target-time", metavar="TIME", help="recover to this time (default: all WAL that is there)")
    target.add_argument("--target-lsn", metavar="LSN", help="recover to this LSN")
    target.add_argument("--target-name", metavar="NAME", help="recover to this restore point")
    target.add_argument("--target-xid", type=values.transaction_id, metavar="XID", help="recover to this transaction")
    target.add_argument("--target-immediate", action="store_true", help="stop as soon as the cluster is consistent")


def run(args: Arguments) -> int | None:
    from barman_cloud.backup.signals import Interrupted, interruptible

    if os.geteuid() == 0:
        _become(args.run_as or "postgres")
    # What leads a client elsewhere (PGHOSTADDR, PGSERVICE) must not lead this one to a server that others use.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    chosen, settings = _options(args), _settings(args)
    try:
        with interruptible(), options.repository_from(args) as repository:
            result = repository.drill(args.backup_id, settings=settings, options=chosen)
    except Interrupted as error:
        log.error("%s; the drill has left nothing behind", error)  # noqa: TRY400
        return 128 + error.number
    from barman_cloud.cli.summaries import of_drill

    args.summary = of_drill(result)
    return _show(args, result)


def _options(args: Arguments) -> DrillOptions:
    from barman_cloud.verify.drill import DrillOptions

    return DrillOptions(
        directory=Path(args.directory) if args.directory else None,
        pg_bin=args.pg_bin,
        user=args.user,
        dbname=args.dbname,
        jobs=args.jobs,
        amcheck=not args.no_amcheck,
        assertions=tuple(_assertions(args)),
        recovery_timeout=args.recovery_timeout,
        max_rto=args.max_rto,
        keep=args.keep,
    )


def _assertions(args: Arguments) -> list[Assertion]:
    from barman_cloud.verify.drill_checks import Assertion

    found = [Assertion(text, text) for text in args.assertions]
    for name in args.assertion_files:
        try:
            with Path(name).open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
            if len(content) > _LARGEST_FILE:
                raise ConfigurationError(f"--assert-file {name}: more than {_LARGEST_FILE >> 20} MiB")
            found.append(Assertion(name, content.decode()))
        except OSError as error:
            raise ConfigurationError(f"--assert-file {name}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"--assert-file {name} isn't UTF-8") from error
    return found


def _settings(args: Arguments) -> RecoverySettings:
    from barman_cloud.restore.recovery_settings import RecoverySettings

    has_target = any(getattr(args, name) for name in _TARGETS)
    return RecoverySettings(
        recovery.command(args),
        time=recovery.target_time(args),
        lsn=recovery.target_lsn(args),
        name=args.target_name,
        xid=args.target_xid,
        immediate=args.target_immediate,
        timeline=args.target_tli,
        action="promote" if has_target else None,
    )


def _become(name: str) -> None:
    """Run this very command again as another user; doesn't return."""
    import pwd

    hint = "run the command as the user that PostgreSQL runs as, or name one with --run-as USER"
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise DrillError(f"PostgreSQL refuses to run as root, and there is no user {name}", hint=hint) from None
    if user.pw_uid == 0:
        raise UsageError(f"--run-as {name}: that is root, which PostgreSQL refuses to run as", hint=hint)
    if not _can_run(name, user.pw_uid, user.pw_gid):
        raise DrillError(
            f"PostgreSQL refuses to run as root, and user {name} can't read this installation ({sys.prefix})", hint=hint
        )
    log.info("going on as %s, because PostgreSQL refuses to run as root", name)
    progress.current().hide()  # it draws from anew
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ |= {"HOME": user.pw_dir, "USER": name, "LOGNAME": name}
    # A new program: of a process that has changed its user, the kernel keeps the new user out.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


def _can_run(name: str, uid: int, gid: int) -> bool:
    import subprocess

    groups = os.getgrouplist(name, gid)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", "import barman_cloud.verify.drill"],
            user=uid,
            group=gid,
            extra_groups=groups,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def _show(args: Arguments, result: DrillResult) -> int:
    import json

    from barman_cloud.report.terminal import write
    from barman_cloud.verify import render
    from barman_cloud.verify.findings import Level

    if args.format == "json":
        write(f"{json.dumps({'version': 1, 'servers': [result.to_json()]}, indent=2)}\n")
    else:
        colour = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        write(f"{render.text(result.report, colour=colour)}\n")
        if result.kept:
            write(f"\n  kept in {result.kept}; if you start it, then with -c archive_mode=off and another port\n")
    return 1 if result.report.level in (Level.CRITICAL, Level.UNKNOWN) else 0


COMMAND = Command("drill", add_arguments, run, connectivity_exit_code=2)
