"""Barman's commands that mean nothing here: each says in one line what does its job."""

from __future__ import annotations

from argparse import REMAINDER
from typing import TYPE_CHECKING

from barman_cloud.errors import OperationError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from barman_cloud.cli.server.session import Session


def _anything(parser: ArgumentParser) -> None:
    parser.add_argument("words", nargs=REMAINDER)


def _refuse(message: str, hint: str) -> Callable[[Session, Namespace], None]:
    def refuse(session: Session, args: Namespace) -> None:
        server = next((word for word in args.words if not word.startswith("-")), None)
        if server is not None and message.startswith("server"):
            session.server(server)
        raise OperationError(message.format(server=server), hint=hint)

    return refuse


_PASSIVE = _refuse(
    "server {server} is not passive", "there are no passive nodes: another host uses the same configuration and bucket"
)
_EXPORT = _refuse(
    "backups are not exported to a file", "restore the backup, or copy the objects that list-files --target full names"
)
_IMPORT = _refuse("backups are not imported from a file", "copy its objects into the bucket")
_UPDATE = _refuse("config-update isn't supported", "edit the configuration; config-switch changes values for a while")

sync_info_arguments = sync_backup_arguments = sync_wals_arguments = _anything
export_backup_arguments = import_backup_arguments = config_update_arguments = _anything
lock_directory_cleanup_arguments = _anything
sync_info = sync_backup = sync_wals = _PASSIVE
export_backup = _EXPORT
import_backup = _IMPORT
config_update = _UPDATE


def lock_directory_cleanup(session: Session, args: Namespace) -> None:
    """Do nothing: a lock file that nobody holds is harmless."""
