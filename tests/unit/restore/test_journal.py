"""The journal tells a restore that may go on from a directory that belongs to somebody."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from barman_cloud.errors import OperationError
from barman_cloud.restore import journal
from barman_cloud.restore.journal import Identity
from barman_cloud.restore.tree import Attributes, Link, Outcome

IDENTITY = Identity("s3://b/p", "p/main/", "20261122T121102", {"16384": "/ts"})
OUTCOME = Outcome({"base": Attributes(0o700, 1, 2, 3)}, {"l": Link("x", False, 1, 2)}, ["PG_VERSION"], 7, 1 << 40)


def test_what_was_finished_is_remembered(tmp_path: Path) -> None:
    with closing(journal.start(tmp_path, IDENTITY)) as first:
        first.add("a", OUTCOME)
        first.add("b", Outcome())
    again = journal.resume(tmp_path, IDENTITY)
    assert again is not None
    with closing(again):
        assert again.finished == {"a": OUTCOME, "b": Outcome()}
        again.remove()
    assert list(tmp_path.iterdir()) == []


def test_no_journal(tmp_path: Path) -> None:
    assert journal.resume(tmp_path, IDENTITY) is None
    assert journal.resume(tmp_path / "nothing", IDENTITY) is None
    (tmp_path / "file").touch()
    assert journal.resume(tmp_path / "file", IDENTITY) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, backup_id="20261122T000000"),
        replace(IDENTITY, server="p/other/"),
        replace(IDENTITY, url="s3://other"),
        replace(IDENTITY, tablespaces={"16384": "/elsewhere"}),
    ],
)
def test_of_another_restore(tmp_path: Path, other: Identity) -> None:
    journal.start(tmp_path, IDENTITY).close()
    with pytest.raises(OperationError, match="unfinished restore of backup 20261122T121102"):
        journal.resume(tmp_path, other)
    found = journal.resume(tmp_path, IDENTITY)  # neither locked nor changed by the refusal
    assert found is not None
    found.close()


def test_two_at_a_time(tmp_path: Path) -> None:
    with closing(journal.start(tmp_path, IDENTITY)), pytest.raises(OperationError, match="another process"):
        journal.resume(tmp_path, IDENTITY)


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_was_cut_off_counts_for_nothing(tmp_path: Path, cut: int) -> None:
    with closing(journal.start(tmp_path, IDENTITY)) as first:
        first.add("a", OUTCOME)
        first.add("b", OUTCOME)
    path = tmp_path / journal.NAME
    path.write_bytes(path.read_bytes()[:-cut])
    for more in ([], ["c"]):
        again = journal.resume(tmp_path, IDENTITY)
        assert again is not None
        with closing(again):
            assert list(again.finished) == ["a"]
            for key in more:
                again.add(key, OUTCOME)
    again = journal.resume(tmp_path, IDENTITY)
    assert again is not None
    with closing(again):
        assert list(again.finished) == ["a", "c"]


def test_killed_before_the_first_line(tmp_path: Path) -> None:
    (tmp_path / journal.NAME).touch()
    found = journal.resume(tmp_path, IDENTITY)
    assert found is not None
    with closing(found):
        found.add("a", OUTCOME)
    found = journal.resume(tmp_path, IDENTITY)
    assert found is not None
    with closing(found):
        assert list(found.finished) == ["a"]


def test_after_a_reboot_everything_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(journal.start(tmp_path, IDENTITY)) as first:
        first.add("a", OUTCOME)
    monkeypatch.setattr(journal, "_boot_id", lambda: "another")
    for expected in ([], ["b"]):
        again = journal.resume(tmp_path, IDENTITY)
        assert again is not None
        with closing(again):
            assert list(again.finished) == expected
            again.add("b", OUTCOME)


def test_forget(tmp_path: Path) -> None:
    with closing(journal.start(tmp_path, IDENTITY)) as first:
        first.add("a", OUTCOME)
        first.forget()
    again = journal.resume(tmp_path, IDENTITY)
    assert again is not None
    with closing(again):
        assert again.finished == {}


def test_a_link_in_the_place_of_the_journal_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x")
    (tmp_path / journal.NAME).symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        journal.resume(tmp_path, IDENTITY)
    assert (tmp_path / "elsewhere").read_text() == "x"
