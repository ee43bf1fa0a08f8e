"""The small text files of a WAL archive: timeline history files, and the backup labels that ``.backup`` files are.

PostgreSQL writes both itself, so that one which doesn't follow its grammar was cut, emptied, or replaced by something
else, such as the page of a proxy.
"""

from __future__ import annotations

import re

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.wal import WalName

_SWITCH = re.compile(rb"(\d+)\s+([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})(?:\s|\Z)")
_LABEL = re.compile(rb"START WAL LOCATION: [0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}\s")


def check_history(content: bytes, name: WalName) -> None:
    """Check a timeline history file; ``IntegrityError`` if it isn't one, or isn't complete.

    Every line but comments and empty ones says where a timeline was left: its number, an LSN and a reason. The numbers
    grow and stay below that of the file (``readTimeLineHistory`` in PostgreSQL's ``access/transam/timeline.c``).
    """
    last = 0
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        match = _SWITCH.match(text)
        timeline = int(match[1]) if match else 0
        if not last < timeline < name.timeline:
            raise IntegrityError(f"{name.text} is not a timeline history file: line {number} is {_excerpt(text)}")
        last = timeline
    if last == 0:
        raise IntegrityError(f"{name.text} is not a timeline history file: it names no timeline")
    if not content.endswith(b"\n"):
        raise IntegrityError(f"{name.text} is cut off: its last line doesn't end")


def check_backup_label(content: bytes, name: WalName) -> None:
    """Check that a ``.backup`` file begins as a backup label does; ``IntegrityError`` if it doesn't."""
    if not _LABEL.match(content):
        raise IntegrityError(f"{name.text} is not a backup label: it begins with {_excerpt(content)}")


def _excerpt(text: bytes) -> str:
    return repr(text[:40].decode("latin-1"))
