"""Where the blocks of the documentation are run: a PostgreSQL, a bucket, and what each page takes for granted.

The commands are run as they stand, one page in one shell, by the servers' user. What can't be as on the reader's
machine:

* Absolute paths below /var, /srv, /opt, /etc, /mnt and /usr/local are below the scratch directory.
* Addresses (``db1``) are the loopback, and the moments, backup ids and WAL names of the page are those of this run.
* ``sudo`` only runs its command, and ``systemctl start|stop|restart postgresql…`` asks ``pg_ctl``.

``AWS_ENDPOINT_URL`` leads to a local S3 server that has the buckets of the pages.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.documented import PAGES, RUN, Block, blocks, name_of
from tests.support.installations import Installation
from tests.support.postgres import run_as_server
from tests.support.privileges import PROJECT, server_account
from tests.support.servers import StoreServer

TUTORIAL = PROJECT / "docs" / "tutorial" / "first-backup.md"
VARIANTS = ("directory", "s3", "newcomer")
"""What a block may be for alone: a directory as the store, S3, somebody who has nothing installed yet."""
BUCKETS = ("backups", "bucket", "my-backups")
_STORE = re.compile(r"(s3://[\w-]+/\w+) +([a-z][\w-]*)")
_PATH = re.compile(r"(?<!\w)/(?=(?:var|srv|opt|etc|mnt|usr/local)/)")
_MOMENT = re.compile(r"'20\d\d-\d\d-\d\d \d\d:\d\d(?::\d\d)?[+-]\d\d(?::\d\d)?'")
_ID = re.compile(r"\b20\d{6}T\d{6}\b")
_SEGMENT = re.compile(r"\b0{7}1[0-9A-F]{16}\b")
_COMMENT = re.compile(r"\s+# [^\"'\n]*$")
_ADDRESS = re.compile(r"(?<=host )(?:db1|replica1)\b|(?<=-h )db1\b|(?<=host=)db1\b")

PRELUDE = """
set -euo pipefail
shopt -s expand_aliases
export HOME="$ROOT/home" PGHOST="$ROOT/var/run/postgresql" PGPORT PGUSER=postgres PGDATABASE=postgres
mkdir -p "$HOME" "$PGHOST" "$ROOT"/{srv,mnt,opt,etc/barman-cloud,usr/local/bin,var/tmp,var/lib/postgresql/wal-spool}
if [ -n "$PROGRAMS" ]; then mkdir "$ROOT/opt/barman-cloud" && ln -s "$PROGRAMS" "$ROOT/opt/barman-cloud/bin"; fi
cd "$HOME"
DATA=$ROOT/server
sudo() { if [ "${1-}" = -u ]; then shift 2; fi; "$@"; }
systemctl() {
    case "$1 ${2-}" in
        "start postgresql"* | "stop postgresql"* | "restart postgresql"*)
            pg_ctl -D "$DATA" -w -l "$ROOT/server.log" "$1" >&2;;
        *) echo "there is no systemd here: $*" >&2; return 1;;
    esac
}
data_at() { mkdir -p "$(dirname "$ROOT$1")" && ln -s "$DATA" "$ROOT$1"; }  # where the page has it
wait_until() {  # a condition; 60 s at most
    local turn
    for turn in $(seq 600); do if eval "$1"; then return; fi; sleep 0.1; done
    echo "not within 60 s: $1" >&2
    return 1
}
archive_one() {  # commit something, finish the segment, and wait until it is archived
    psql -Atqc "select pg_current_xact_id()" >"$ROOT/commit"
    SEGMENT=$(psql -Atc "select pg_walfile_name(pg_switch_wal())")
    local asked="select coalesce(last_archived_wal >= '$SEGMENT', false) from pg_stat_archiver"
    wait_until '[ "$(psql -Atc "$asked")" = t ]'
}
follows() { [ "$(psql -Atc 'select state from pg_stat_replication')" = streaming ]; }  # a receiver
gone() { [ -z "$(psql -Atc 'select state from pg_stat_replication')" ]; }
lose_everything() { pg_ctl -D "$DATA" -w -m fast stop >&2; rm -rf "$@"; }
is_recovered() { [ "$(psql -Atc 'select pg_is_in_recovery()')" = f ]; }
until_recovered() { wait_until is_recovered; }
"""
SERVER = """
cp -a "$TEMPLATE" "$DATA"
cat >>"$DATA/postgresql.conf" <<EOF
port = $PGPORT
listen_addresses = '127.0.0.1'
unix_socket_directories = '$PGHOST'
checkpoint_completion_target = 0
wal_keep_size = 1GB
EOF
"""
ARCHIVE = """
cat >>"$DATA/postgresql.conf" <<EOF
archive_mode = on
archive_command = 'barman-cloud-wal-archive --gzip $URL $NAME %p'
EOF
"""
START = """
pg_ctl -D "$DATA" -w -l "$ROOT/server.log" start >&2
"""
BACKUP = """
barman-cloud-backup --gzip "$URL" "$NAME"
ID=$(barman-cloud-backup-list --format json "$URL" "$NAME" | jq_id)
psql -qc "create table orders as select generate_series(1, 6000) as id"
sleep 0.1
MOMENT=$(psql -Atc 'select now()')
sleep 0.1
psql -qc 'drop table orders'
archive_one
"""
JQ = """
jq_id() { python3 -c 'import json, sys; print(json.load(sys.stdin)["backups_list"][0]["backup_id"])'; }
"""


@dataclass(frozen=True)
class Scene:
    """What a page needs that isn't on it."""

    before: Mapping[int, str] = field(default_factory=dict)
    """Shell lines to run before the block of that number (of those that are run, from 0)."""
    after: str = ""
    """Shell lines that look at what came out."""
    ends: Mapping[str, str] = field(default_factory=dict)
    """What is put behind a command that has the text in it, such as how it ends."""
    replace: Mapping[str, str] = field(default_factory=dict)
    order: Sequence[int] = ()
    """The numbers of blocks in the order of running, if a page shows the command before what it needs."""
    restart: bool = True
    """Whether settings on the page are given to the server at once, and a segment archived by them."""
    server: bool = True
    archive: bool = True
    """Whether the server archives into the store of the page when the page begins."""
    backup: bool = True
    """Whether there is a backup, with a table that was dropped after ``$MOMENT``, when the page begins."""
    url: str = ""
    name: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """What all pages share."""

    installation: Installation
    template: Path | None = None
    """A cluster that was initialized and never started, for pages that have a server."""
    store: StoreServer | None = None
    programs: Path | None = None
    """Where our programs are installed; None if the page installs them."""


