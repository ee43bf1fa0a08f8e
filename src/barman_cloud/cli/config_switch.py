"""``barman-cloud config-switch``: lay a model of the configuration over a server, or take it off."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options
from barman_cloud.cli.command import Command
from barman_cloud.errors import UsageError

if TYPE_CHECKING:
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.config.server import Server
    from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


def add_arguments(parser: Declarations) -> None:
    options.add_configured(parser)
    parser.add_argument("server_name", help="a server of the configuration")
    parser.add_argument("model_name", nargs="?", help="the model; not with --reset")
    parser.extra_positional = "model_name"
    parser.add_argument("--reset", action="store_true", help="take the model off")


def validate(args: Arguments) -> None:
    if args.reset and args.model_name is not None:
        raise UsageError("--reset and a model exclude each other", hint="leave one of them out")
    if not args.reset and args.model_name is None:
        raise UsageError("no model is named", hint="give its name, or --reset to take the active one off")


def run(args: Arguments) -> None:
    from barman_cloud.report.terminal import write

    write("".join(f"{line}\n" for line in switch(args.configuration_file, args.server_name, args.model_name)))


def switch(file: str | None, name: str, model: str | None) -> list[str]:
    """Make ``model`` the active one of a server for all hosts (None: none), and return lines about what has changed.

    A receiver of this machine is ended, so that the next pass of ``cron`` starts it with the new values.
    ``ConfigurationError`` if there is no such server or model, or if the model is of another cluster.
    """
    from barman_cloud.config.reader import load
    from barman_cloud.config.repository import open_wal_store
    from barman_cloud.config.user import act_as_user
    from barman_cloud.schedule import active_model

    configuration = load(file)
    act_as_user(configuration.common)
    server = configuration.server(name)
    after = configuration.server(name, model)
    store, layout = open_wal_store(server)
    with store:
        active = active_model.active_model(store, layout, server)
        before = configuration.server(name, active) if active in configuration.models else server
        if active == model:
            return [f"{name}: nothing to do, " + (f"model {model} is active" if model else "no model is active")]
        active_model.apply(store, layout, model)
        lines = [f"{name}: model {model} is active now" if model else f"{name}: model {active} is taken off"]
        lines += _differences(before, after)
        if before.values != after.values:
            lines += _end_receiver(store, layout, name)
    return lines


def _differences(before: Server, after: Server) -> list[str]:
    from barman_cloud.config.table import KEYS

    return [
        f"  {key}: (changed)" if KEYS[key].secret else f"  {key}: {_shown(before[key])} -> {_shown(after[key])}"
        for key in KEYS
        if before[key] != after[key]
    ]


def _shown(value: object) -> str:
    return "(none)" if value is None else str(value)


def _end_receiver(store: ObjectStore, layout: Layout, name: str) -> list[str]:
    from barman_cloud.schedule.lease import Owner
    from barman_cloud.schedule.receivers import receiver_of

    holding = receiver_of(store, layout)
    if holding is None:
        return []
    owner, here = holding.owner, Owner.this_process()
    if (owner.host, owner.boot) == (here.host, here.boot) and here.boot and not owner.is_gone():
        try:
            os.kill(owner.pid, signal.SIGTERM)
        except OSError as error:
            log.warning("the receiver of %s (%s) can't be ended: %s", name, owner, error.strerror)
        else:
            return [f"{name}: the receiver of WAL is ended; the next pass of cron starts it again"]
    return [f"{name}: end the receiver of WAL yourself, so that it starts with the new values: {owner}"]


COMMAND = Command("config-switch", add_arguments, run, validate, configured=True)
