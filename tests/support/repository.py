"""A store in a directory with the backups of one server: made by our commands, and looked into by tests."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.archive.tar import Member, read_members
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo
from tests.support.commands import program, run_command
from tests.support.postgres import PostgresServer, adopt, run_as_server
from tests.support.privileges import server_account, storing_account

Completed = subprocess.CompletedProcess[str]
SERVER_NAME = "main"


@dataclass
class Repository:
    """The directory of a ``file://`` store, and the backups of server ``main`` in it."""

    directory: Path

    def __post_init__(self) -> None:
        # What a test stores as root would be closed to the archiver, which runs as the server's user: the directories
        # that both write to are that user's.
        for part in ("base", "wals"):
            (self.directory / SERVER_NAME / part).mkdir(parents=True, exist_ok=True)
        server_account().own(self.directory)

    @property
    def url(self) -> str:
        return f"file://{self.directory}"

    def backup(self, server: PostgresServer, *arguments: str, **environ: str) -> Completed:
        """Run ``barman-cloud-backup --immediate-checkpoint`` on the server, as its user (see ``storing_account``)."""
        return run_command(
            "backup",
            "--immediate-checkpoint",
            *arguments,
            self.url,
            SERVER_NAME,
            environ={**server.client_environ, **environ},
            account=storing_account(),
        )

    def archive_from(self, server: PostgresServer) -> None:
        """Let the server archive its WAL into this store, by our command."""
        server.archive_with(f"barman-cloud-wal-archive {self.url} {SERVER_NAME} %p")

    @property
    def ids(self) -> list[str]:
        """Ids of all backups, of whatever status, ascending."""
        base = self.directory / SERVER_NAME / "base"
        return sorted(path.name for path in base.iterdir()) if base.exists() else []

    def path(self, name: str = "", backup_id: str | None = None) -> Path:
        """An object of a backup (the newest by default)."""
        return self.directory / SERVER_NAME / "base" / (backup_id or self.ids[-1]) / name

    def info(self, backup_id: str | None = None) -> BackupInfo:
        """``backup.info`` of a backup (the newest by default)."""
        backup_id = backup_id or self.ids[-1]
        return backup_info.parse(self.path("backup.info", backup_id).read_text(), backup_id)

    @property
    def archives(self) -> list[str]:
        """Names of the archives of the newest backup, in the order in which readers extract them."""
        names = (path.name for path in self.path().iterdir() if ".tar" in path.name)
        return sorted(names, key=lambda name: re.sub(r"\.tar.*", "", name))

    def members(self, name: str) -> list[tuple[Member, bytes]]:
        """The members of an archive of the newest backup, with their contents."""
        chunks = decompress_stream([self.path(name).read_bytes()], compression_of(name))
        return [(member, b"".join(map(bytes, content))) for member, content in read_members(chunks)]

    def files(self, base: str = "data") -> dict[str, bytes]:
        """All files of PGDATA (or a tablespace) in the newest backup; AssertionError if one is there twice."""
        found: dict[str, bytes] = {}
        for archive in self.archives:
            if re.match(rf"{base}[._]", archive):
                for member, content in self.members(archive):
                    path = member.name.removeprefix("./")
                    assert path not in found, f"{path} is there twice"
                    if member.kind == "file":
                        found[path] = content
        return found

    def restore(self, target: Path, *arguments: str) -> Completed:
        """Restore the newest backup into a directory, by our command."""
        return run_command("restore", *arguments, self.url, SERVER_NAME, self.ids[-1], target)

    @contextlib.contextmanager
    def restored(
        self, directory: Path, server: PostgresServer, *, as_server: bool = False, from_archive: bool = True
    ) -> Iterator[PostgresServer]:
        """The newest backup restored by our commands into ``directory``, verified, recovered to its end, running.

        ``as_server`` restores as the servers' user: a streamed backup tells owners as the server saw them. Without
        ``from_archive`` recovery gets no WAL but what the backup brings along.
        """
        target = directory / "restored"
        rules = [
            f"--tablespace={tablespace.name}:{directory / f'restored-{tablespace.name}'}"
            for tablespace in self.info().tablespaces or ()
        ]
        server_account().own(directory)
        command = [program("restore"), *rules, self.url, SERVER_NAME, self.ids[-1], target]
        done = run_as_server(command, check=False) if as_server else run_command("restore", *command[1:])
        assert done.returncode == 0, done.stderr
        server_account().own(directory)
        if server.installation.has("pg_verifybackup"):
            without_wal = ["-n"] if from_archive else []
            run_as_server([server.installation.tool("pg_verifybackup"), *without_wal, target])
        copy = adopt(target, server.installation)
        if from_archive:
            copy.recover_with(f"barman-cloud-wal-restore {self.url} {SERVER_NAME} %f %p")
        with copy:
            copy.wait_recovered()
            yield copy
