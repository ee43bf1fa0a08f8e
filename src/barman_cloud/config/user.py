"""``barman_user``: whose files the local state is."""

from __future__ import annotations

import os
import pwd

from barman_cloud.config.server import Server
from barman_cloud.errors import ConfigurationError


def act_as_user(common: Server) -> None:
    """Be ``barman_user`` for what may write local state: files of another one would lock it out.

    Root becomes that user, as with Barman. ``ConfigurationError`` for everybody else, and if there is no such user.
    """
    wanted = common["barman_user"]
    if wanted is None:
        return
    place = common.places["barman_user"]
    try:
        user = pwd.getpwnam(wanted)
    except KeyError:
        raise ConfigurationError(
            f"{place}: barman_user is '{wanted}', and there is no such user", hint="create it, or change barman_user"
        ) from None
    if os.geteuid() == user.pw_uid:
        return
    if os.geteuid() != 0:
        raise ConfigurationError(
            f"{place}: barman_user is '{wanted}', and this runs as '{_own_name()}'",
            hint=f"run it as {wanted} (sudo -u {wanted} …), or change barman_user",
        )
    try:
        os.initgroups(wanted, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except OSError as error:
        raise ConfigurationError(
            f"{place}: this process can't become barman_user '{wanted}': {error.strerror}", hint=f"run it as {wanted}"
        ) from None
    # Where credentials and .pgpass are looked for, and what a peer is told.
    os.environ.update(HOME=user.pw_dir, USER=wanted, LOGNAME=wanted)


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
