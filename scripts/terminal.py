"""Record the terminal of the README: real commands on a real server, as one SVG without anything from elsewhere.

``python -m scripts.terminal`` writes ``docs/images/terminal.svg``.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text
from tests.support.postgres import SUPERUSER, PostgresServer, run_as_server, server_directory
from tests.support.privileges import server_account

IMAGE = Path(__file__).parent.parent / "docs" / "images" / "terminal.svg"
WIDTH = 112


def main() -> None:
    """Take a backup, look at it, check, restore; write the picture."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory(prefix="bc-", dir="/tmp") as name:
        directory = Path(name)
        server_account().own(directory)
        store = f"file://{server_directory(directory / 'store')}"
        with PostgresServer.create(directory / "server") as server:
            server.archive_with(f"barman-cloud-wal-archive --zstd {store} shop %p")
            server.pgbench("-i", "-s", "20")
            record = Recorder(console, server, directory)
            record.run("barman-cloud backup --zstd -v --immediate-checkpoint s3://backups/prod shop", quiet=4)
            record.run("barman-cloud backup-list s3://backups/prod shop")
            server.wait_archived(server.switch_wal())
            record.run("barman-cloud check s3://backups/prod shop")
            record.run("barman-cloud restore s3://backups/prod shop last /var/lib/postgresql/18/restored", quiet=0)
    svg = console.export_svg(title="barman-cloud")
    IMAGE.parent.mkdir(exist_ok=True)
    # The fonts would be fetched from elsewhere; the reader's own will do.
    IMAGE.write_text(re.sub(r"@font-face\s*{.*?}\s*", "", svg, flags=re.DOTALL))


class Recorder:
    """Runs commands with the names of a user's set-up in place of those of this one."""

    def __init__(self, console: Console, server: PostgresServer, directory: Path) -> None:
        self._console = console
        self._server = server
        self._names = {
            "s3://backups/prod": f"file://{directory}/store",
            "/var/lib/postgresql/18/restored": f"{directory}/restored",
        }

    def run(self, command: str, *, quiet: int | None = None) -> None:
        """Show a command, run it, and show its output; ``quiet``: only so many of its last lines."""
        self._console.print(Text(f"$ {command}", style="bold"))
        line = command
        for shown, real in self._names.items():
            line = line.replace(shown, real)
        environ = {**self._server.client_environ, "PGUSER": SUPERUSER}
        done = run_as_server(shlex.split(line), environ=environ, check=False)
        output = (done.stdout + done.stderr).rstrip()
        for shown, real in self._names.items():
            output = output.replace(real, shown)
        lines = output.splitlines()
        for text in lines if quiet is None else lines[-quiet:] if quiet else []:
            self._console.print(self._styled(text))
        self._console.print()

    @staticmethod
    def _styled(text: str) -> Text:
        text = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ \[\d+\] ", "", text)
        styled = Text(text, no_wrap=True, overflow="ellipsis")
        styled.highlight_words(["OK"], "green")
        styled.highlight_words(["FAILED"], "red")
        return styled


if __name__ == "__main__":
    main()
