"""``barman_user``: whose files the local state is."""

from __future__ import annotations

import os
import pwd

from barman_cloud.config.server import Server
from barman_cloud.errors import ConfigurationError


def require_user(common: Server) -> None:
    """Refuse another user than ``barman_user`` for what writes local state: its files would lock that one out.

    Commands that only touch the bucket don't ask. ``ConfigurationError`` names both users.
    """
    wanted = common["barman_user"]
    if wanted is None:
        return
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    if name != wanted:
        raise ConfigurationError(
            f"{common.places['barman_user']}: barman_user is '{wanted}', and this runs as '{name}'",
            hint=f"run it as {wanted} (sudo -u {wanted} …), or change barman_user",
        )
