"""A container as the Kubernetes client makes one: commands found by name on PATH and run without a shell.

No HOME, a numeric user without a name, a read-only root file system (where user namespaces allow to make one), a
writable directory for volumes, and an environment that holds the credentials and little else.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.privileges import server_account
from tests.support.servers import StoreServer

SERVER_NAME = "cluster-example"
POD_UID = 26026
_ISOLATE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
_POD_SCRIPT = (
    'mount --bind "$0" "$0" && mount -o remount,bind,ro / && cd / && '
    f'exec unshare --user --map-user={POD_UID} --map-group={POD_UID} "$@"'
)


@dataclass(frozen=True)
class Answer:
    """What the client sees of a command: its exit code and the two streams, kept apart."""

    code: int
    stdout: str
    stderr: str


@dataclass
class Pod:
    """Runs commands in the container. ``volume`` is its writable directory."""

    store: StoreServer
    url: str
    volume: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> list[str]:
        """``[ep]`` of the client's command lines."""
        return ["--endpoint-url", self.store.endpoint] if self.store.provider == "aws-s3" else []

    @property
    def cloud(self) -> list[str]:
        """``[cloud]`` of the client's command lines."""
        return ["--cloud-provider", self.store.provider]

    @property
    def place(self) -> list[str]:
        """``DEST SERVER``."""
        return [self.url, SERVER_NAME]

    def run(self, *argv: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Answer:
        """Run one command in the container, with ``environ`` beside the credentials."""
        command = [os.fspath(argument) for argument in argv]
        if can_isolate():
            command = [
                "unshare",
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                _POD_SCRIPT,
                str(self.volume),
                *command,
            ]
        done = subprocess.run(
            server_account().command(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self._environment() | dict(environ or {}),
            cwd="/",
            timeout=120,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def run_all(self, commands: Sequence[Sequence[str | os.PathLike[str]]]) -> list[Answer]:
        """Run commands all at once, as the client's goroutines do, and return their answers in order."""
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda argv: self.run(*argv), commands))

    def _environment(self) -> dict[str, str]:
        temporary = self.volume / "tmp"
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "TMPDIR": str(temporary),
            **self.store.environ,
            **self.environ,
        }


@functools.cache
def can_isolate() -> bool:
    """Tell whether this machine lets us make a read-only root and a user without a name."""
    if shutil.which("unshare") is None:
        return False
    probe = server_account().command([*_ISOLATE, _POD_SCRIPT, "/tmp", "true"])
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0
