"""A restore that is killed at any step of its end, and run again, leaves what it would have left at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.catalog.backup_info import Tablespace
from barman_cloud.restore import durability, journal
from barman_cloud.restore.archive_restore import restore_backup
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.store.open import open_store
from tests.unit.restore.backups import Bucket, directory, hardlink, member, minimal, symlink, with_manifest

STEPS = (
    "fsync",
    "rename",
    "replace",
    "unlink",
    "symlink",
    "link",
    "mkdir",
    "fchmod",
    "fchown",
    "chown",
    "utime",
    "write",
    "pwrite",
    "ftruncate",
)
"""Calls of ``os`` that change something, or make it durable."""
SETTINGS = RecoverySettings("fetch %f %p", immediate=True)
DEBIAN = b"data_directory = '/var/lib/postgresql/18/main'\nhba_file = '/etc/postgresql/18/main/pg_hba.conf'\n"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    bucket = Bucket(open_store(f"file://{tmp_path_factory.mktemp('store')}"))
    bucket.info.tablespaces = [Tablespace("inside", 16384, "/nowhere")]
    members = minimal(
        directory("base", 0o500),
        member("base/5/1", b"one" * 1000),
        member("postgresql.conf", DEBIAN),
        member("postgresql.auto.conf", b"work_mem = '64MB'\n"),
        hardlink("twice", "base/5/1"),
        symlink("elsewhere", "/nowhere"),
    )
    spaces = [member("PG_18_1/5/2", b"two")]
    with_manifest(bucket, {"data": members, "16384": spaces})
    return bucket


def restore(bucket: Bucket, target: Path) -> None:
    restore_backup(bucket.store, bucket.layout, bucket.info, target, {"inside": str(target / "ts")}, 1, SETTINGS)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """What is below ``root``: kinds, modes, owners, links and content; times of the files that aren't rewritten."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        if isinstance(content, str):
            content = content.replace(str(root), "ROOT")
        elif isinstance(content, bytes):
            content = content.replace(str(root).encode(), b"ROOT")
        ours = path.parent == root or not path.is_file()
        time = None if ours else status.st_mtime_ns
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_nlink, time, content)
    return found


def killed_at(step: int, work: Callable[[], None], *, before: bool) -> bool:
    """Run ``work`` in a child that is killed before, or after, its ``step``-th call that changes something.

    False if it came to its end.
    """
    child = os.fork()
    if child == 0:
        left = [step]

        def killing(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if before and left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                now = left[0] == 0
                try:
                    return real(*arguments, **options)
                finally:
                    if now:
                        os.kill(os.getpid(), signal.SIGKILL)

            return call

        for name in STEPS:
            setattr(os, name, killing(getattr(os, name)))
        durability._syncfs = killing(durability._syncfs)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.fixture(scope="module")
def expected(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    target = tmp_path_factory.mktemp("whole") / "data"
    restore(bucket, target)
    return snapshot(target)


@pytest.mark.parametrize("before", [pytest.param(True, marks=pytest.mark.long), False], ids=["before", "after"])
def test_killed_at_every_step(
    bucket: Bucket, expected: dict[str, tuple[object, ...]], tmp_path: Path, before: bool
) -> None:
    step, phases = 0, set()
    while True:
        step += 1
        target = tmp_path / str(step) / "data"
        if not killed_at(step, lambda target=target: restore(bucket, target), before=before):  # type: ignore[misc]
            break
        control, label = target / "global/pg_control", target / "backup_label"
        unfinished = (target / journal.NAME).exists()
        # It can be started only when all is there.
        assert not control.exists() or (label.exists() and (target / "recovery.signal").exists())
        assert unfinished or control.exists() or not target.exists() or not list(target.iterdir())
        phases.add((unfinished, control.exists(), (target / "recovery.signal").exists()))
        if unfinished or not control.exists():
            restore(bucket, target)
        assert snapshot(target) == expected, f"killed {'before' if before else 'after'} step {step}"
    assert step > 60
    assert {(True, False, False), (True, False, True), (True, True, True)} <= phases


def test_killed_twice(bucket: Bucket, expected: dict[str, tuple[object, ...]], tmp_path: Path) -> None:
    """The second run, which finds everything extracted, is killed at each of its steps too."""
    step = 0
    while True:
        step += 1
        target = tmp_path / str(step) / "data"
        killed_in_the_end(bucket, target)
        if not killed_at(step, lambda target=target: restore(bucket, target), before=False):  # type: ignore[misc]
            break
        if (target / journal.NAME).exists():
            restore(bucket, target)
        assert snapshot(target) == expected, f"killed after step {step}"
    assert step > 20


def test_after_a_reboot_everything_is_extracted_again(
    bucket: Bucket, expected: dict[str, tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data"
    killed_in_the_end(bucket, target)
    monkeypatch.setattr(journal, "_boot_id", lambda: "another")
    restore(bucket, target)
    assert snapshot(target) == expected


def killed_in_the_end(bucket: Bucket, target: Path) -> None:
    """A restore that is killed before it removes its journal; all else is done."""

    def dies(_self: journal.Journal) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(journal.Journal, "remove", dies)
        restore(bucket, target)
    assert (target / "global/pg_control").exists()
