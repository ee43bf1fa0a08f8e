"""Exit codes: command lines that were run with real Barman, and the code that each of them ended with.

``tests/golden/exit-codes.tsv`` holds what needs no PostgreSQL, no disk snapshots and no cloud but S3. Where our code is
another one on purpose, ``FIXED`` says which and why; ``docs/reference/coming-from-barman.md`` tells it to users.
"""

from __future__ import annotations

import gzip
import logging
import shlex
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.cli.command import main
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support import segments
from tests.support.servers import StoreServer
from tests.unit.catalog.builders import GOLDEN, backup, catalog_a, fill, segment

ROWS = [line.split("\t") for line in (GOLDEN / "exit-codes.tsv").read_text().splitlines()[1:]]

HISTORY = b"8\t0/5000000\tno recovery target specified\n"

SILENT = {"r_hist_missing"}
"""No failure: every recovery asks for a history file that isn't there."""

SYSTEM = 7710966728863891090
"""The system identifier in the golden files."""

FIXED = {
    "e_list_weird_format": (3, "there is no such format"),
    "d_badret2": (3, "'main' is no policy, as any other word"),
    "d_failed_alone": (0, "there is no WAL to clean up, and nothing to crash on"),
    "e_b_sizeB": (3, "not a size"),
    "e_r_spoolperm": (0, "recovery goes on without a spool"),
    "e_r_unreach": (2, "unreachable, as since Barman 3.20"),
    "e_w_t": (0, "--test needs no file"),
    "e_w_tag3": (3, "not a tag"),
    "ra_auto_failed_l": (1, "backups without an end are passed over; none is left"),
    "ra_auto_failed_t2": (1, "backups without an end are passed over; none is left"),
    "ra_failed": (4, "a failed backup is restored only by its id"),
}


