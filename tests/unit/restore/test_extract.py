"""Extraction never leaves its directory, whatever an archive holds."""

from __future__ import annotations

import copy
import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.tar import Member, read_members
from barman_cloud.errors import UnsafeArchiveError
from barman_cloud.restore.extract import Extractor
from barman_cloud.restore.tree import Attributes, Outcome, Tree, owner, split
from tests.unit.restore.backups import directory, hardlink, member, symlink, tar

DEFAULT = Attributes(0o700, os.geteuid(), os.getegid(), 0)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.fixture
def tree(target: Path) -> Iterator[Tree]:
    with closing(Tree(target)) as tree:
        yield tree


def extract(tree: Tree, *members: tuple[tarfile.TarInfo, bytes], order: int = 0) -> Outcome:
    """Extract one archive and finish, as a restore of it alone would."""
    outcome = extract_only(tree, *members, order=order)
    tree.make_links()
    tree.set_attributes(DEFAULT)
    return outcome


def extract_only(tree: Tree, *members: tuple[tarfile.TarInfo, bytes], order: int = 0) -> Outcome:
    with closing(Extractor(tree, order)) as extractor:
        for found, content in read_members([tar(members)]):
            extractor.extract(found, content)
    tree.add(order, extractor.outcome)
    return extractor.outcome


def test_files_and_directories_with_mode_and_time(tree: Tree, target: Path) -> None:
    outcome = extract(
        tree,
        directory("./", 0o750),
        directory("base", 0o500, mtime=1_600_000_000.5),
        directory("base/1", 0o700),
        member("base/1/112", b"x" * 3_000_000, mode=0o640),
        member("./PG_VERSION", b"18\n"),
    )
    assert (target / "base/1/112").read_bytes() == b"x" * 3_000_000
    assert stat.S_IMODE((target / "base/1/112").stat().st_mode) == 0o640
    assert (target / "PG_VERSION").stat().st_mtime_ns == 1_700_000_000_250_000_000
    assert stat.S_IMODE((target / "base").stat().st_mode) == 0o500
    assert (target / "base").stat().st_mtime_ns == 1_600_000_000_500_000_000
    assert (outcome.files, outcome.size) == (2, 3_000_003)
    assert tree.root_attributes() is not None


def test_a_directory_that_only_its_content_tells_of(tree: Tree, target: Path) -> None:
    extract(tree, member("base/5/1259", b"a"))
    assert stat.S_IMODE((target / "base/5").stat().st_mode) == 0o700


def test_many_directories_in_any_order(tree: Tree, target: Path) -> None:
    names = [f"base/{number}/{relation}" for relation in range(2) for number in range(200)]
    extract(tree, *(member(name, name.encode()) for name in names))
    assert all((target / name).read_bytes() == name.encode() for name in names)


def test_set_id_bits_are_not_restored(tree: Tree, target: Path) -> None:
    extract(tree, member("tool", b"x", mode=0o6755), directory("d", 0o2755))
    assert stat.S_IMODE((target / "tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o755


def test_of_two_members_of_one_name_the_later_holds(tree: Tree, target: Path) -> None:
    extract(tree, member("./pg_hba.conf", b"first, and longer"), member("pg_hba.conf", b"second"))
    assert (target / "pg_hba.conf").read_bytes() == b"second"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "the later archive first"])
def test_of_two_archives_the_later_holds_whichever_is_faster(tree: Tree, target: Path, order: tuple[int, int]) -> None:
    content = {0: b"inside", 1: b"outside"}
    for number in order:
        extract_only(tree, member("pg_hba.conf", content[number]), order=number)
    assert (target / "pg_hba.conf").read_bytes() == b"outside"


def test_a_replaced_file_does_not_change_its_hard_link(tree: Tree, target: Path) -> None:
    extract(tree, member("a", b"one"), hardlink("b", "./a"))
    extract(tree, member("a", b"two"))
    assert ((target / "a").read_bytes(), (target / "b").read_bytes()) == (b"two", b"one")


def test_links_are_made_as_archived(tree: Tree, target: Path) -> None:
    extract(
        tree,
        symlink("./conf", "/etc/postgresql/main.conf"),
        symlink("d/up", "../x"),
        member("x", b"content"),
        hardlink("y", "x"),
    )
    assert (target / "conf").readlink() == Path("/etc/postgresql/main.conf")
    assert (target / "d/up").read_bytes() == b"content"
    assert (target / "y").samefile(target / "x")


def test_a_link_that_a_file_replaces_is_not_made(tree: Tree, target: Path) -> None:
    extract(tree, symlink("conf", "/etc/passwd"), member("conf", b"own"))
    assert not (target / "conf").is_symlink()
    assert (target / "conf").read_bytes() == b"own"


def test_fifo(tree: Tree, target: Path) -> None:
    extract(tree, member("pipe", kind=tarfile.FIFOTYPE, mode=0o640))
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)
    extract(tree, member("pipe", kind=tarfile.FIFOTYPE, mode=0o600))
    assert stat.S_IMODE((target / "pipe").stat().st_mode) == 0o600


