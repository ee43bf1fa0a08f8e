"""Real Barman and ours get the same command lines and must agree on every exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.interop.command_lines import NOT_A_URL, command_lines
from tests.support.peers import Commands
from tests.support.servers import StoreServer

pytestmark = pytest.mark.interop
DRIVER = Path(__file__).with_name("command_driver.py")

FIXED: dict[tuple[str, ...], tuple[int, int, str]] = {
    ("wal-archive", "-t", NOT_A_URL, "main"): (1, 4, "the test of the connection needs no WAL file"),
}
"""Command lines on which we differ on purpose: Barman's code, ours, and why. Checked as exactly as the others."""


def exit_codes(
    python: str,
    scripts: Path,
    lines: Sequence[tuple[str, tuple[str, ...]]],
    environ: Mapping[str, str],
    preload: Sequence[str],
) -> list[int]:
    """Run all command lines with ``python`` and return their exit codes; ``preload`` only saves time."""
    commands = [[str(scripts / f"barman-cloud-{name}"), *arguments] for name, arguments in lines]
    done = subprocess.run(
        [python, str(DRIVER)],
        input=json.dumps({"preload": preload, "commands": commands}),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_MAX_ATTEMPTS": "1", **environ},
        cwd="/",
        check=True,
        timeout=240,
    )
    codes: list[int] = json.loads(done.stdout)
    return codes


@pytest.mark.long
def test_same_command_line_same_exit_code(barman_peer: Commands, moto: StoreServer) -> None:
    url = moto.new_bucket()
    lines = [
        (name, arguments)
        for name, arguments in command_lines(url)
        if barman_peer.version >= (3, 20) or not any("sse-customer" in a or "--zstd" in a for a in arguments)
    ]
    assert len(lines) > 500
    theirs = exit_codes(str(barman_peer.python), barman_peer.bin, lines, moto.environ, ["boto3", "psycopg2"])
    ours = exit_codes(sys.executable, Path(sys.executable).parent, lines, moto.environ, ["obstore.store"])
    differences = []
    for (name, arguments), their_code, our_code in zip(lines, theirs, ours, strict=True):
        shown = tuple(argument.replace(url, "URL") for argument in arguments)
        expected = FIXED.get((name, *shown))
        if expected and expected[:2] == (their_code, our_code):
            continue
        if their_code != our_code:
            differences.append(f"{name} {' '.join(map(repr, shown))}: Barman {their_code}, ours {our_code}")
    assert not differences, f"{len(differences)} of {len(lines)} differ:\n" + "\n".join(differences)
