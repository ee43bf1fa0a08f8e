"""What obstore can't do, and what it doesn't look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from barman_cloud.store.base import ObjectInfo
from barman_cloud.store.failures import Failure, RequestFailedError


def obstore_can_name(key: str) -> bool:
    """Tell whether obstore keeps the key as it is: it refuses or changes empty and dotted segments and control
    characters.
    """
    segments = key.split("/")
    return not ("" in segments or "." in segments or ".." in segments) and key.isprintable()


def head_by(client: Any, key: str) -> ObjectInfo:
    """Ask for an object by a HEAD of this client, as ``obstore.head`` does, and look at what answered."""
    import obstore

    result = obstore.get(client, key, options={"head": True})
    refuse_html(result.attributes)
    return ObjectInfo(key, result.meta["size"], result.meta["e_tag"], result.meta["last_modified"])


def refuse_html(attributes: Mapping[Any, Any]) -> None:
    """Raise for an object that came as a page of HTML, as from a login page: no client stores ours as such."""
    kind = attributes.get("Content-Type") or ""
    if kind.startswith("text/html"):
        raise RequestFailedError(Failure(200, message="the answer isn't an object, but HTML", unreadable=True))
