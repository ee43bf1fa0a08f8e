"""Runs of ``barman-cloud-restore``, and what tests expect of them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.commands import run_command
from tests.support.repository import Completed
from tests.unit.restore.backups import BACKUP_ID, Bucket


def restore(bucket: Bucket, target: Path, *arguments: str, backup: str = BACKUP_ID) -> Completed:
    return run_command("restore", *arguments, bucket.store.url.text, "main", backup, target)


def succeeded(done: Completed) -> Completed:
    assert done.returncode == 0, done.stderr
    return done


def failed(done: Completed, code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
