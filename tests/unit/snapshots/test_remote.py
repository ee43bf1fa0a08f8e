"""Looking at another machine's mounts: what the command that reaches it may do wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.errors import ConfigurationError, SnapshotError
from barman_cloud.snapshots.remote import look_at


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo refused >&2; exit 255", "failed: refused"),
        ("exit 0", "answered nothing"),
        ("printf 'welcome to this machine\\n'", "answered a path that can't be"),
        ("printf 'X\\tsys/x\\n'", "answered something else"),
        ("printf 'F\\t../x\\tcontent\\n'", "answered a path that can't be: '../x'"),
        ("printf 'F\\t/etc/x\\tcontent\\n'", "answered a path that can't be: '/etc/x'"),
        ("printf 'P\\tsys/block/a/device\\tetc\\n'", "answered a path that can't be: 'etc'"),
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, answer: str, expected: str) -> None:
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    (tmp_path / "tree").mkdir()
    with pytest.raises(SnapshotError, match=expected):
        look_at(str(program), tmp_path / "tree")
    assert not (tmp_path / "x").exists()


def test_a_command_that_cannot_be_run(tmp_path: Path) -> None:
    for command, reason in (("/no/ssh host", "No such file"), ("ssh 'x", "not a command line"), ("", "can't be run")):
        with pytest.raises(ConfigurationError, match=reason):
            look_at(command, tmp_path)
