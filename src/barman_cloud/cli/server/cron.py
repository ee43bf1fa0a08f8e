"""``cron``: start what is due, and return."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import Session


def cron_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--keep-descriptors", action="store_true", help="no effect")


def cron(session: Session, _args: Namespace) -> None:
    """Start what is due for every active server. A server that can't be looked at is warned of: the next pass asks."""
    from barman_cloud.cli.cron import lines_as_barman, start_due
    from barman_cloud.schedule.maintain import active_names

    done = start_due(session.configuration, active_names(session.configuration))
    if done is None:
        session.output.info("Another cron process is already running on this machine")
        return
    for look in done.looks:
        if look.error:
            session.output.warning(f"{look.server}: {look.error}")
    for line in lines_as_barman(done):
        session.output.info(line)
