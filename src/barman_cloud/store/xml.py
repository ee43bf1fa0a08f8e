"""XML answers of object stores, read by the standard library's parser."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from barman_cloud.store.failures import RequestFailedError, unreadable


class Document:
    """A complete and well-formed document, or an element of one. Namespaces are left out of names."""

    def __init__(self, element: ElementTree.Element) -> None:
        self._element = element

    def elements(self, name: str) -> Iterator[Document]:
        """Yield the children ``name``, as they follow one another."""
        return (Document(child) for child in self._element if _local(child.tag) == name)

    def first(self, *path: str) -> Document | None:
        """Return the first element at ``path`` below this one."""
        found: Document | None = self
        for name in path:
            found = next(found.elements(name), None) if found is not None else None
        return found

    def text(self, *path: str) -> str:
        """Return the text of the first element at ``path``, or an empty string."""
        found = self.first(*path)
        return "" if found is None else found._element.text or ""

    def attribute(self, name: str) -> str:
        return self._element.get(name, "")

    def fields(self) -> dict[str, str]:
        """Return the texts of all children by their names; for the thousands of entries of a listing."""
        return {_local(child.tag): child.text or "" for child in self._element}


def parse(body: bytes, root: str | tuple[str, ...], what: str) -> Document:
    """Parse an answer whose root element is ``root``, or one of these; ``what`` says in an error what it should be.

    Raises ``RequestFailedError`` for anything else: no XML, a document that is cut off, another document. A document
    type definition is refused, because no store sends one and entities can be made to grow without end.
    """
    try:
        if b"<!DOCTYPE" in body:
            raise RequestFailedError(unreadable(what, body))
        element = ElementTree.fromstring(body)  # noqa: S314 - without a DTD there are no entities to expand
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise RequestFailedError(unreadable(what, body)) from error
    if _local(element.tag) not in ((root,) if isinstance(root, str) else root):
        raise RequestFailedError(unreadable(what, body))
    return Document(element)


def escape(text: str) -> str:
    """Escape text for an element; control characters become references, which XML 1.0 parsers of stores do take."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(c if c.isprintable() or ord(c) > 127 else f"&#{ord(c)};" for c in escaped)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
