"""Command lines for the differential test: every option of every command, right, wrong, abbreviated and combined.

What should come out isn't written here: real Barman says it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

NOT_A_URL = "not-a-url"
BACKUP_ID = "20260102T030405"
WAL = "000000010000000000000001"


@dataclass(frozen=True)
class Option:
    """One option: its spellings and values that are right and wrong. No values at all: a flag."""

    flags: tuple[str, ...]
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """One command: its positionals after URL and server, and what else every call needs."""

    options: tuple[Option, ...]
    rest: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    combinations: tuple[tuple[str, ...], ...] = field(default=())


def _option(flags: str, good: str = "", bad: str = "") -> Option:
    return Option(tuple(flags.split()), tuple(good.split()), tuple(bad.split()))


COMMON = (
    _option("-v --verbose"),
    _option("-vv"),
    _option("-q --quiet"),
    _option("--cloud-provider", "aws-s3", "aws s3 gcs"),
    _option("--read-timeout", "60 0", "soon 1.5"),
    _option("--addressing-style", "auto path", "both"),
    _option("--azure-credential --credential --default", "azure-cli managed-identity default", "none"),
    _option("-h"),
    _option("--no-such-option"),
)
TAGS = (
    _option("--tag", "a,b key,value=with:all/of+it@x", "novalue aws:a,b a,b!"),
    _option("--tags", "a,b", ""),
)
ENCRYPTION = (
    _option("-e --encryption", "AES256 aws:kms", "AES128"),
    _option("--encryption-scope", "scope"),
    _option("--kms-key-name", "key"),
)
SIZES = ("10 10B 10kb 1.5GB 20MiB 1TB", "10G 0 -5 ten 1.5 1.5B KB 0.1B")

PROGRAMS = {
    "backup": Program(
        options=(
            *(_option("-z --gzip"), _option("-j --bzip2"), _option("--snappy"), _option("--lz4"), _option("--zstd")),
            _option("-h --host", "localhost"),
            _option("-p --port", "5432 text"),
            _option("-U --user", "postgres"),
            _option("-d --dbname", "postgres host=x"),
            _option("--immediate-checkpoint"),
            _option("--keepalive-interval", "0 60", "-1 often"),
            _option("-J --jobs", "1 8", "0 -1 many"),
            _option("-S --max-archive-size", *SIZES),
            _option("--min-chunk-size", *SIZES),
            _option("--max-bandwidth", *SIZES),
            _option("-n --name", "nightly x", f"{BACKUP_ID} latest last oldest first last-failed latest-full auto"),
            _option("--snapshot-instance", "machine"),
            _option("--snapshot-disk", "disk"),
            _option("--gcp-zone --snapshot-zone", "z"),
            _option("--gcp-project --snapshot-gcp-project", "p"),
            _option("--aws-region", "eu-west-1"),
            _option("--aws-await-snapshots-timeout", "1 3600", "0 -3 x"),
            _option("--aws-snapshot-lock-mode", "governance compliance", "both"),
            _option("--aws-snapshot-lock-cool-off-period", "1 72", "0 73 x"),
            _option("--aws-snapshot-lock-duration", "1 36500", "0 36501 x"),
            _option(
                "--aws-snapshot-lock-expiration-date",
                "2030-01-01T00:00:00.0Z 2030-01-01T00:00:00.000000Z",
                "2030-01-01 2030-01-01T00:00:00Z 2030-13-01T00:00:00.0Z",
            ),
            _option("--azure-subscription-id", "s"),
            _option("--azure-resource-group", "g"),
            *TAGS,
            *ENCRYPTION,
        ),
        combinations=(
            ("--gzip", "--bzip2"),
            ("--lz4", "--lz4"),
            ("--snappy", "--zstd"),
            ("-zv",),
            ("-vz",),
            ("-J2",),
            ("-J", "2", "-J", "3"),
            ("--jobs=2", "--jobs", "x"),
            ("--tags", "a,b", "--tag", "c,d"),
            ("--tag", "a,b", "--tag", "c,d"),
            ("--tag", "a,b", "--tag", "a,c"),
            ("--tags", "a,b", "c,d", "-v"),
            ("--tags", "a", "-v"),
            ("--tags", "a,b,c", "-v"),
            ("--tags", '"a,b",c', "-v"),
            ("--tags", "-v"),
            tuple(part for number in range(11) for part in ("--tag", f"k{number},v")),
            ("--sse-kms-key-id", "k"),
            ("--sse-kms-key-id", "k", "-e", "AES256"),
            ("--sse-kms-key-id", "k", "-e", "aws:kms"),
            ("--sse-customer-key", "file:///nonexistent/key"),
            ("--sse-customer-key", "file:relative"),
            ("--sse-customer-key", "env://KEY"),
            ("--sse-customer-key", "file:///nonexistent/key", "-e", "AES256"),
            ("--gzip", "--snapshot-instance", "i"),
            ("--lz4", "--snapshot-disk", "d"),
            ("--kms-key-name", "k", "--snapshot-instance", "i", "--snapshot-disk", "d"),
            ("--aws-snapshot-lock-mode", "governance", "--aws-snapshot-lock-cool-off-period", "3"),
            ("--aws-snapshot-lock-duration", "3", "--aws-snapshot-lock-expiration-date", "2030-01-01T00:00:00.0Z"),
            ("--immediate-checkpoint=false",),
            ("--name=",),
            ("--snap",),
            ("--aws-s", "governance"),
        ),
    ),
    "backup-delete": Program(
        options=(
            _option("-m --minimum-redundancy", "0 3", "-1 x"),
            _option("--dry-run"),
            _option("--batch-size", "1 0 -5 100000", "x"),
            _option("--check-object-lock"),
        ),
        required=("--retention-policy", "REDUNDANCY 3"),
        combinations=(
            ("-b", BACKUP_ID),
            ("-r", "REDUNDANCY 1"),
            ("--retention", "RECOVERY WINDOW OF 3 DAYS"),
            ("--retention-policy", "recovery window of 0 weeks"),
            ("--retention-policy", "nonsense"),
        ),
    ),
    "backup-keep": Program(
        options=(),
        rest=(BACKUP_ID,),
        required=("--status",),
        combinations=(("-r",), ("--release",), ("-s",), ("--target", "full"), ("--target=standalone",)),
    ),
    "backup-list": Program(options=(_option("--format", "console json"),)),
    "backup-show": Program(options=(_option("--format", "console json"),), rest=(BACKUP_ID,)),
    "check-wal-archive": Program(options=(_option("--timeline", "1 7", "0 -1 x current"),)),
    "restore": Program(
        options=(
            _option("--tablespace", "a:/b"),
            _option("--snapshot-recovery-instance", "i"),
            _option("--gcp-zone --snapshot-recovery-zone", "z"),
            _option("--aws-region", "r"),
            _option("--azure-resource-group", "g"),
            _option("--target-tli", "1 current latest", "0 -1 x"),
            _option("--target-lsn", "0/1 nonsense"),
            _option("--target-time", "2026-01-01 nonsense"),
        ),
        rest=(BACKUP_ID, "/nonexistent/target"),
        combinations=(
            ("--target-lsn", "0/1", "--target-time", "2026-01-01"),
            ("--tablespace", "a:/b", "--tablespace", "c:/d"),
            ("--target",),
        ),
    ),
    "wal-archive": Program(
        options=(
            *(_option("-z --gzip"), _option("-j --bzip2"), _option("--xz"), _option("--snappy"), _option("--zstd")),
            _option("--lz4"),
            _option("--compression-level", "low HIGH 3 -3 100", "best 1.5"),
            _option("--history-tag", "a,b", "a"),
            _option("--history-tags", "a,b"),
            _option("--max-block-size", *SIZES),
            _option("--max-concurrency", "1 4", "0 x"),
            _option("--max-single-put-size", *SIZES),
            *TAGS,
            *ENCRYPTION,
        ),
        rest=(f"/nonexistent/{WAL}",),
        combinations=(
            ("--gzip", "--xz"),
            ("--zstd", "--lz4"),
            ("--history-tag", "a,b", "--history-tags", "c,d", "-v"),
            ("--tag", "a,b", "--history-tag", "c,d"),
            ("--compression-level=-3", "--zstd"),
            ("--sse-kms-key-id", "k"),
            ("--max-c", "2"),
            ("--history",),
        ),
    ),
    "wal-restore": Program(
        options=(
            _option("--no-partial"),
            _option("-p --parallel", "0 1 8 -2", "x"),
            _option("--spool-dir", "/nonexistent/spool"),
        ),
        rest=(WAL, "/nonexistent/destination"),
        combinations=(("-p8",), ("-p", "-2"), ("--parallel=-2",), ("--no-p",)),
    ),
}

_WAL_NAMES = (
    f"{WAL}.partial",
    f"{WAL}.00000028.backup",
    "00000002.history",
    "00000001000000000000000g",
    "notawal",
    "000000010000000000000001.tmp",
    "00000001000000000000000A",
    "00000001000000000000000a",
    "",
)


def command_lines(url: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (command, arguments) for ``--test``; where ``url`` is used, its bucket exists."""
    for share, (name, program) in enumerate(PROGRAMS.items()):
        lines: dict[tuple[str, ...], None] = {}
        for line in _lines(program, url, share):
            lines.setdefault(("-t", *line))
        for line in lines:
            yield name, line
    for wal in _WAL_NAMES:
        yield "wal-archive", ("-t", url, "main", f"pg_wal/{wal}")
        yield "wal-restore", ("-t", url, "main", wal, "/nonexistent/destination")
    for wrong in (
        "",
        "bucket",
        "s3:/bucket",
        "s3://",
        "https://bucket/path",
        "gs://bucket",
        "s4://bucket/path",
        "S3://b",
    ):
        yield "backup-list", ("-t", wrong, "main")
    yield "backup-list", ("-t", url + "-missing", "main")
    yield "check-wal-archive", ("-t", url + "-missing", "main")
    for provider, wrong in (
        ("azure-blob-storage", url),
        ("google-cloud-storage", url),
        ("google-cloud-storage", "gs:"),
    ):
        yield "backup-list", ("-t", "--cloud-provider", provider, wrong, "main")


