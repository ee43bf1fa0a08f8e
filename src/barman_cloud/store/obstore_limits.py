"""What obstore can't do, and what it doesn't look at."""

from __future__ import annotations

from typing import Any

from barman_cloud.store.base import ObjectInfo
from barman_cloud.store.failures import not_an_object


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
    require_object(result)
    return ObjectInfo(key, result.meta["size"], result.meta["e_tag"], result.meta["last_modified"])


def require_object(result: Any) -> None:
    """Raise for an answer that isn't about an object: a page of HTML, as from a login page, or one without an ETag.

    No client stores ours as HTML, and every store sends an ETag, which obstore itself insists on for all but S3. An
    empty answer of something on the way would count as an empty object otherwise.
    """
    if (result.attributes.get("Content-Type") or "").startswith("text/html"):
        raise not_an_object("HTML")
    if not result.meta["e_tag"]:
        raise not_an_object("headers without an ETag")
