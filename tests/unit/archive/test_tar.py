from __future__ import annotations

import contextlib
import io
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.tar import Member, end_of_archive, member_header, padding, read_members
from barman_cloud.errors import IntegrityError

FLAGS = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
}
USUAL = Member("base/5/16384", "file", 0o600, 101, 104, "postgres", "postgres", 8192, 1795349346.606751)

names = st.one_of(
    st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=40).filter(
        lambda name: name not in (".", "..")
    ),
    st.text("abc_.0", min_size=90, max_size=170).map(lambda name: "x" + name),
    st.binary(min_size=1, max_size=20)
    .filter(lambda name: b"\0" not in name and b"/" not in name)
    .map(lambda name: "b" + name.decode("utf-8", "surrogateescape")),
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
ids = st.one_of(st.integers(0, 70_000), st.integers(2_097_100, 2_097_200), st.integers(0, 2**32 - 2))
times = st.one_of(st.floats(1e9, 2e9), st.floats(0, 4e10), st.floats(-1e9, 0)).map(lambda time: round(time, 6))


@st.composite
def members(draw: st.DrawFn) -> Member:
    kind = draw(st.sampled_from(sorted(FLAGS)))
    link = draw(paths) if kind in ("symlink", "hardlink") else ""
    return Member(
        name=draw(paths),
        kind=kind,  # type: ignore[arg-type]
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(ids),
        gid=draw(ids),
        uname=draw(st.one_of(st.just("postgres"), names)),
        gname=draw(st.one_of(st.just(""), names)),
        size=draw(st.integers(0, 3000)) if kind == "file" else 0,
        mtime=draw(times),
        linkname=link,
    )


def content_of(member: Member) -> bytes:
    return random.Random(member.size).randbytes(member.size)


def archive(found: Iterable[Member]) -> bytes:
    pieces = []
    for member in found:
        pieces += [member_header(member), content_of(member), padding(member.size)]
    data = b"".join(pieces)
    return data + end_of_archive(len(data))