class World:
    """The buckets and files that the command lines name."""

    def __init__(self, moto: StoreServer, files: Path) -> None:
        self.files = files
        self.buckets = {name: moto.new_bucket() for name in ("s3://backups", "s3://walonly", "s3://locked")}
        self.buckets["s3://createdbychk"] = f"{self.buckets['s3://backups']}-new"
        self._moto = moto
        self._fill_prod()
        self._fill_del()
        self._fill_rst()
        self._fill_bi()
        self._fill_walonly()
        self._make_files()

    def catalog(self, url: str, server: str) -> Catalog:
        bucket, _, path = url.removeprefix("s3://").partition("/")
        options = StoreOptions(endpoint_url=self._moto.endpoint)
        store = open_store(f"{self.buckets[f's3://{bucket}']}/{path}", None, options, self._moto.environ)
        return Catalog(store, Layout.of(store.url, server))

    def command_line(self, text: str) -> tuple[dict[str, str], list[str]]:
        """Return the environment and the words of a command line that stands for real buckets and files."""
        for name, bucket in self.buckets.items():
            text = text.replace(name[2:], bucket[2:])  # the scheme may be written in capitals
        text = text.replace("ENDPOINT", self._moto.endpoint).replace("/srv/pg", str(self.files))
        words = shlex.split(text.removeprefix("env "))
        environ = dict(self._moto.environ)
        while not words[0].startswith("barman-cloud-"):
            word = words.pop(0)
            if word == "-u":
                environ.pop(words.pop(0), None)
            else:
                name, _, value = word.partition("=")
                environ[name] = value
        return environ, words

    def _fill_prod(self) -> None:
        catalog = self.catalog("s3://backups/prod", "main")
        infos = {
            "20261122T121102": "done-plain",
            "20261122T121138": "done-gzip-name-tags",
            "20261122T121226": "started",
            "20261122T121249": "started",
            "20261122T121312": "failed-during-copy",
            "20261122T121459": "done-plain",
        }
        for backup_id, name in infos.items():
            content = (GOLDEN / f"backup-info/{name}.info").read_bytes()
            catalog.store.put(catalog.layout.backup_info(backup_id), content)
        for name in ("data.tar", "16384.tar"):
            catalog.store.put(catalog.layout.backup_dir("20261122T121102") + name, b"x")
        catalog.store.put(catalog.layout.wal("00000009.history"), HISTORY)
        fill(catalog, [], [segment(0x40)])

    def _fill_del(self) -> None:
        names = ("20260101T000000", "20260102T000000", "20260103T000000")
        one, two, three = names
        wals = [segment(number) for number in range(0x22)]
        failed = backup(one, status="FAILED")
        started = backup(two, segment(0x10), status="STARTED")
        catalogs: dict[str, tuple[list[BackupInfo], dict[str, str]]] = {
            "a": (list(catalog_a().load().backups.values()), {}),
            "k": ([backup(id_, segment(3 + 4 * n)) for n, id_ in enumerate(names)], {one: "standalone"}),
            "kf": ([backup(id_, segment(3 + 4 * n)) for n, id_ in enumerate(names)], {one: "full"}),
            "kw": ([backup(id_, segment(3 + 4 * n)) for n, id_ in enumerate(names)], {one: "garbage\n"}),
            "tl": ([backup(one, segment(3)), backup(two, segment(4, 0, 2)), backup(three, segment(9, 0, 2))], {}),
            "st": ([backup(one, segment(3)), started, backup(three, segment(0x20))], {}),
            "fa": ([failed], {}),
            "fb": ([failed, backup(two, segment(4))], {}),
            "fc": ([backup(one, segment(3), status="FAILED"), backup(two, segment(4))], {}),
            "mi": ([backup(one, segment(3)), backup(two, segment(4))], {}),
            "bs": ([backup(one, segment(3))], {}),
        }
        for server, (infos, keeps) in catalogs.items():
            fill(self.catalog("s3://backups/del", server), infos, wals[::8], archives=["data.tar"], keeps=keeps)

    def _fill_rst(self) -> None:
        for server in ("a", "b", "m"):
            infos = [
                backup("20260101T000000", segment(3), end_xlog="0/3000100"),
                backup("20260103T000000", segment(5, 0, 2), end_xlog="0/5000100"),
                backup("20260104T000000", segment(7, 0, 2), status="STARTED"),
            ]
            if server == "a":
                infos.append(backup("20260102T000000", segment(4), status="FAILED"))
            wals = [segment(5, 0, 2), "0000000A.history"]
            fill(self.catalog("s3://backups/rst", server), infos, wals, archives=())

    def _fill_bi(self) -> None:
        texts = {
            "unk": "status=DONE\nnew_key=1\n",
            "cmt": "# note\n\nbackup_id=20261122T121102\n backup_version = 2 \nstatus=DONE\n",
            "min": "status=DONE\n",
            "old": "status=DONE\nserver_name=cloud\n",
            "bad": "status=DONE\nno equals sign\n",
            "badint": "status=DONE\ntimeline=one\n",
            "empty": "",
            "naive": "status=DONE\nserver_name=cloud\nend_time=2026-11-22 12:11:02\n",
        }
        for server, text in texts.items():
            catalog = self.catalog("s3://backups/bi", server)
            catalog.store.put(catalog.layout.backup_info("20261122T121102"), text.encode())
        catalog = self.catalog("s3://backups/bi", "dirs")
        catalog.store.put(catalog.layout.archive("20261122T121102", "data"), b"x")
        catalog.store.put(catalog.layout.backup_info("customid"), b"status=DONE\n")

    def _fill_walonly(self) -> None:
        par = self.catalog("s3://walonly/par", "main")
        for number in (0x50, 0x52, 0x53, 0x54):
            name = segments.segment_name(number)
            par.store.put(par.layout.wal(name, ".gz"), gzip.compress(segments.segment(number), 1))
        whole = gzip.compress(segments.segment(0x60), 1)
        par.store.put(par.layout.wal(segments.segment_name(0x60), ".gz"), b"not gzip")
        par.store.put(par.layout.wal(segments.segment_name(0x61), ".gz"), whole[:-1000])
        par.store.put(par.layout.wal("00000009.history", ".gz"), gzip.compress(HISTORY))
        for folder in ("czstd", "multi"):
            there = self.catalog(f"s3://walonly/{folder}", "main")
            name, content = segments.segment_name(0x50), segments.segment(0x50, system=SYSTEM)
            there.store.put(there.layout.wal(name), content)
            there.store.put(there.layout.wal(f"{name}.partial"), content)

    def _make_files(self) -> None:
        wal = self.files / "w"
        wal.mkdir()
        for number in (0x50, 0x53):
            (wal / segments.segment_name(number)).write_bytes(segments.segment(number, system=SYSTEM))
        (wal / f"{segments.segment_name(0x51)}.partial").write_bytes(segments.segment(0x51, system=SYSTEM))
        (wal / f"{segments.segment_name(0x50)}.00000028.backup").write_text("START WAL LOCATION: 0/5000028\n")
        (wal / "00000009.history").write_bytes(HISTORY)
        (wal / "notawal").touch()
        (self.files / "r1").mkdir()
        (self.files / "r1" / "file").touch()
        data = self.files / "bsrv/base/20261122T121102/data"
        (data / "global").mkdir(parents=True)
        (data / "global/pg_control").write_bytes(bytes(8192))
        (data / "backup_label").write_text("START WAL LOCATION: 0/5000028\n")
        meta = self.files / "bsrv/meta"
        meta.mkdir()
        info = "status=DONE\nversion=180006\ncompression={}\n"
        (meta / "20261122T121102-backup.info").write_text(info.format(None))
        (meta / "c-backup.info").write_text(info.format("gzip"))


@pytest.fixture(scope="module")
def world(moto: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(moto, tmp_path_factory.mktemp("srv"))


@pytest.fixture
def _as_in_a_process() -> Iterator[None]:
    """Undo what the commands change in their process, which is this one: quicker than 220 processes."""
    ours = logging.getLogger("barman_cloud")
    before = ours.handlers[:], ours.propagate, ours.level
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
    ours.handlers[:], ours.propagate = before[:2]
    ours.setLevel(before[2])


@pytest.mark.usefixtures("_as_in_a_process")
@pytest.mark.parametrize(("case", "code", "text"), ROWS, ids=[row[0] for row in ROWS])
def test_exit_code(
    world: World,
    case: str,
    code: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ, words = world.command_line(text)
    for name, value in {**environ, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    name = words[0].removeprefix("barman-cloud-")
    command = import_module(f"barman_cloud.cli.{name.replace('-', '_')}").COMMAND
    try:
        found: object = main(command, words[1:])
    except SystemExit as left:
        found = left.code
    printed = capsys.readouterr()
    expected, why = FIXED.get(case, (int(code), ""))
    assert found == expected, f"{why}\n{printed.err}"
    assert "Traceback" not in printed.err
    assert (printed.err != "") >= (expected != 0 and case not in SILENT), "a failure says why"


def test_every_mended_case_is_run() -> None:
    codes = {case: int(code) for case, code, _ in ROWS}
    assert all(codes[case] != fixed for case, (fixed, _) in FIXED.items())
