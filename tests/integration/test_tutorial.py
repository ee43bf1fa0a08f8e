"""The shell blocks of the tutorial do what it says, and a newcomer who types them is never left without a word."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.support.installations import Installation
from tests.support.postgres import command_environment, run_as_server
from tests.support.privileges import PROJECT, server_account
from tests.support.servers import StoreServer
from tests.support.terminals import Terminal

TUTORIAL = PROJECT / "docs" / "tutorial" / "first-backup.md"
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STOP = 'for data in tutorial/data tutorial/restored; do pg_ctl -D "$data" -m immediate stop; done 2>/dev/null || true'


@pytest.mark.slow
def test_tutorial(postgres_installation: Installation, server_dir: Path) -> None:
    blocks = SHELL_BLOCK.findall(TUTORIAL.read_text())
    assert len(blocks) > 10
    environ = {**postgres_installation.environ, "PGCTLTIMEOUT": "200"}
    lines = [
        f'PATH="$PATH:{postgres_installation.bin}"',
        f'cd "{server_dir}"',
        f"trap 'cd \"{server_dir}\"; {STOP}' EXIT",
        *blocks,
    ]
    done = run_as_server(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], environ=environ, timeout=800)
    assert " 100001 | 100001" in done.stdout
    assert "before-the-accident" in done.stdout


@pytest.mark.long
def test_tutorial_on_s3_by_hand(postgres_installation: Installation, server_dir: Path, moto: StoreServer) -> None:
    """From the first line to the recovered table: on a terminal, with S3 in place of the directory, in ten minutes."""
    text = "\n".join(SHELL_BLOCK.findall(TUTORIAL.read_text()))
    url = f"{moto.new_bucket()}/path"
    assert text.count("STORE=file://$PWD/store\n") == text.count("find store -type f\n") == 1
    text = text.replace("STORE=file://$PWD/store\n", f"STORE={url}\n").replace("find store -type f\n", "")
    (server_dir / "typed.sh").write_text(
        f'PATH="$PATH:{postgres_installation.bin}"\ncd "{server_dir}"\n'
        f"trap 'cd \"{server_dir}\"; {STOP}' EXIT\nset -v\n{text}"
    )
    environ = {
        **command_environment({**postgres_installation.environ, **moto.environ}), "TERM": "xterm-256color",
        "LANG": "C.UTF-8", "PYTHONUTF8": "1", "PAGER": "cat",
    }  # fmt: skip
    command = server_account().command(["bash", "-euo", "pipefail", str(server_dir / "typed.sh")])
    began = time.monotonic()
    with Terminal.run(command, 120, environ=environ) as terminal:
        code = terminal.finish(600)
        shown = "\n".join(terminal.everything)
    assert code == 0, shown
    assert " 100001 | 100001" in shown
    assert re.search(r"full backup \d{8}T\d{6}: .* archive.* → ", shown), shown
    assert "restored into" in shown
    assert time.monotonic() - began < 600
    print(f"{time.monotonic() - began:.1f} s, silent for {terminal.longest_silence:.1f} s: {terminal.before_silence}")
    assert terminal.longest_blank < 2
    # What initdb does is the server's; everything of ours says something sooner.
    assert terminal.longest_silence < 2 or terminal.before_silence.startswith("initdb"), terminal.before_silence