def cut(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def read_all(chunks: Iterable[Buffer]) -> list[tuple[Member, bytes]]:
    return [(member, b"".join(content)) for member, content in read_members(chunks)]


def as_member(info: tarfile.TarInfo) -> Member:
    kind = next(kind for kind, flag in FLAGS.items() if flag == info.type)
    return Member(
        info.name,
        kind,
        info.mode,
        info.uid,
        info.gid,
        info.uname,
        info.gname,
        info.size,
        info.mtime,
        info.linkname,  # type: ignore[arg-type]
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(members(), max_size=5), st.integers(1, 3000))
def test_what_we_write_is_read_by_us_and_by_tarfile(found: list[Member], size: int) -> None:
    data = archive(found)
    assert len(data) % 10240 == 0
    assert read_all(cut(data, size)) == [(member, content_of(member)) for member in found]
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        assert [as_member(info) for info in tar.getmembers()] == found
        for info, member in zip(tar.getmembers(), found, strict=True):
            if member.kind == "file":
                file = tar.extractfile(info)
                assert file is not None
                assert file.read() == content_of(member)


@pytest.mark.parametrize("dialect", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@settings(max_examples=60, deadline=None)
@given(found=st.lists(members(), max_size=5), size=st.integers(1, 3000))
def test_what_tarfile_writes_is_read(dialect: int, found: list[Member], size: int) -> None:
    buffer = io.BytesIO()
    expected = []
    with tarfile.open(fileobj=buffer, mode="w", format=dialect, errors="surrogateescape") as tar:
        for member in found:
            info = tarfile.TarInfo(member.name)
            info.type, info.mode, info.size, info.linkname = (
                FLAGS[member.kind],
                member.mode,
                member.size,
                member.linkname,
            )
            info.uid, info.gid, info.mtime = member.uid, member.gid, member.mtime
            if dialect != tarfile.PAX_FORMAT:
                info.mtime = abs(int(member.mtime)) % 8**11
            info.uname = info.gname = "postgres"
            try:
                info.tobuf(dialect, "utf-8", "surrogateescape")
            except ValueError:  # what ustar can't hold
                continue
            tar.addfile(info, io.BytesIO(content_of(member)))
            expected.append((as_member(info), content_of(member)))
    assert read_all(cut(buffer.getvalue(), size)) == expected


def test_the_usual_header_is_small_and_its_pax_record_holds_the_time() -> None:
    header = member_header(USUAL)
    assert len(header) == 3 * 512
    with tarfile.open(fileobj=io.BytesIO(header + bytes(8192) + end_of_archive())) as tar:
        assert tar.getmembers()[0].pax_headers == {"mtime": "1795349346.606751"}


def test_directories_carry_a_slash_in_the_archive_only() -> None:
    for name in (".", "pg_wal"):
        header = member_header(Member(name, "directory", 0o700, mtime=1795349346.5))
        assert f"{name}/".encode().ljust(100, b"\0") in header
        ((member, content),) = read_all([header + end_of_archive()])
        assert (member.name, member.kind, member.mode, content) == (name, "directory", 0o700, b"")


def test_sizes_beyond_octal_and_names_beyond_unicode() -> None:
    huge = Member("base/5/huge", size=9 << 30, mtime=1795349346.25)
    with tarfile.open(fileobj=io.BytesIO(member_header(huge)), errors="surrogateescape") as tar:
        info = tar.next()
        assert info is not None
        assert info.size == 9 << 30
    assert next(read_members([member_header(huge)]))[0] == huge
    odd = Member(b"caf\xe9".decode("utf-8", "surrogateescape"), mtime=1.5)
    assert b"hdrcharset=BINARY" in member_header(odd)
    assert read_all([archive([odd])]) == [(odd, b"")]


def test_content_may_be_left_unread_and_late_readers_get_nothing() -> None:
    found = [Member(f"f{n}", size=5000, mtime=1e9 + n) for n in range(4)]
    contents = []
    for number, (_member, content) in enumerate(read_members(cut(archive(found), 700))):
        contents.append(content)
        if number == 2:
            assert len(next(content)) > 0
    assert len(contents) == 4
    assert all(list(content) == [] for content in contents)


def test_chunks_inside_a_file_are_passed_on_uncopied() -> None:
    data = archive([Member("large", size=1 << 20, mtime=1e9)])
    chunks = list(cut(data, 64 << 10))
    _, content = next(read_members(chunks))
    pieces = list(content)
    assert pieces[1] is chunks[1]
    assert isinstance(pieces[0], memoryview)


@settings(max_examples=40, deadline=None)
@given(end=st.integers(0, 3 * (1536 + 1024)), size=st.integers(100, 2000))
def test_an_archive_that_was_cut_off_is_refused(end: int, size: int) -> None:
    data = archive([Member(f"f{n}", size=800, mtime=1e9) for n in range(3)])
    with pytest.raises(IntegrityError, match="ends too early"):
        read_all(cut(data[:end], size))


def test_what_follows_the_end_mark_is_read_to_its_end() -> None:
    """So that a compressed stream is checked to its last byte."""

    def chunks() -> Iterator[bytes]:
        yield archive([USUAL])
        yield b"anything"
        raise IntegrityError("the checksum at the end")

    with pytest.raises(IntegrityError, match="the checksum at the end"):
        read_all(chunks())


@pytest.mark.parametrize("position", [0, 100, 130, 150, 156, 200, 300])
def test_a_damaged_header_is_refused(position: int) -> None:
    data = bytearray(archive([USUAL]))
    data[1024 + position] ^= 0x04
    with pytest.raises(IntegrityError, match=r"s3://b/k: damaged archive"):
        list(read_members([bytes(data)], "s3://b/k"))


def with_checksum(header: bytearray, *, signed: bool = False) -> bytes:
    header[148:156] = b" " * 8
    total = sum(memoryview(header).cast("b")) if signed else sum(header)
    header[148:156] = b"%06o\0 " % total
    return bytes(header)


def old_header(name: bytes = b"old", **fields: tuple[int, bytes]) -> bytearray:
    header = bytearray(512)
    for start, value in [
        (0, name),
        (100, b"0000644\0"),
        (124, b"00000000005\0"),
        (136, b"17777777777\0"),
        *fields.values(),
    ]:
        header[start : start + len(value)] = value
    return header


def test_headers_of_old_programs() -> None:
    """No magic, flag NUL, directories told by their slash, checksums of signed characters."""
    tail = b"hello" + bytes(507) + bytes(1024)
    ((member, content),) = read_all([with_checksum(old_header()) + tail])
    assert (member.name, member.kind, content, member.mtime) == ("old", "file", b"hello", 2147483647)
    ((member, _),) = read_all([with_checksum(old_header("Gr\u00fc\u00dfe".encode()), signed=True) + tail])
    assert member.name == "Gr\u00fc\u00dfe"
    ((member, _),) = read_all([with_checksum(old_header(b"dir/", size=(124, b"00000000000\0"))) + bytes(1024)])
    assert (member.name, member.kind) == ("dir", "directory")


def test_base_256_numbers() -> None:
    fields = {
        "size": (124, b"\x80" + (5).to_bytes(11, "big")),
        "uid": (108, b"\x80" + (2**40).to_bytes(7, "big")),
        "mtime": (136, (-5).to_bytes(12, "big", signed=True)),
        "magic": (257, b"ustar  \0"),
    }
    ((member, content),) = read_all([with_checksum(old_header(**fields)) + b"hello" + bytes(507 + 1024)])
    assert (member.uid, member.mtime, content) == (2**40, -5, b"hello")


def test_global_headers_hold_for_all_members_that_follow() -> None:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uname": "shared", "comment": "x"}
    ) as tar:
        for name in ("a", "b"):
            tar.addfile(tarfile.TarInfo(name))
        own = tarfile.TarInfo("c")
        own.pax_headers = {"uname": "own"}
        tar.addfile(own)
    assert [member.uname for member, _ in read_all([buffer.getvalue()])] == ["shared", "shared", "own"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [(b"S", "sparse file"), (b"M", "multi-volume"), (b"Q", "unknown type")],
)
def test_what_is_not_supported_is_named(flag: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=f"'old' is .*{message}"):
        read_all([with_checksum(old_header(flag=(156, flag))) + bytes(2048)])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (b"22 GNU.sparse.major=1\n", "sparse"),
        (b"9999 path=x\n", "bad pax record"),
        (b"path=x\n", "bad pax record"),
        (b"9 size=-5\n", "bad pax record"),
        (b"11 size=-5\n", "-5 bytes"),
        (b"13 mtime=abc\n", "bad pax record"),
        (b"0 mtime=1\n", "bad pax record"),
    ],
)
def test_bad_pax_records_are_refused(records: bytes, message: str) -> None:
    size = b"%011o\0" % len(records)
    extended = with_checksum(old_header(b"pax", flag=(156, b"x"), size=(124, size))) + records + padding(len(records))
    with pytest.raises(IntegrityError, match=message):
        read_all([extended + with_checksum(old_header()) + bytes(2048)])


