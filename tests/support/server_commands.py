"""``barman-cloud server`` with a configuration of its own, run as the servers' user like Barman's server."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.peers import our_commands
from tests.support.ports import end, wait_for
from tests.support.postgres import PostgresServer, command_environment, run_as_server, server_directory
from tests.support.privileges import server_account

Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class ServerCommands:
    """A host with a configuration ``home/barman.conf`` whose section ``main`` is ``server``."""

    home: Path
    server: PostgresServer
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        home: Path,
        server: PostgresServer,
        url: str,
        environ: Mapping[str, str] | None = None,
        **settings: str,
    ) -> ServerCommands:
        """Write the configuration: streamed backups and WAL, unless ``settings`` say otherwise."""
        server_directory(home)
        section = {
            "description": '"streamed to cloud"',
            "conninfo": server.conninfo,
            "streaming_conninfo": server.conninfo,
            "backup_method": "postgres",
            "streaming_archiver": "on",
            "slot_name": "barman",
            "create_slot": "auto",
            "basebackups_directory": url,
            "wals_directory": url,
            **settings,
        }
        (home / "barman.conf").write_text(
            f"[barman]\nbarman_home = {server_directory(home / 'state')}\nlog_file = {home}/barman.log\n[main]\n"
            + "".join(f"{key} = {value}\n" for key, value in section.items())
        )
        server_account().own(home)
        return cls(home, server, dict(environ or {}))

    @property
    def configuration(self) -> Path:
        return self.home / "barman.conf"

    def command(self, *words: str) -> list[str]:
        """Return a command line of ``barman-cloud server``."""
        return [our_commands().path("barman-cloud"), "server", "-c", str(self.configuration), *words]

    def try_run(self, *words: str) -> Completed:
        return run_as_server(self.command(*words), environ=self.environ, check=False)

    def run(self, *words: str) -> str:
        """Run a command and return its output; AssertionError with its messages if it fails."""
        done = self.try_run(*words)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        """Run a command and return what it prints as JSON."""
        return json.loads(self.run("-f", "json", *words))

    @contextlib.contextmanager
    def receiving(self) -> Iterator[subprocess.Popen[bytes]]:
        """A running ``receive-wal``, which streams when this returns."""
        log = self.home / "receiver.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                server_account().command(self.command("receive-wal", "main")),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=command_environment(self.environ),
            )  # fmt: skip

        def streams() -> bool:
            assert process.poll() is None, log.read_text()
            slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'barman' AND active"
            return bool(self.server.value(slots))

        try:
            wait_for(streams, what="receive-wal to stream")
            yield process
        finally:
            end(process)


def normalised(text: str) -> str:
    """Return output without what differs from run to run: ids, times, sizes, places in WAL, identifiers, paths."""
    for pattern, word in (
        (r"\d{8}T\d{6}", "ID"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?:\+\d\d:\d\d)?", "TIME"),
        (r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}", "TIME"),
        (r"-?\d+(?:\.\d+)? (?:B|KiB|MiB|GiB)\b", "SIZE"),
        (r"\b[0-9A-F]{24}\b", "WAL"),
        (r"\b[0-9A-F]+/[0-9A-F]+\b", "LSN"),
        (r"\b\d{15,}\b", "SYSTEM"),
        (r"\d+\.\d+/hour", "RATE"),
        (r"\d+\.\d+%", "PERCENT"),
        (r"less than one second|\d+ (?:second|minute|hour)s?(?:, \d+ seconds?)?", "DURATION"),
        (r"(?<=: )/\S+", "PATH"),
        (r"\(oid: \d+\)", "(oid: OID)"),
        (r"(?<=Offset {9}: )\d+|(?<=Offset {11}: )\d+", "N"),
        (r"\b1[3-9]0\d{3}\b|\b1[3-9]\.\d+\b", "VERSION"),
    ):
        text = re.sub(pattern, word, text)
    return text


def shape(value: Any) -> Any:
    """Return a JSON value with the types in place of the values, lists by their first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
