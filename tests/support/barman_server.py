"""Barman's server, run as a black box: one server whose base backups it streams into a bucket."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.peers import Commands
from tests.support.postgres import PostgresServer, server_directory
from tests.support.privileges import server_account


@dataclass(frozen=True)
class BarmanServer:
    """A catalogue of its own in ``home``; the section ``name`` is ``server``, streamed to ``url``."""

    commands: Commands
    home: Path
    server: PostgresServer
    name: str
    environ: Mapping[str, str]

    @classmethod
    def create(
        cls,
        commands: Commands,
        home: Path,
        server: PostgresServer,
        name: str,
        url: str,
        environ: Mapping[str, str],
        **settings: str,
    ) -> BarmanServer:
        """Write the configuration; ``settings`` replace those of the section, ``environ`` reaches the store."""
        section = {
            "description": '"streamed"',
            "conninfo": server.conninfo,
            "backup_method": "postgres",
            "archiver": "on",
            "path_prefix": str(server.installation.bin),
            "basebackups_directory": url,
            "wals_directory": url,
            "cloud_staging_directory": str(server_directory(home / "staging")),
            **settings,
        }
        user = pwd.getpwuid(server_account().uid).pw_name
        (home / "barman.conf").write_text(
            f"[barman]\nbarman_user = {user}\nbarman_home = {home}\nlog_file = {home}/barman.log\n"
            f"configuration_files_directory = {server_directory(home / 'conf.d')}\n[{name}]\n"
            + "".join(f"{key} = {value}\n" for key, value in section.items())
        )
        server_account().own(home)
        return cls(commands, home, server, name, {**environ, **server.installation.environ})

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of ``barman``."""
        return [self.commands.path("barman"), "-c", str(self.home / "barman.conf"), *arguments]

    def run(self, *arguments: str) -> str:
        """Run ``barman`` and return its output; RuntimeError if it fails."""
        program, *rest = self.command(*arguments)
        return self.commands.run(Path(program).name, *rest, environ=self.environ).stdout

    def learn(self, folder: Path) -> None:
        """Put ``backup.info`` and manifest of a backup in the bucket where Barman looks for them."""
        meta = server_directory(server_directory(self.home / self.name) / "meta")
        for name in ("backup.info", "backup_manifest"):
            shutil.copy(folder / name, meta / f"{folder.name}-{name}")
        server_account().own(meta)

    def archive_a_segment(self) -> None:
        """Archive some WAL, as if a host had sent it: without any, Barman takes no backup."""
        segment = self.server.switch_wal()
        incoming = server_directory(server_directory(self.home / self.name) / "incoming")
        shutil.copy(self.server.data / "pg_wal" / segment, incoming / segment)
        server_account().own(incoming)
        self.run("archive-wal", self.name)