def _lines(program: Program, url: str, share: int) -> Iterator[tuple[str, ...]]:
    positionals = (url, "main", *program.rest)
    needed = program.required
    yield (*needed, *positionals)
    for combination in program.combinations:
        yield (*combination, *positionals)
    # With a URL that isn't one, a line that parses ends with 4 and one that doesn't with 3: no store is asked.
    invalid = (NOT_A_URL, *positionals[1:])
    yield from _positional_lines(invalid, needed)
    for number, combination in enumerate(program.combinations):
        yield _in_some_order(number, combination, needed, invalid)
    for number, line in enumerate(line for option in program.options for line in _option_lines(option)):
        yield _in_some_order(number, line, needed, invalid)
    for number, line in enumerate(line for option in COMMON for line in _option_lines(option)):
        # Every command has these from the same declaration: each gets another share of them.
        if number % 6 == share % 6:
            yield _in_some_order(number // 6, line, needed, invalid)


def _in_some_order(
    number: int, line: tuple[str, ...], needed: tuple[str, ...], positionals: tuple[str, ...]
) -> tuple[str, ...]:
    orders = (
        (*line, *needed, *positionals),
        (*positionals, *needed, *line),
        (*positionals[:1], *needed, *line, "--", *positionals[1:]),
    )
    return orders[number % len(orders)]


def _positional_lines(positionals: tuple[str, ...], needed: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for count in range(len(positionals)):
        yield (*needed, *positionals[:count])
    yield (*needed, *positionals, "surplus")
    yield (*needed, "--", *positionals)
    yield (*positionals[:1], *needed, *positionals[1:])
    yield positionals
    yield ("-v", "-q", *needed, *positionals)
    yield ("--help",)
    yield ("--version",)
    yield ("-V", *positionals)


def _option_lines(option: Option) -> Iterator[tuple[str, ...]]:
    for flag in option.flags:
        if not option.good:
            yield (flag,)
            if flag.startswith("--"):
                yield (f"{flag}=value",)
                yield (flag[:-1],)
                yield (flag[:5],)
            continue
        yield (flag,)
        for value in (*option.good, *option.bad):
            yield (flag, value)
        first = option.good[0]
        if flag.startswith("--"):
            yield (f"{flag}={first}",)
            yield (flag[:-2], first)
            yield (flag[:5], first)
            yield (flag[:8], first)
        else:
            yield (f"{flag}{first}",)
