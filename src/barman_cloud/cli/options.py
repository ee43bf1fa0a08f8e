"""Options that commands share, declared once, and the values they make: a store and a layout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from barman_cloud import __version__, logs
from barman_cloud.cli import values
from barman_cloud.store import providers

if TYPE_CHECKING:
    from barman_cloud.api import Repository
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.postgres.connection import ConnectionParameters
    from barman_cloud.store.base import ObjectStore, StoreURL

AZURE_CREDENTIALS = ("azure-cli", "managed-identity", "default")
SSE_KINDS = ("AES256", "aws:kms")
DEFAULT_MAX_ARCHIVE_SIZE = 100 * 1024**3


def add_common(parser: Declarations, url: str, *, several: bool = False) -> None:
    """Add what every command has; ``url`` names the first positional (``source_url`` or ``destination_url``).

    With ``several`` it takes any number of servers: ``args.server_name`` is a list, or one name.
    """
    parser.add_argument(url, help="URL of the bucket and path, such as s3://bucket/path")
    if several:
        parser.add_argument("server_name", nargs="*", help="names of servers (default: all below the path)")
    else:
        parser.add_argument("server_name", help="name of the server: the folder below the path")
    parser.set_defaults(url_argument=url, server=None, configuration_file=None)

    _add_general(parser)
    parser.add_argument(
        "-t", "--test", action="store_true", help="check that the bucket exists and can be reached, then exit"
    )
    parser.add_extension(
        "--timeout",
        type=values.positive,
        metavar="SECONDS",
        help="give up after this time (which commands count it how, and the defaults: docs/reference/timeouts.md)",
    )
    parser.add_argument(
        "--cloud-provider",
        choices=providers.selectable(),
        help="kind of object storage (default: told by the URL; file:// needs none)",
    )

    s3 = parser.add_argument_group("S3")
    s3.add_argument("--endpoint-url", help="address of an S3-compatible service")
    s3.add_argument("-P", "--aws-profile", help="profile of the AWS configuration files")
    s3.add_argument("--profile", dest="aws_profile", help="older name of --aws-profile")
    s3.add_argument(
        "--read-timeout", type=values.integer, metavar="SECONDS", help="give up on a silent connection after this time"
    )
    s3.add_argument(
        "--addressing-style", choices=("auto", "virtual", "path"), help="bucket in the host name or in the path"
    )
    s3.add_argument(
        "--sse-customer-key", metavar="URI", help="file:// and the absolute path of a base64 256-bit key, for SSE-C"
    )
    azure = parser.add_argument_group("Azure Blob Storage")
    azure.add_argument(
        "--azure-credential",
        "--credential",
        "--default",
        choices=AZURE_CREDENTIALS,
        help="how to sign in, before any environment variable",
    )


def add_configured(parser: Declarations) -> None:
    """Add what commands have that work on the servers of the configuration."""
    _add_general(parser)
    parser.set_defaults(timeout=None, test=False, server=None, configuration_file=None)


def _add_general(parser: Declarations) -> None:
    parser.add_argument(
        "-V", "--version", action="version", version=f"%(prog)s {__version__}", help="print the version and exit"
    )
    parser.add_argument("--help", action="help", help="print this help and exit")
    level = parser.add_mutually_exclusive_group()
    level.add_argument(
        "-v", "--verbose", action="count", default=0, help="log what is done (-vv: also each request to the store)"
    )
    level.add_argument("-q", "--quiet", action="count", default=0, help="log less (-qq: nothing)")


def add_compression(parser: Declarations, short: dict[str, str], names: Sequence[str]) -> None:
    """Add one exclusive flag for each compression; ``args.compression`` is its name or None."""
    group = parser.add_mutually_exclusive_group()
    for name in names:
        flags = [short[name]] if name in short else []
        group.add_argument(
            *flags, f"--{name}", dest="compression", action="store_const", const=name, help=f"compress with {name}"
        )


def add_tags(parser: Declarations, prefix: str = "", what: str = "every object of this run") -> None:
    """Add ``--tags`` and ``--tag`` (or ``--history-…``), which exclude each other."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(f"--{prefix}tags", nargs="*", action="tag_records", metavar="KEY,VALUE", help=f"tags for {what}")
    group.add_argument(
        f"--{prefix}tag",
        action="append",
        type=values.tag,
        default=[],
        metavar="KEY,VALUE",
        help=f"tag for {what}; repeatable",
    )


def tags_from(args: Arguments, prefix: str = "") -> dict[str, str] | None:
    """Return the tags given by either spelling, or None."""
    prefix = prefix.replace("-", "_")
    pairs = getattr(args, f"{prefix}tag") or getattr(args, f"{prefix}tags")
    return dict(pairs) if pairs else None


def add_upload_limits(parser: Declarations) -> None:
    """Add sizes and speed of the uploads, for the commands that make the archives of a backup."""
    parser.add_argument(
        "-S",
        "--max-archive-size",
        type=values.size,
        default=DEFAULT_MAX_ARCHIVE_SIZE,
        metavar="SIZE",
        help="start another archive above this size (default 100GB)",
    )
    parser.add_argument(
        "--min-chunk-size", type=values.size, metavar="SIZE", help="smallest part of a multipart upload"
    )
    parser.add_argument(
        "--max-bandwidth", type=values.size, metavar="SIZE", help="upload at most so many bytes a second"
    )


