"""``barman-cloud setup``: print what an administrator puts in place; nothing is applied, and nothing is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations

PARTS = ("policy", "roles", "keys", "postgresql.conf", "timers")


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "destination_url")
    parser.add_argument("--part", action="append", choices=PARTS, help="print this part only; repeatable")
    parser.add_argument("--role", default="barman_cloud", help="role in PostgreSQL that takes backups")
    parser.add_argument(
        "--os-user", default="postgres", metavar="USER", help="who PostgreSQL runs as (default postgres)"
    )
    parser.add_argument(
        "--service",
        default="postgresql",
        help="systemd's name of the server (default postgresql; Debian: postgresql@17-main)",
    )
    parser.add_argument(
        "--postgresql",
        type=values.positive,
        default=17,
        metavar="MAJOR",
        help="major version of the server (default 17)",
    )
    parser.add_argument("--streamed", action="store_true", help="for backups over a replication connection")
    parser.add_argument(
        "-r",
        "--retention-policy",
        default="RECOVERY WINDOW OF 14 DAYS",
        help="what the nightly timer keeps (default RECOVERY WINDOW OF 14 DAYS)",
    )


def run(args: Arguments) -> int | None:
    from barman_cloud.catalog.retention import parse_policy
    from barman_cloud.doctor.machine import own_program
    from barman_cloud.doctor.setup import SetUp, write
    from barman_cloud.report import terminal
    from barman_cloud.store.url import provider_of

    parse_policy(args.retention_policy)
    provider = provider_of(args.destination_url, args.cloud_provider)
    url = provider.parse(args.destination_url)
    options.layout_of(url, args.server_name)
    plan = SetUp(
        url,
        args.server_name,
        own_program("barman-cloud"),
        role=args.role,
        user=args.os_user,
        service=args.service,
        major=args.postgresql,
        streamed=args.streamed,
        options=_store_options(args),
        retention=args.retention_policy,
    )
    terminal.write(f"{write(plan, tuple(args.part or ()))}\n")
    return 0


def _store_options(args: Arguments) -> tuple[str, ...]:
    """Return the options of the line that say which store it is."""
    given = (
        ("--cloud-provider", args.cloud_provider),
        ("--endpoint-url", args.endpoint_url),
        ("--aws-profile", args.aws_profile),
        ("--addressing-style", args.addressing_style),
        ("--azure-credential", args.azure_credential),
    )
    return tuple(word for flag, value in given if value for word in (flag, value))


COMMAND = Command("setup", add_arguments, run)
