"""JSON on stdout: one document, one line, ASCII."""

from __future__ import annotations

import json
from typing import Any


def document(value: Any) -> str:
    """Return ``value`` as one line of ASCII JSON that ends in a newline."""
    return f"{json.dumps(value, ensure_ascii=True)}\n"