def test_checksums_are_recorded(tree: Tree) -> None:
    seen: list[tuple[str, int, int]] = []
    content = os.urandom(70_000)
    with closing(Extractor(tree, 0, lambda *file: seen.append(file))) as extractor:
        data = tar([member("base/1/2", content), member("./empty")])
        for found, chunks in read_members(data[start : start + 1000] for start in range(0, len(data), 1000)):
            extractor.extract(found, chunks)
    assert seen == [("base/1/2", 70_000, crc32c(content)), ("empty", 0, 0)]


HOSTILE = {
    "absolute": [member("/tmp/barman-cloud-evil", b"x")],
    "absolute directory": [directory("/barman-cloud-evil")],
    "climbing": [member("../evil", b"x")],
    "climbing inside": [member("a/../../evil", b"x")],
    "climbing directory": [directory("..")],
    "through a link": [symlink("out", ".."), member("out/evil", b"x")],
    "through a link, far": [symlink("out", "/tmp"), member("out/deep/er/barman-cloud-evil", b"x")],
    "directory through a link": [symlink("out", ".."), directory("out/evil")],
    "link behind its content": [member("out/evil", b"x"), symlink("out", "..")],
    "link through a link": [symlink("out", ".."), symlink("out/evil", "x")],
    "hard link through a link": [symlink("out", ".."), hardlink("copy", "out/secret")],
    "hard link to a directory": [directory("d"), hardlink("copy", "d")],
    "absolute hard link": [hardlink("copy", "/etc/passwd")],
    "climbing hard link": [hardlink("copy", "../secret")],
    "hard link to nothing": [hardlink("copy", "nothing")],
    "hard link to the root": [hardlink("copy", "./")],
    "file instead of the root": [member(".", b"x")],
    "link to nowhere": [symlink("link", "")],
    "file below a file": [member("a", b"x"), member("a/b", b"x")],
    "file instead of a directory": [directory("a"), member("a", b"x")],
    "character device": [member("tty", kind=tarfile.CHRTYPE, devmajor=5)],
    "block device": [member("disk", kind=tarfile.BLKTYPE)],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archives_are_refused(tree: Tree, target: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    secret = target.parent / "secret"
    secret.write_text("secret")
    with pytest.raises(UnsafeArchiveError):
        extract(tree, *members)
    assert sorted(path.name for path in target.parent.iterdir()) == ["secret", "target"]
    assert secret.read_text() == "secret"
    assert secret.stat().st_nlink == 1
    assert not Path("/tmp/barman-cloud-evil").exists()


def test_links_that_are_already_there_are_not_followed(tree: Tree, target: Path) -> None:
    (target / "pg_wal").symlink_to("..")
    (target / "file").symlink_to("../created")
    with pytest.raises(UnsafeArchiveError, match="pg_wal"):
        extract(tree, member("pg_wal/evil", b"x"))
    extract(tree, member("file", b"x"))
    assert not (target / "file").is_symlink()
    assert sorted(path.name for path in target.parent.iterdir()) == ["target"]


KINDS = {
    "file": [member("d/x", b"second")],
    "directory": [directory("d/x")],
    "full directory": [member("d/x/inner", b"x")],
    "symlink": [symlink("d/x", "/nowhere")],
    "hard link": [hardlink("d/x", "other")],
    "fifo": [member("d/x", kind=tarfile.FIFOTYPE)],
}
DIRECTORIES = {"directory", "full directory"}


def kind_of(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return "hard link" if path.stat().st_nlink > 1 else "file"
    if stat.S_ISDIR(mode):
        return "full directory" if any(path.iterdir()) else "directory"
    return "symlink" if stat.S_ISLNK(mode) else "fifo"


@pytest.mark.parametrize("archives", [1, 2], ids=["in one archive", "in two archives"])
@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_of_two_kinds_of_one_name_the_later_holds_or_both_are_refused(
    tree: Tree, target: Path, first: str, second: str, archives: int
) -> None:
    members = [member("other", b"other"), *KINDS[first]]
    both_directories = {first, second} <= DIRECTORIES
    refused = {first, second} & DIRECTORIES and not both_directories
    try:
        if archives == 1:
            extract(tree, *members, *KINDS[second])
        else:
            extract(tree, *members)
            extract(tree, *KINDS[second], order=1)
    except UnsafeArchiveError:
        assert refused, (first, second)
        return
    assert not refused
    expected = "full directory" if both_directories and "full directory" in (first, second) else second
    # Across archives, links are made last.
    assert kind_of(target / "d/x") in ({expected} if archives == 1 else {expected, first})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "file"])
@pytest.mark.parametrize("name", ["global/pg_control", "tablespace_map"])
def test_what_is_set_aside_can_only_be_a_file(target: Path, kind: str, name: str) -> None:
    info, content = copy.copy(KINDS[kind][0][0]), KINDS[kind][0][1]
    info.name = f"{name}/inner" if kind == "full directory" else name
    set_aside = {"global/pg_control": "pg_control.restoring", "tablespace_map": "old"}
    with closing(Tree(target, set_aside)) as tree, pytest.raises(UnsafeArchiveError):
        extract(tree, (info, content))


@pytest.mark.parametrize("depth", [99, 100, 2000, 100_000])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_a_directory_that_is_too_deep_is_refused(tree: Tree, target: Path, depth: int, kind: bytes) -> None:
    deep = member("d/" * depth + "f", kind=kind)
    if depth < 100:
        extract(tree, deep)
        assert (target / ("d/" * depth) / "f").exists()
    else:
        with pytest.raises(UnsafeArchiveError, match=r"longer|levels"):
            extract(tree, deep)
        assert not list(target.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300])
