"""Every shell block of the documentation does what its page says, on a real server and a local S3.

``tests/support/scenes`` says what stands for the reader's machine. ``SCENES`` has what each page takes for granted.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scripts import newcomer

from tests.support.commands import program
from tests.support.documented import blocks
from tests.support.installations import Installation
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, temporary_server_directory
from tests.support.privileges import PROJECT
from tests.support.scenes import TUTORIAL, VARIANTS, Scene, Stage, adapted, is_run, run_page, run_pages, script_of
from tests.support.servers import moto_server, request

PRODUCTION = PROJECT / "docs" / "how-to" / "production.md"
DATA_17 = "data_at /var/lib/postgresql/17/main"
SLOT = "select pg_create_physical_replication_slot('lost')"
RECEIVE = """&
PID=$!
wait_until follows
kill -INT $PID
wait $PID || test $? = 130
wait_until gone
psql -Atqc "select pg_drop_replication_slot('barman')"
"""
SCHEDULE = "docs/how-to/scheduled-maintenance.md"
CONFIGURATION = "[barman]\nbarman_home = $ROOT/var/lib/barman\n" + "".join(
    re.sub(r"host=db\d", "host=127.0.0.1", block.body)
    for block in blocks(PROJECT / SCHEDULE)
    if block.language == "ini" and block.body.startswith("[main")
)
SCENES: dict[str, Scene] = {
    "README.md": Scene(
        ends={"--method stream": "; archive_one; MOMENT=$(psql -Atc 'select now()'); archive_one"},
        after='test -f "$ROOT/var/lib/postgresql/17/main/backup_label"',
        backup=False,
    ),
    "docs/how-to/archive-falls-behind.md": Scene(before={0: DATA_17}, ends={"grep -c ready": "|| test $? = 1"}),
    "docs/how-to/debian.md": Scene(
        before={1: DATA_17}, replace={"--port 5432": "--port $PGPORT"}, after="until_recovered"
    ),
    "docs/how-to/disk-full.md": Scene(
        before={
            0: f'{DATA_17}; psql -Atqc "{SLOT}"',
            1: 'mkdir -p "$ROOT/mnt/rescue"',
            2: """find "$ROOT/mnt/rescue/main/wals" -name '0000*' | grep -q .
sed -i '$d' "$DATA/postgresql.conf"
systemctl restart postgresql; barman-cloud-backup --zstd $URL $NAME; archive_one""",
        },
        replace={"'NAME'": "'lost'"},
    ),
    "docs/how-to/drill.md": Scene(
        before={
            0: """psql -qc 'create database shop'
psql -d shop -qc "create table orders as select now() as created from generate_series(1, 6000)"
echo 'select true' >"$ROOT/etc/barman-cloud/shop.sql"
archive_one; barman-cloud-backup --zstd $URL $NAME; archive_one"""
        },
    ),
    "docs/how-to/incremental-backups.md": Scene(
        backup=False,
        before={0: "psql -qc 'create table a as select generate_series(1, 50000) as n'"},
        order=(1, 2, 0, 3, 4, 5, 6, 7),
        replace={"last DIR": 'last "$ROOT/srv/restored"', "--backup-id ID": "--backup-id sunday"},
        after="""test -f "$ROOT/srv/restored/PG_VERSION"
test "$(barman-cloud-backup-list --format json $URL $NAME | grep -c '"backup_id"')" = 1""",
    ),
    "docs/how-to/kubernetes.md": Scene(after='test -f "$ROOT/var/lib/postgresql/data/pgdata/recovery.signal"'),
    "docs/how-to/missing-segment.md": Scene(
        before={0: DATA_17}, after='test -f "$ROOT/srv/restore/recovery.signal"'
    ),
    "docs/how-to/pg-upgrade.md": Scene(
        before={1: "systemctl stop postgresql", 3: "systemctl start postgresql"},
        restart=False,
        after="""test "$(psql -Atc 'show archive_command' | grep -c pg17-main)" = 1
! barman-cloud-backup-list $URL pg16-main | grep -q .""",
    ),
    "docs/how-to/patroni.md": Scene(
        before={0: "barman-cloud setup --part roles --streamed $URL $NAME | psql -qv ON_ERROR_STOP=1"}
    ),
    "docs/how-to/point-in-time-recovery.md": Scene(
        before={
            0: """mkdir -p "$ROOT"/mnt/{old-fast,old-slow}
for name in fast slow; do
    psql -qc "create tablespace $name location '$ROOT/mnt/old-$name'" -c "create table $name (n int) tablespace $name"
done
barman-cloud-backup --zstd $URL $NAME; archive_one; MOMENT=$(psql -Atc 'select now()'); archive_one
lose_everything "$ROOT"/mnt/old-{fast,slow}""",
            1: 'until_recovered; pg_ctl -D "$ROOT/var/lib/postgresql/18/main" -w stop >&2; '
            'rm -rf "$ROOT/var/lib/postgresql/18/main" "$ROOT"/mnt/old-{fast,slow}',
            2: """pg_ctl -D "$ROOT/var/lib/postgresql/18/main" -w -l "$ROOT/restored.log" start >&2; until_recovered
pg_ctl -D "$ROOT/var/lib/postgresql/18/main" -w stop >&2
rm -rf "$ROOT/var/lib/postgresql/18/main" "$ROOT"/mnt/old-{fast,slow}""",
            3: 'pg_ctl -D "$ROOT/var/lib/postgresql/18/main" -w -l "$ROOT/restored.log" start >&2',
        },
        ends={"main start": ""},
        after='test -f "$ROOT/var/lib/postgresql/18/main/recovery.signal"',
    ),
    "docs/how-to/production.md": Scene(
        archive=False,
        backup=False,
        before={
            2: """barman-cloud setup --part roles --postgresql $MAJOR $URL $NAME | psql -qv ON_ERROR_STOP=1
