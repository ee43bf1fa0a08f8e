"""Answers about one object, and what shows that they are that: a login page or a load balancer says 200 as well."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from barman_cloud.store.base import ObjectInfo
from barman_cloud.store.failures import RequestFailedError, not_an_object, unreadable

if TYPE_CHECKING:
    from barman_cloud.store.http import Response


def object_headers(answer: Response) -> Mapping[str, str]:
    """Return the headers of an answer about an object; raise ``RequestFailedError`` if they aren't an object's.

    Every store sends an ETag, and none a page of HTML, as which nobody stores our objects.
    """
    headers = answer.headers
    html = headers.get("content-type", "").startswith("text/html")
    if html or not headers.get("etag") or not headers.get("content-length", "0").isdigit():
        raise not_an_object("HTML" if html else "headers without an ETag")
    return headers


def object_in(answer: Response) -> bytes:
    """Return the object in an answer; raise ``RequestFailedError`` if its headers aren't an object's."""
    object_headers(answer)
    return answer.body


def object_info(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    """Return what the headers of an answer to a HEAD tell."""
    modified = headers.get("last-modified")
    return ObjectInfo(
        key,
        int(headers.get("content-length", 0)),
        headers.get("etag"),
        parsedate_to_datetime(modified) if modified else None,
    )


def cut_range(answer: Response, start: int, end: int) -> tuple[memoryview, int, str | None]:
    """Return bytes, whole size and ETag from the answer to a range request, also from a server that sent everything."""
    body = memoryview(object_in(answer))
    _, slash, size = answer.headers.get("content-range", "").rpartition("/")
    if slash and size.isdigit():
        return body, int(size), answer.headers.get("etag")
    return body[start:end], body.nbytes, answer.headers.get("etag")


def etag_of(answer: Response, what: str) -> str:
    """Return the ETag in the answer to ``what`` was stored; without one nothing is acknowledged."""
    etag = answer.headers.get("etag")
    if not etag:
        raise RequestFailedError(unreadable(f"one to {what}", answer.body))
    return etag