def test_an_extended_header_may_not_fill_the_memory() -> None:
    header = old_header(b"pax", flag=(156, b"x"), size=(124, b"77777777777\0"))
    with pytest.raises(IntegrityError, match="extended header"):
        read_all([with_checksum(header) + bytes(2048)])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=4000), st.booleans())
def test_garbage_never_raises_anything_but_integrity_error(garbage: bytes, seal: bool) -> None:
    if seal and len(garbage) >= 512:
        garbage = with_checksum(bytearray(garbage[:512])) + garbage[512:]
    with contextlib.suppress(IntegrityError):
        read_all([garbage])


def test_gnu_tar_reads_ours_and_we_read_its_formats(tmp_path: Path) -> None:
    if not shutil.which("tar"):
        pytest.skip("tar isn't installed")
    source = tmp_path / "source"
    deep = source / ("d" * 80) / ("e" * 80)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    (source / "gr\u00fcn").write_bytes(b"x" * 70_000)
    (source / "link").symlink_to("gr\u00fcn")
    for dialect in ("v7", "oldgnu", "gnu", "ustar", "pax"):
        packed = subprocess.run(
            ["tar", "-C", str(source), f"--format={dialect}", "-cf", "-", "."],
            capture_output=True,
            check=dialect != "v7",
        ).stdout
        found = {member.name: (member, content) for member, content in read_all(cut(packed, 10_000))}
        assert found["./gr\u00fcn"][1] == b"x" * 70_000
        assert found["./link"][0].linkname == "gr\u00fcn"
        if dialect != "v7":
            assert found[f"./{'d' * 80}/{'e' * 80}/file"][1] == b"deep"
    listing = [Member("a" * 200, size=3000, mtime=1795349346.5), Member("sub", "directory", 0o750, mtime=1795349346.5)]
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run(["tar", "-C", str(target), "-xf", "-"], input=archive(listing), check=True, capture_output=True)
    assert (target / ("a" * 200)).read_bytes() == content_of(listing[0])
    assert (target / "sub").stat().st_mode & 0o777 == 0o750