barman-cloud setup --part postgresql.conf $URL $NAME >>"$DATA/postgresql.conf\"""",
            4: "psql -qc 'create table orders as select generate_series(1, 1000) as id'",
            5: """grep -q '^restore_command' "$ROOT/var/tmp/restored/postgresql.auto.conf\"""",
        },
        ends={"--server-environment s3": "|| test $? = 1"},
        after="""MOMENT=$(psql -Atc "select now()"); psql -qc 'drop table orders'; archive_one
pg_ctl -D "$DATA" -w stop >&2
barman-cloud-restore --write-recovery-settings --target-time "$MOMENT" --target-action promote \\
    $URL $NAME auto "$ROOT/srv/back"
pg_ctl -D "$ROOT/srv/back" -w -l "$ROOT/restored.log" start >&2
until_recovered
test "$(psql -Atc 'select count(*) from orders')" = 1000""",
    ),
    "docs/how-to/progress.md": Scene(before={0: 'mkdir -p "$ROOT/var/lib/monitoring"'}),
    "docs/how-to/prometheus.md": Scene(
        before={0: 'mkdir -p "$ROOT/var/lib/prometheus/node-exporter"'},
        after='grep -q "^barman_cloud_" "$ROOT/var/lib/prometheus/node-exporter/barman-cloud-main.prom"',
    ),
    "docs/how-to/receive-wal.md": Scene(ends={"wal-receive": RECEIVE}, order=(1, 0, 2, 4, 3)),
    "docs/how-to/report.md": Scene(
        before={0: "barman-cloud-backup --zstd $URL billing"}, after="grep -q '</html>' report.html"
    ),
    SCHEDULE: Scene(
        before={0: f"cat >$HOME/.barman.conf <<END\n{CONFIGURATION}\nEND\ncreateuser -s barman"},
        ends={
            "cron --list": "| tee /dev/stderr | grep -q 'WAL is received by process'",
            "cron": "; wait_until follows",
            "--reset": "\nbarman-cloud server terminate-process main receive-wal; wait_until gone",
        },
        backup=False,
    ),
    "docs/how-to/streamed-backups.md": Scene(order=(1, 0, 2)),
    "docs/reference/server-commands.md": Scene(server=False, after="barman --version | grep -q ."),
    "docs/how-to/verify.md": Scene(before={0: "barman-cloud-backup --zstd $URL $NAME; archive_one"}),
    "docs/how-to/wal-archiving.md": Scene(backup=False),
}  # fmt: skip
PLAIN = Scene()


@pytest.fixture(scope="module")
def stage(postgres_installation: Installation) -> Iterator[Stage]:
    with temporary_server_directory() as directory, moto_server() as store:
        template = PostgresServer.create(directory / "template", postgres_installation).data
        yield Stage(postgres_installation, template, store, Path(program("backup")).parent)


def test_scenes_are_about_what_is_on_the_pages() -> None:
    assert set(SCENES) <= set(run_pages())
    for name in run_pages():
        scene = SCENES.get(name, PLAIN)
        run = [block for block in blocks(PROJECT / name) if is_run(block, VARIANTS)]
        text = "\n".join(block.body for block in run)
        assert [words for words in (*scene.ends, *scene.replace) if words not in text] == [], name
        assert set(scene.before) <= set(range(len(run))), name
        assert sorted(scene.order) in ([], list(range(len(run)))), name
        for variants in ((), *((variant,) for variant in VARIANTS)):
            script = script_of(PROJECT / name, replace(scene, order=()), Path("/scratch"), variants)
            done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{name}: {done.stderr}"
        for block in run:  # nothing of this machine is touched
            there = adapted(block.body, scene, Path("/scratch"))
            assert not re.search(r"(?<!\w)/(?:var|srv|opt|etc|mnt|usr/local)/", there), block.place


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in run_pages() if PROJECT / name not in (TUTORIAL, PRODUCTION)])
def test_the_page_does_what_it_says(name: str, stage: Stage, server_dir: Path) -> None:
    assert stage.store
    request("POST", f"{stage.store.endpoint}/moto-api/reset")
    run_page(PROJECT / name, SCENES.get(name, PLAIN), stage, server_dir, free_port())


@pytest.mark.long
def test_a_newcomer_recovers_a_table_on_s3_within_ten_minutes() -> None:
    times = newcomer.measure()
    assert " 100001 | 100001" in times.told
    assert times.install + times.rest < 300, "half of the ten minutes is for reading"
    page = TUTORIAL.read_text()
    assert "In about ten minutes" in page
    assert newcomer.BEGIN + "The commands of this page took " in page


@pytest.mark.long
def test_the_production_page_from_nothing_to_a_recovered_table(stage: Stage, server_dir: Path) -> None:
    """A fresh environment with the wheel, the role with its least rights, and the settings that ``setup`` prints."""
    assert stage.store
    request("POST", f"{stage.store.endpoint}/moto-api/reset")
    with temporary_server_directory() as directory:
        bare = replace(stage, programs=None)
        scene = replace(
            SCENES["docs/how-to/production.md"],
            replace={"-p 5433": f"-p {free_port()}"},
            environ=newcomer.pip_environment(directory),
        )
        run_page(PRODUCTION, scene, bare, server_dir, free_port(), ("newcomer",))
