"""A whole tar archive as a stream, made of its members while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.tar import Member, end_of_archive, member_header, padding


class TarStream:
    """The bytes of a tar archive, from its members and the blocks of their content.

    ``check`` is called before every block; what it raises ends the archive.
    """

    def __init__(self, members: Iterable[tuple[Member, Iterable[Buffer]]], check: Callable[[], None]) -> None:
        self._members = members
        self._check = check
        self.count = 0
        """Members so far."""
        self.size = 0
        """Bytes so far."""

    def __iter__(self) -> Iterator[Buffer]:
        check = self._check
        for member, content in self._members:
            check()
            self.count += 1
            header = member_header(member)
            filling = padding(member.size)
            self.size += len(header)
            yield header
            for block in content:
                check()
                self.size += len(block)
                yield block
            if filling:
                self.size += len(filling)
                yield filling
        check()
        end = end_of_archive(self.size)
        self.size += len(end)
        yield end