def run_pages() -> list[str]:
    """Return the names of the pages that have something to run without any variant."""
    return [name_of(page) for page in PAGES if any(block.language in RUN and is_run(block) for block in blocks(page))]


def script_of(page: Path, scene: Scene, root: Path, variants: Collection[str] = ()) -> str:
    """Return the shell script that runs a page's blocks in their order."""
    run = [block for block in blocks(page) if is_run(block, variants)]
    told = _STORE.search("\n".join(block.body for block in run))
    url, name = (told[1], told[2]) if told else ("s3://backups/prod", "main")
    lines = [f"ROOT={shlex.quote(str(root))}", f"URL={scene.url or url} NAME={scene.name or name}", PRELUDE, JQ]
    if scene.server:
        lines += [SERVER, ARCHIVE if scene.archive else "", START, BACKUP if scene.backup else ""]
    for number in scene.order or range(len(run)):
        block = run[number]
        lines += [f"echo === {block.place} $EPOCHREALTIME >&2", scene.before.get(number, "")]
        if block.language == "sql":
            lines += [f"psql -v ON_ERROR_STOP=1 <<'END'\n{adapted(block.body, scene, root)}END"]
        elif block.language == "ini":
            lines += [f"cat >>\"$DATA/postgresql.conf\" <<'END'\n{adapted(block.body, scene, root)}END"]
            lines += ["systemctl restart postgresql", "archive_one"] if scene.restart else []
        else:
            lines += [_ended(command, scene, root) for command in block.commands]
    lines += ["echo === end $EPOCHREALTIME >&2", scene.after, "exit 0"]
    return "\n".join(lines) + "\n"


def is_run(block: Block, variants: Collection[str] = ()) -> bool:
    """Tell whether the page's test runs a block; of settings, those that let the server archive."""
    if block.language == "ini":
        settings = [line for line in block.body.splitlines() if line and not line.startswith("#")]
        return not block.reason and all(line.startswith(("archive_mode", "archive_command")) for line in settings)
    return block.language in RUN and not block.reason and (not block.variant or block.variant in variants)


def adapted(text: str, scene: Scene, root: Path) -> str:
    """Return text of a page with the paths, addresses, moments and names of this run."""
    for old, new in scene.replace.items():
        text = text.replace(old, new)
    text = _PATH.sub(f"{root}/", text)
    text = _ADDRESS.sub("127.0.0.1", text)
    text = _MOMENT.sub('"$MOMENT"', text)
    return _SEGMENT.sub("$SEGMENT", _ID.sub("$ID", text))


def _ended(command: str, scene: Scene, root: Path) -> str:
    ends = [end for text, end in scene.ends.items() if text in command]
    text = adapted(command, scene, root)
    return f"{_COMMENT.sub('', text)} {ends[0]}" if ends else text


def run_page(page: Path, scene: Scene, stage: Stage, root: Path, port: int, variants: Collection[str] = ()) -> str:
    """Run a page in ``root``, an empty directory of the servers' user, and return what its commands printed."""
    for bucket in BUCKETS if stage.store else ():
        stage.store.make_bucket(bucket)
    (root / "page.sh").write_text(script_of(page, scene, root, variants))
    server_account().own(root)
    environ = {
        **stage.installation.environ,
        **(stage.store.environ if stage.store else {}),
        "PATH": ":".join(map(str, _programs(stage, root))),
        "PROGRAMS": str(stage.programs or ""),
        "TEMPLATE": str(stage.template or ""),
        "PGPORT": str(port),
        "MAJOR": str(stage.installation.major),
        **scene.environ,
    }
    try:
        done = run_as_server(["bash", root / "page.sh"], environ=environ, check=False, timeout=280)
    finally:
        stop_servers(root, stage.installation)
    log = root / "server.log"
    assert done.returncode == 0, (
        f"{name_of(page)}: exit code {done.returncode}\n{done.stdout[-3000:]}\n--- stderr\n{done.stderr[-3000:]}"
        f"\n--- server\n{log.read_text()[-1500:] if log.exists() else ''}"
    )
    return done.stdout + done.stderr


def _programs(stage: Stage, root: Path) -> list[str | Path]:
    own = [stage.programs] if stage.programs else [root / "usr/local/bin", Path(sys.base_prefix) / "bin"]
    return [*own, stage.installation.bin, "/usr/local/bin", "/usr/bin", "/bin"]


def stop_servers(root: Path, installation: Installation) -> None:
    """Stop every PostgreSQL whose data directory is below ``root``."""
    for file in root.rglob("postmaster.pid"):
        command = [installation.tool("pg_ctl"), "-D", file.parent, "-m", "immediate", "stop"]
        run_as_server(command, environ=installation.environ, check=False)
