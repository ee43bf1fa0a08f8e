import os
from array import array
from pathlib import Path

import pytest

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.tar import Member
from barman_cloud.backup import members
from barman_cloud.backup.members import PlannedMembers, read_file
from barman_cloud.backup.pack import ArchivePlan, member_size
from barman_cloud.backup.scan import FileRun
from barman_cloud.incremental.file_format import Header, read_header
from barman_cloud.incremental.increment import Pages

Logged = list[tuple[str, int, float, int]]


def plan(root: Path, *names: str, base: str = "data", directory: str = "base/1") -> ArchivePlan:
    sizes = [(root / directory / name).stat().st_size if (root / directory / name).exists() else 0 for name in names]
    return ArchivePlan(base, str(root), 0, runs=[FileRun(directory, list(names), array("Q", sizes))])


def collect(planned: PlannedMembers) -> list[tuple[Member, bytes]]:
    return [(member, b"".join(map(bytes, content))) for member, content in planned]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "base/1").mkdir(parents=True)
    return tmp_path


def test_files_are_read_described_and_logged(root: Path) -> None:
    content = os.urandom(3 * members.BLOCK + 17)
    (root / "base/1/112").write_bytes(content)
    (root / "base/1/112").chmod(0o640)
    os.utime(root / "base/1/112", (1, 1_700_000_000.25))
    logged: Logged = []
    ((member, read),) = collect(PlannedMembers(plan(root, "112"), 1 << 40, lambda *entry: logged.append(entry)))
    assert read == content
    assert (member.name, member.kind, member.mode, member.size) == ("base/1/112", "file", 0o640, len(content))
    assert (member.uid, member.gid, member.mtime) == (os.geteuid(), os.getegid(), 1_700_000_000.25)
    assert logged == [("base/1/112", len(content), 1_700_000_000.25, crc32c(content))]


def test_files_at_the_root_are_named_as_barman_names_them(root: Path) -> None:
    (root / "PG_VERSION").write_bytes(b"18\n")
    logged: Logged = []
    ((member, _),) = collect(
        PlannedMembers(plan(root, "PG_VERSION", directory=""), 1 << 40, lambda *entry: logged.append(entry))
    )
    assert member.name == "./PG_VERSION"
    assert logged[0][0] == "PG_VERSION"


def test_files_of_tablespaces_are_logged_where_they_are_restored(root: Path) -> None:
    (root / "base/1/5").write_bytes(b"")
    logged: Logged = []
    collect(PlannedMembers(plan(root, "5", base="16384"), 1 << 40, lambda *entry: logged.append(entry)))
    assert logged[0][0] == "pg_tblspc/16384/base/1/5"


def test_what_vanished_or_became_something_else_is_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("1", "2", "3", "4"):
        (root / "base/1" / name).write_bytes(b"x")
    planned = plan(root, "1", "2", "3", "4", "never")
    (root / "base/1/1").unlink()
    (root / "base/1/2").unlink()
    (root / "base/1/2").mkdir()
    (root / "base/1/3").unlink()
    (root / "base/1/3").symlink_to("4")
    assert [member.name for member, _ in collect(PlannedMembers(planned, 1 << 40, lambda *_: None))] == ["base/1/4"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"{root}/base/1/{name} is no longer a file and is left out" for name in ("2", "3")
    ]


def test_a_linked_file_is_stored_as_a_file(root: Path) -> None:
    (root / "elsewhere").write_bytes(b"content")
    (root / "base/1/5").symlink_to(root / "elsewhere")
    run = FileRun("base/1", ["5"], array("Q", [7]), frozenset({"5"}))
    logged: Logged = []
    planned = PlannedMembers(
        ArchivePlan("data", str(root), 0, runs=[run]), 1 << 40, lambda *entry: logged.append(entry)
    )
    ((member, content),) = collect(planned)
    assert (member.name, member.kind, member.size, content) == ("base/1/5", "file", 7, b"content")
    assert logged[0][3] == crc32c(b"content")


@pytest.mark.parametrize("target", ["/dev/zero", "fifo", "/nonexistent", "directory"])
def test_a_link_that_leads_elsewhere_since_the_scan_is_left_out(root: Path, target: str) -> None:
    os.mkfifo(root / "fifo")
    (root / "directory").mkdir()
    (root / "base/1/5").symlink_to(root / target if "/" not in target else target)
    run = FileRun("base/1", ["5"], array("Q", [7]), frozenset({"5"}))
    assert collect(PlannedMembers(ArchivePlan("data", str(root), 0, runs=[run]), 1 << 40, lambda *_: None)) == []


def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(root: Path) -> None:
    (root / "base/1/1").write_bytes(b"x")
    planned = plan(root, "1")
    (root / "base/1/1").unlink()
    os.mkfifo(root / "base/1/1")
    assert collect(PlannedMembers(planned, 1 << 40, lambda *_: None)) == []


