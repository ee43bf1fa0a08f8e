"""Uploads in blocks to Azure (Blob service REST API: Put Block, Put Block List)."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from barman_cloud.store.base import PendingUpload
from barman_cloud.store.bucket_api import Attributes, UploadsPage
from barman_cloud.store.failures import RequestFailedError, unreadable
from barman_cloud.store.integrity import AlteredError, md5_of
from barman_cloud.store.xml import parse

if TYPE_CHECKING:
    from barman_cloud.store.azure.api import AzureApi
    from barman_cloud.store.bucket_api import Part


class AzureParts:
    """The requests of one upload. Azure knows no uploads, only blocks of a blob, which vanish if nobody lists them."""

    def __init__(self, api: AzureApi) -> None:
        self._api = api
        self._attributes: dict[str, Attributes] = {}

    def begin(self, key: str, attributes: Attributes) -> str:
        """Return a beginning for the names of blocks that no other upload to this key has."""
        upload = os.urandom(8).hex()
        self._attributes[upload] = attributes
        return upload

    def put_part(self, key: str, upload: str, part: Part) -> str:
        name = base64.b64encode(f"{upload}-{part.number:06}".encode()).decode()
        md5 = base64.b64encode(bytes.fromhex(md5_of(part.pieces))).decode()
        query = {"comp": "block", "blockid": name}
        headers = {**self._api.scope_headers(), "content-md5": md5}
        answer = self._api.send("PUT", key, query, headers, part.pieces, status=201)
        if answer.headers.get("content-md5", md5) != md5:
            raise AlteredError(f"block {part.number} of {key}")
        return name

    def complete(self, key: str, upload: str, parts: Sequence[str]) -> None:
        blocks = "".join(f"<Latest>{name}</Latest>" for name in parts)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()
        headers = {"content-type": "application/xml", **self._api.write_headers(self._attributes[upload])}
        self._api.send("PUT", key, {"comp": "blocklist"}, headers, body, status=201)

    def abort(self, key: str, upload: str) -> None:
        """Leave the blocks to the service, which drops them after a week, or with the next blob of this name."""

    def unfinished(self, prefix: str, marker: tuple[str, str] | None) -> UploadsPage:
        """Return a page of blobs of which there are only blocks; ``AzureStore`` tells them from empty ones."""
        page = self._api.list_uncommitted(prefix, marker[0] if marker else None)
        found = (PendingUpload(info.key, "", info.last_modified) for info in page.objects if info.size == 0)
        return UploadsPage(tuple(found), (page.token, "") if page.token else None)

    def stored(self, key: str, upload: str, marker: str) -> tuple[int, str]:
        """Return the bytes of the blocks (REST API: Get Block List), all at once."""
        what = "a list of blocks"
        answer = self._api.send("GET", key, {"comp": "blocklist", "blocklisttype": "uncommitted"}, {}, status=200)
        blocks = parse(answer.body, "BlockList", what).first("UncommittedBlocks")
        try:
            return sum(int(block.text("Size")) for block in blocks.elements("Block")) if blocks else 0, ""
        except ValueError as error:
            raise RequestFailedError(unreadable(what, answer.body)) from error

    def drop(self, key: str) -> None:
        """Drop the blocks of a blob that isn't there: an empty list of blocks makes it, and then it is deleted.

        What is stored under the key meanwhile stays: the first request makes nothing where something is.
        """
        headers = {"content-type": "application/xml", "if-none-match": "*", **self._api.write_headers(Attributes())}
        body = b'<?xml version="1.0" encoding="utf-8"?><BlockList></BlockList>'
        answer = self._api.send("PUT", key, {"comp": "blocklist"}, headers, body, status=201)
        etag = answer.headers.get("etag")
        self._api.send("DELETE", key, {}, {"if-match": etag} if etag else {}, status=202)
