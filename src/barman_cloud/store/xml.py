"""Just enough XML for the answers of object stores.

Their documents are flat and regular, written by machines; a general parser would only cost time at every start.
"""

from __future__ import annotations

import html


def elements(text: str, name: str) -> list[str]:
    """Return the inner text of every element ``name`` without attributes, as it stands."""
    return [piece.partition(f"</{name}>")[0] for piece in text.split(f"<{name}>")[1:]]


def text_of(text: str, name: str) -> str:
    """Return the unescaped content of the first element ``name``, or an empty string."""
    _, found, rest = text.partition(f"<{name}>")
    content = rest.partition(f"</{name}>")[0] if found else ""
    return html.unescape(content) if "&" in content else content


def escape(text: str) -> str:
    """Escape text for an element; control characters become references, which XML 1.0 parsers of stores do take."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(c if c.isprintable() or ord(c) > 127 else f"&#{ord(c)};" for c in escaped)
