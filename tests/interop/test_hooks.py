"""A real Barman server calls our commands as its hook scripts; what they store is restored and started."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.peers import Commands
from tests.support.postgres import PostgresServer, adopt, server_directory
from tests.support.privileges import server_account
from tests.support.servers import StoreServer

pytestmark = [pytest.mark.interop, pytest.mark.long, pytest.mark.xdist_group("hooks")]

SERVER_NAME = "main"
CLOUD_SERVER = "cloud-copy"


@dataclass
class BarmanServer:
    """A Barman server with its catalog in a directory of its own, backing up one PostgreSQL."""

    commands: Commands
    home: Path
    postgres: PostgresServer
    environ: Mapping[str, str]

    def write_configuration(self, method: str, hooks: Mapping[str, str]) -> None:
        """Configure the server with a backup method and hook scripts."""
        user = pwd.getpwuid(server_account().uid).pw_name
        lines = [
            "[barman]",
            *(f"barman_user = {user}", f"barman_home = {self.home}", f"log_file = {self.home / 'barman.log'}"),
            *(f"barman_lock_directory = {self.home}", "configuration_files_directory ="),
            f"[{SERVER_NAME}]",
            f"description = {SERVER_NAME}",
            f"conninfo = {self.postgres.conninfo}",
            f"streaming_conninfo = {self.postgres.conninfo}",
            *(f"backup_method = {method}", "archiver = on", "network_compression = false"),
            f"path_prefix = {self.postgres.installation.bin}",
            *(f"{name} = {command}" for name, command in hooks.items()),
        ]
        (self.home / "barman.conf").write_text("\n".join([*lines, ""]))
        server_account().own(self.home)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``barman`` with this configuration."""
        environ = {**self.postgres.installation.environ, **self.environ}
        return self.commands.run("barman", "-c", self.home / "barman.conf", *arguments, environ=environ, check=check)

    def log(self) -> str:
        """Return Barman's log."""
        file = self.home / "barman.log"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def barman_server(
    barman_peer: Commands, server_dir: Path, new_postgres: Callable[..., PostgresServer], rclone_s3: StoreServer
) -> Iterator[BarmanServer]:
    """A Barman server for a new PostgreSQL that copies its WAL into Barman's incoming directory."""
    home = server_directory(server_dir / "barman")
    postgres = new_postgres()
    incoming = server_directory(home / SERVER_NAME / "incoming")
    postgres.archive_with(f"cp %p {incoming}/%f")
    postgres.pgbench("-i", "-s", "1")
    server_account().own(server_dir)
    yield BarmanServer(barman_peer, home, postgres, rclone_s3.environ)


def our_hooks(ours: Commands, options: tuple[str, ...], url: str, *, retry: bool) -> dict[str, str]:
    """Return the hook settings of Barman that call our commands."""
    kind = "retry_script" if retry else "script"
    backup = [ours.path("barman-cloud-backup"), "--lz4", *options, url, CLOUD_SERVER]
    archive = [ours.path("barman-cloud-wal-archive"), "--gzip", *options, url, CLOUD_SERVER]
    return {f"post_backup_{kind}": " ".join(backup), f"pre_archive_{kind}": " ".join(archive)}


@pytest.mark.parametrize(("method", "retry"), [("postgres", True), ("local-rsync", False)])
def test_barman_server_copies_its_backup_through_our_hooks(
    method: str, retry: bool, barman_server: BarmanServer, ours: Commands, rclone_s3: StoreServer, server_dir: Path
) -> None:
    if method == "local-rsync" and shutil.which("rsync") is None:
        pytest.skip("rsync isn't installed")
    url = rclone_s3.new_bucket()
    barman_server.write_configuration(method, our_hooks(ours, rclone_s3.options, url, retry=retry))
    back_up(barman_server)

    listed = ours.run(
        "barman-cloud-backup-list", *rclone_s3.options, url, CLOUD_SERVER, environ=rclone_s3.environ
    ).stdout
    assert len(listed.splitlines()) == 2, f"{listed}\n{barman_server.log()}"
    backup = listed.splitlines()[1].split()[0]

    target = server_dir / "restored"
    ours.run(
        *("barman-cloud-restore", *rclone_s3.options, url, CLOUD_SERVER, backup, target),
        environ=rclone_s3.environ,
    )
    restored = adopt(target, barman_server.postgres.installation)
    restored.environ.update(rclone_s3.environ)
    restored.recover_with(
        " ".join([ours.path("barman-cloud-wal-restore"), *rclone_s3.options, url, CLOUD_SERVER, "%f", "%p"])
    )
    with restored:
        restored.wait_recovered()
        assert restored.value("SELECT count(*) FROM pgbench_accounts") == 100_000
        assert restored.value("SELECT count(*) FROM written_after") == 10
        restored.amcheck()


def back_up(barman: BarmanServer) -> None:
    """Take a backup with Barman, write a little more, and let Barman file every WAL segment.

    ``--wait``: Barman calls a backup DONE, and says so to its hooks, only once its last WAL file is filed.
    """
    barman.postgres.wait_archived(barman.postgres.switch_wal())
    barman.run("archive-wal", SERVER_NAME)
    barman.run("backup", "--immediate-checkpoint", "--wait", "--wait-timeout", "60", SERVER_NAME)
    barman.postgres.query("CREATE TABLE written_after AS SELECT generate_series(1, 10)")
    barman.postgres.wait_archived(barman.postgres.switch_wal())
    barman.run("archive-wal", SERVER_NAME)


def test_failed_backup_ends_the_retry_hook_with_63(ours: Commands, rclone_s3: StoreServer, server_dir: Path) -> None:
    url = rclone_s3.new_bucket()
    environ = {
        **rclone_s3.environ,
        "BARMAN_HOOK": "backup_retry_script",
        "BARMAN_PHASE": "post",
        "BARMAN_BACKUP_DIR": str(server_dir),
        "BARMAN_BACKUP_ID": "20260102T030405",
        "BARMAN_STATUS": "FAILED",
    }
    answer = ours.run("barman-cloud-backup", *rclone_s3.options, url, CLOUD_SERVER, environ=environ, check=False)
    assert answer.returncode == 63
