"""``config-switch``: lay a model over a server, or take it off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud.cli.server.session import add_server, unknown_server
from barman_cloud.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import Session


def config_switch_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("model_name", nargs="?", help="a model of the configuration")
    one.add_argument("--reset", action="store_true", help="take the active model off")


def config_switch(session: Session, args: Namespace) -> None:
    """Switch without looking at the active model first: it may be one that is gone, which ``--reset`` takes off."""
    from barman_cloud.cli.config_switch import switch

    configuration, name, model = session.configuration, args.server_name, args.model_name
    if name not in configuration.sections:
        raise unknown_server(name, configuration.names)
    if model is None and not args.reset:
        raise UsageError("Either a model name or '--reset' flag need to be given")
    if model is not None and model not in configuration.models:
        known = ", ".join(configuration.models) or "no models"
        raise NotFoundError(f"Unknown model '{model}'", hint=f"{configuration.file} has {known}")
    lines = switch(configuration.file, name, model)
    if model is not None:
        session.output.info(f"Applying model '{model}' to server '{name}'")
    for line in lines:
        session.output.info(line)
