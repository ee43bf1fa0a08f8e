"""The small text files of a WAL archive: timeline history files, and the backup labels that ``.backup`` files are.

PostgreSQL writes both itself, so that one which doesn't follow its grammar was cut, emptied, or replaced by something
else, such as the page of a proxy.
"""

from __future__ import annotations

import re

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.timeline import parse_history
from barman_cloud.postgres.wal import WalName

_LABEL = re.compile(rb"START WAL LOCATION: [0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}\s")


def check_history(content: bytes, name: WalName) -> None:
    """Check a timeline history file; ``IntegrityError`` if it isn't one, or isn't complete.

    PostgreSQL ends each of its lines, and its reader takes one that was cut short for another LSN.
    """
    parse_history(content, name.timeline)
    if not content.endswith(b"\n"):
        raise IntegrityError(f"{name.text} is cut off: its last line doesn't end")


def check_backup_label(content: bytes, name: WalName) -> None:
    """Check that a ``.backup`` file begins as a backup label does; ``IntegrityError`` if it doesn't."""
    if not _LABEL.match(content):
        start = content[:40].decode("latin-1")
        raise IntegrityError(f"{name.text} is not a backup label: it begins with {start!r}")