def add_optional_server(parser: Declarations) -> Declarations:
    """Add the connection of commands that look at the server only if one is named, and return the group."""
    server: Declarations = parser.add_argument_group("PostgreSQL")
    server.add_argument("-d", "--dbname", help="look at the server as well: database name or connection string")
    server.add_argument("-h", "--host", help="host name or socket directory")
    server.add_argument("-p", "--port", help="port")
    server.add_argument("-U", "--user", help="role")
    return server


def optional_server(args: Arguments) -> ConnectionParameters | None:
    """Return how to connect to the server that the command line names, or None."""
    if not (args.dbname or args.host or args.port or args.user):
        return None
    from barman_cloud.postgres.connection import ConnectionParameters

    return ConnectionParameters(args.dbname or "postgres", args.host, args.port, args.user)


def add_encryption(parser: Declarations) -> None:
    """Add how objects are encrypted at rest, for the commands that write backups and WAL."""
    parser.add_argument("-e", "--encryption", choices=SSE_KINDS, help="S3: server-side encryption")
    parser.add_argument("--sse-kms-key-id", help="S3: key of --encryption aws:kms")
    parser.add_argument("--encryption-scope", help="Azure: encryption scope")
    parser.add_argument("--kms-key-name", help="Google: KMS key")


def add_accept_cluster(parser: Declarations) -> None:
    """Add the consent to what ``catalog.identity`` refuses."""
    parser.add_extension(
        "--accept-cluster",
        type=values.positive,
        metavar="ID",
        help="let the cluster with this system identifier share the archive of another one",
    )


def add_format(parser: Declarations, more: Sequence[str] = ()) -> None:
    parser.add_argument(
        "--format", choices=("console", "json", *more), default="console", help="how to print it (default console)"
    )


def add_progress(parser: Declarations, *, summary: bool = True) -> None:
    """Add how progress is shown and, for what moves data, ``--json-summary``: ``args.summary`` is told at the end.

    ``args.is_shown`` says whether that is so: a command that PostgreSQL calls makes no summary otherwise.
    """
    parser.add_extension(
        "--progress",
        choices=("auto", "none", "plain", "json"),
        default="auto",
        help="auto: live lines on a terminal, elsewhere a line each 30 s at -v; plain: such lines anyway; json: JSON "
        "lines; all on standard error",
    )
    if summary:
        parser.add_extension(
            "--json-summary", metavar="FILE", help="write what was done, or why it failed, to this file as JSON"
        )


def add_storage_class(parser: Declarations) -> None:
    """Add the class of storage of archives and WAL segments, for the commands that write them."""
    parser.add_extension(
        "--storage-class",
        metavar="CLASS",
        help="class of storage for archives and WAL segments, such as STANDARD_IA, Cool or NEARLINE",
    )


def add_wal_storage(parser: Declarations) -> None:
    """Add how WAL files are stored: compression, tags, encryption and class of storage."""
    add_compression(parser, {"gzip": "-z", "bzip2": "-j"}, ("gzip", "bzip2", "xz", "snappy", "zstd", "lz4"))
    parser.add_argument(
        "--compression-level",
        type=values.compression_level,
        metavar="LEVEL",
        help="low, medium, high or a number of the algorithm (default: what suits WAL)",
    )
    add_tags(parser)
    add_tags(parser, "history-", "timeline history files, instead of the other tags")
    add_encryption(parser)
    add_storage_class(parser)


def store_from(args: Arguments) -> ObjectStore:
    """Open the store that the command line names."""
    from barman_cloud.store.open import open_store
    from barman_cloud.store.options import StoreOptions

    given = {name: getattr(args, name) for name in StoreOptions._fields if getattr(args, name, None) is not None}
    environ: Mapping[str, str] = os.environ
    if args.server is not None:
        from barman_cloud.config.repository import environment_of

        environ = environment_of(args.server)
    store = open_store(url_from(args), args.cloud_provider, StoreOptions(**given), environ)
    if logs.enabled(logs.DEBUG):
        from barman_cloud.store.traced import TracedStore

        return TracedStore(store)
    return store


def repository_from(args: Arguments) -> Repository:
    """Open the repository that the command line names: its store, and its server."""
    from barman_cloud.api import Repository

    return Repository(store_from(args), args.server_name)


def url_from(args: Arguments) -> str:
    """Return the URL positional, whatever the command calls it."""
    url: str = getattr(args, args.url_argument)
    return url


def spool_key(args: Arguments) -> tuple[str, ...]:
    """Return what of the command line decides which store and server a spool belongs to."""
    return (
        args.cloud_provider or "",
        url_from(args).rstrip("/"),
        args.endpoint_url or "",
        args.aws_profile or "",
        args.server_name,
    )


def layout_from(args: Arguments, store: ObjectStore) -> Layout:
    """Return the key builder for this store's path and the server of the command line."""
    from barman_cloud.catalog.layout import Layout

    return Layout.of(store.url, args.server_name)


def layout_of(url: StoreURL, server: str) -> Layout:
    """Return the key builder for a URL that isn't opened; ``UsageError`` for a name that can't be a key."""
    from barman_cloud.catalog.layout import Layout

    return Layout.of(url, server)


def writes_unicode() -> bool:
    """Whether standard output can show more than ASCII."""
    import sys

    return sys.stdout is not None and (sys.stdout.encoding or "ascii").lower().replace("-", "").startswith("utf")