def test_a_directory_that_has_its_mode_already_can_be_filled_again(tree: Tree, target: Path, mode: int) -> None:
    for content in (b"first", b"second"):
        extract(tree, directory("d", mode), member("d/f", content), symlink("d/l", "x"))
        assert stat.S_IMODE((target / "d").stat().st_mode) == mode
    (target / "d").chmod(0o700)
    assert (target / "d/f").read_bytes() == b"second"


PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "a\\b", "ü", "x" * 120, "\0"])
NAMES = st.builds(
    lambda parts, start: start + "/".join(parts), st.lists(PARTS, max_size=4), st.sampled_from(["", "/", "./"])
)
TARGETS = st.one_of(NAMES, st.sampled_from(["..", "../..", "/", "/tmp", "a/..", "../secret"]))
MEMBERS = st.lists(
    st.tuples(
        st.builds(
            Member,
            name=NAMES,
            kind=st.sampled_from(["file", "file", "directory", "symlink", "hardlink", "fifo", "block device"]),
            mode=st.sampled_from([0o600, 0o700, 0o000, 0o500, 0o777, 0o7777]),
            uid=st.just(os.geteuid()),
            gid=st.just(os.getegid()),
            mtime=st.floats(),
            linkname=TARGETS,
        ),
        st.binary(max_size=70),
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MEMBERS, max_size=3))
@example([[(Member(name="", kind="directory"), b""), (Member(name="a/a"), b""), (Member(name="a", kind="fifo"), b"")]])
def test_no_archive_writes_outside(
    tmp_path_factory: pytest.TempPathFactory, archives: list[list[tuple[Member, bytes]]]
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    target = outside / "in" / "target"
    target.mkdir(parents=True)
    secret = outside / "in" / "secret"
    secret.write_text("secret")
    before = snapshot(outside)
    with closing(Tree(target)) as tree:
        try:
            for order, members in enumerate([*archives, *archives]):
                with closing(Extractor(tree, order)) as extractor:
                    for found, content in members:
                        extractor.extract(found, [content])
                tree.add(order, extractor.outcome)
                tree.make_links()
                tree.set_attributes(DEFAULT)
        except UnsafeArchiveError:
            pass
        except OSError as error:
            assert error.errno == errno.ENAMETOOLONG, error
    assert snapshot(outside) == before
    assert secret.read_text() == "secret"


def snapshot(root: Path) -> list[tuple[str, int, int, int]]:
    """Everything below ``root`` but what is in the target."""
    return [
        (str(path), status.st_mode, status.st_nlink if path.is_file() else 0, status.st_size)
        for path in [*sorted(root.iterdir()), *sorted((root / "in").iterdir())]
        for status in [path.lstat()]
        if path.name != "target"
    ]


@pytest.mark.parametrize(
    ("name", "parts"),
    [("./", ()), (".", ()), ("./a", ("a",)), ("a//b/", ("a", "b")), ("a/./b", ("a", "b")), ("...", ("...",))],
)
def test_split(name: str, parts: tuple[str, ...]) -> None:
    assert split(name) == parts


@pytest.mark.parametrize("name", ["/a", "..", "a/..", "../a", "a\0b", "/"])
def test_split_refuses(name: str) -> None:
    with pytest.raises(UnsafeArchiveError):
        split(name)


def test_owner_by_name_else_by_number() -> None:
    assert owner("root", 12345, "no-such-group-here", 54321) == (0, 54321)
    assert owner("", 12345, "", 54321) == (12345, 54321)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_restores_owners(tree: Tree, target: Path) -> None:
    extract(
        tree,
        directory("d", uid=1234, gid=4321),
        member("d/f", b"x", uid=1234, gid=4321),
        symlink("d/l", "x", uid=1234, gid=4321),
        member("d/p", kind=tarfile.FIFOTYPE, uid=1234, gid=4321),
    )
    for path in (target / "d", *(target / "d").iterdir()):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (1234, 4321)


def test_an_outcome_survives_json(tree: Tree) -> None:
    outcome = extract_only(tree, directory("d", mtime=1.5), member("f", b"x"), symlink("l", "x"), hardlink("h", "f"))
    assert Outcome.from_json(outcome.to_json()) == outcome
