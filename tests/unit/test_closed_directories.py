"""A place where something may be, in a directory that this user may not look into: it isn't there.

HOME is that of another user in containers that run with any user id, and PATH has root's directories after ``su``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import temporary_server_directory
from tests.support.privileges import PROJECT, server_account

LOOKS = {
    "configuration": (
        "from barman_cloud.config import reader; reader.SEARCH_PATH = ('~/.barman.conf',);"
        "print(reader.find_file(None, {'HOME': CLOSED}))",
        "None",
    ),
    "no configuration": (
        "from barman_cloud.config import reader; reader.SEARCH_PATH = ('~/.barman.conf', '/nowhere/barman.conf')\n"
        "try: reader.load(None, {'HOME': CLOSED})\nexcept Exception as error: print(str(error).replace(CLOSED, '~'))",
        "there is no configuration file (whether there is ~/.barman.conf this user can't see)",
    ),
    "google": (
        "from barman_cloud.store.google.identity import find_identity, origin_of;"
        "find_identity({'HOME': CLOSED}); print(origin_of({'HOME': CLOSED}))",
        "the metadata server of this machine",
    ),
    "aws": (
        "from barman_cloud.store.s3.profile import load_profile;"
        "print(load_profile({'HOME': CLOSED}, None).get('region'))",
        "None",
    ),
    "programs": (
        "from barman_cloud.postgres.programs import find_server; import os; os.environ['PATH'] = CLOSED + '/bin'\n"
        "try: find_server(9)\nexcept Exception as error: print(str(error).partition(' (')[0])",
        "no PostgreSQL 9 on this machine",
    ),
    "archive_command": (
        "from barman_cloud.doctor.machine import missing_program; found = missing_program(CLOSED + '/bin/x');"
        "print(found.message.replace(CLOSED, '~'), '->', found.hint.replace(CLOSED, '~'))",
        "~/bin/x can't be seen by this user: ~ is closed -> "
        "install the programs where every user may look, or: chmod a+x ~",
    ),
}  # fmt: skip


@pytest.fixture
def closed() -> Iterator[Path]:
    with temporary_server_directory() as directory:
        (directory / "closed").mkdir()
        (directory / "closed").chmod(0)
        yield directory / "closed"
        (directory / "closed").chmod(0o700)


@pytest.mark.parametrize("look", LOOKS)
def test_it_is_not_there(look: str, closed: Path) -> None:
    program, expected = LOOKS[look]
    done = subprocess.run(
        server_account().command([sys.executable, "-c", f"CLOSED = {str(closed)!r}\n{program}"]),
        capture_output=True, text=True, timeout=60, check=False, cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT / "src")},
    )  # fmt: skip
    assert done.stdout.strip() == expected, done.stderr