def test_a_file_that_cannot_be_read_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "base/1/1").write_bytes(b"x")

    def refuse(path: str, *_: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        collect(PlannedMembers(plan(root, "1"), 1 << 40, lambda *_: None))


@pytest.mark.parametrize("size", [0, 1, 70_000, members.BLOCK, 2 * members.BLOCK + 5])
@pytest.mark.parametrize("real", [0, 1, 70_000, members.BLOCK, 2 * members.BLOCK + 5])
def test_a_file_is_as_long_as_its_header_said(tmp_path: Path, size: int, real: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * real)
    with path.open("rb") as file:
        data = b"".join(map(bytes, read_file(file.fileno(), size)))
    assert data == (b"x" * real)[:size].ljust(size, b"\0")


def test_directories_and_links_come_first(root: Path) -> None:
    (root / "base/1/1").write_bytes(b"x")
    (root / "base/link").symlink_to("/nonexistent")
    (root / "pipe").touch()
    (root / "pipe").unlink()
    os.mkfifo(root / "pipe")
    (root / "wal").mkdir(mode=0o750)
    (root / "pg_wal").symlink_to("wal")
    planned = ArchivePlan(
        "data", str(root), 0, ["", "base", "pg_wal", "gone"], ["base/link", "pipe", "missing"], plan(root, "1").runs
    )
    found = [(member.name, member.kind, member.linkname) for member, _ in collect(PlannedMembers(planned, 1, print))]
    assert found == [
        (".", "directory", ""),
        ("base", "directory", ""),
        ("pg_wal", "directory", ""),
        ("base/link", "symlink", "/nonexistent"),
        ("./pipe", "fifo", ""),
        ("base/1/1", "file", ""),
    ]


def test_an_archive_ends_before_the_file_that_does_not_fit(root: Path) -> None:
    for name in ("1", "2", "3", "4"):
        (root / "base/1" / name).write_bytes(b"")
    planned = plan(root, "1", "2", "3", "4")
    (root / "base/1/2").write_bytes(b"x" * 10_000)
    first = PlannedMembers(planned, 2 * member_size(0), lambda *_: None)
    assert [member.name for member, _ in collect(first)] == ["base/1/1"]
    assert first.rest is not None
    # A file that is too large even alone is still archived.
    second = PlannedMembers(first.rest, 2 * member_size(0), lambda *_: None)
    assert [member.name for member, _ in collect(second)] == ["base/1/2"]
    assert second.rest is not None
    third = PlannedMembers(second.rest, 2 * member_size(0), lambda *_: None)
    assert [member.name for member, _ in collect(third)] == ["base/1/3", "base/1/4"]
    assert third.rest is None


class Everything:
    """An increment of which these blocks of every relation file changed."""

    def __init__(self, *blocks: int) -> None:
        self._blocks = blocks

    def header(self, path: str, size: int, pages: Pages) -> Header | None:
        if not path.rpartition("/")[2].isdigit():
            return None
        assert sum(map(len, pages())) == size
        return Header(self._blocks, size // 8192)


def test_changed_blocks_stand_for_a_file(root: Path) -> None:
    pages = [bytes([number % 251]) * 8192 for number in range(300)]
    (root / "base/1/5").write_bytes(b"".join(pages))
    (root / "base/1/PG_VERSION").write_bytes(b"18\n")
    logged: Logged = []
    planned = PlannedMembers(
        plan(root, "5", "PG_VERSION", base="16384"),
        1 << 40,
        lambda *entry: logged.append(entry),
        increment=Everything(1, 2, *range(100, 250)),
    )
    (changed, content), (whole, version) = collect(planned)
    header, rest = read_header(iter([content]), len(content), "test")
    assert [changed.name, whole.name, version] == ["base/1/INCREMENTAL.5", "base/1/PG_VERSION", b"18\n"]
    assert (changed.size, list(header.blocks), header.truncation) == (len(content), [1, 2, *range(100, 250)], 300)
    assert rest == b"".join(pages[block] for block in header.blocks)
    assert logged[0] == ("pg_tblspc/16384/base/1/INCREMENTAL.5", len(content), changed.mtime, crc32c(content))


def test_blocks_that_were_cut_off_since_are_zeros(root: Path) -> None:
    path = root / "base/1/5"
    path.write_bytes(b"x" * 8192 * 4)
    members = iter(PlannedMembers(plan(root, "5"), 1 << 40, lambda *_: None, increment=Everything(0, 1, 3)))
    member, content = next(members)
    os.truncate(path, 8192)
    data = b"".join(map(bytes, content))
    assert len(data) == member.size
    assert data[-3 * 8192 :] == b"x" * 8192 + bytes(2 * 8192)
