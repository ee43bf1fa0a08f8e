"""Every command ends by its deadline, however the store fails (``docs/reference/timeouts.md``)."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.cli.commands import PROGRAMS, SUMMARIES
from barman_cloud.deadline import RUN_OF_FAILURES, TEST, TOTAL, Deadline
from barman_cloud.store.open import open_store
from barman_cloud.wal import background_client
from tests.support.commands import program
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.postgres import PostgresServer, command_environment
from tests.support.segments import Cluster, segment, segment_name
from tests.support.servers import StoreServer
from tests.support.spools import opened

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "timeouts.md"
SECONDS = 2
SLACK = 18.0
"""Seconds for processes to start; what waits without a deadline takes 25 and more."""
FAILING = {
    "answers 503": Fault(status=503, body=b"<Error><Code>SlowDown</Code></Error>", times=10_000),
    "never answers": Fault(delay=300, times=10_000),
    "drips": Fault(drip=600.0, times=10_000),
    "hangs up": Fault(drop=True, times=10_000),
}


class Ended(NamedTuple):
    code: int
    logged: str
    seconds: float
    waited: float
    """Seconds of these for which it was ready to run and none of the CPUs was free."""


@pytest.fixture
def proxy(moto: StoreServer) -> Iterator[FaultProxy]:
    with fault_proxy(moto.endpoint) as proxy:
        yield proxy


@pytest.fixture
def url(moto: StoreServer) -> str:
    url = moto.new_bucket()
    with open_store(url, environ=moto.environ) as store:
        store.put(Layout("", "main").wal(segment_name(1)), segment(1))
    return url


def command_lines(url: str, tmp_path: Path) -> dict[str, list[str]]:
    """Return what each command but ``backup``, which needs a server, is called with."""
    path = Cluster(tmp_path / "data").add(3)
    backup_id = "20260101T000000"
    return {
        "wal-archive": [url, "main", str(path)],
        "wal-restore": [url, "main", segment_name(1), str(tmp_path / "wal")],
        "check-wal-archive": [url, "main"],
        "backup-list": [url, "main"],
        "backup-show": [url, "main", backup_id],
        "backup-keep": ["--status", url, "main", backup_id],
        "backup-delete": ["-b", backup_id, url, "main"],
        "restore": [url, "main", backup_id, str(tmp_path / "pgdata")],
        "backup": ["--test", url, "main"],
    }


def run(argv: list[str], environ: dict[str, str]) -> Ended:
    began, waited = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=said, env=command_environment(environ))
        while process.poll() is None:
            with contextlib.suppress(OSError):  # where the kernel doesn't tell, none was waited
                waited = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
            time.sleep(0.02)
        seconds = time.monotonic() - began
        said.seek(0)
        return Ended(process.returncode, said.read(), seconds, waited)


@pytest.mark.parametrize("how", FAILING)
@pytest.mark.parametrize("umbrella", [False, True], ids=["programs", "umbrella"])
def test_every_command_ends_within_its_timeout(
    moto: StoreServer, proxy: FaultProxy, url: str, tmp_path: Path, how: str, umbrella: bool
) -> None:
    if umbrella and how != "answers 503":
        pytest.skip("the same code")
    fault = FAILING[how]
    fault.times = 10_000
    proxy.add(fault)
    environ = {**moto.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
    options = ["--timeout", str(SECONDS), "--endpoint-url", proxy.endpoint]
    lines = command_lines(url, tmp_path)
    assert set(lines) == set(PROGRAMS)
    beginnings = {name: [program(name)] for name in lines}
    if umbrella:
        lines["check"] = [url, "main"]
        beginnings = {name: [program("").rstrip("-"), name] for name in lines}
    with ThreadPoolExecutor(4) as pool:
        argvs = [[*beginnings[name], *options, *line] for name, line in lines.items()]
        ended = dict(zip(lines, pool.map(lambda argv: run(argv, environ), argvs), strict=True))
    for name, outcome in ended.items():
        assert outcome.seconds - outcome.waited < SECONDS + SLACK, (name, outcome)
        expected = 2 if name in ("wal-restore", "check-wal-archive", "check", "backup") else 4
        assert outcome.code == expected, (name, outcome)
        assert "Traceback" not in outcome.logged, (name, outcome)
        assert outcome.logged.count("ERROR") == 1, (name, outcome)
    if how == "answers 503":
        # On a busy machine, some may not have seen an answer by then.
        assert sum("503" in outcome.logged for outcome in ended.values()) >= len(ended) - 2, ended


def test_a_segment_that_drips_ends_wal_restore(moto: StoreServer, proxy: FaultProxy, url: str, tmp_path: Path) -> None:
    """The listing is quick, and then the segment comes byte by byte."""
    proxy.add(Fault("GET", segment_name(1), drip=600.0, times=100))
    environ = {**moto.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
    line = [program("wal-restore"), f"--timeout={SECONDS}", url, "main", segment_name(1), str(tmp_path / "wal")]
    outcome = run(line, environ)
    assert outcome.code == 2
    # A segment may take the time that it takes at 256 KiB a second.
    assert outcome.seconds - outcome.waited < SECONDS + len(segment(1)) / (256 << 10) + SLACK
    assert not (tmp_path / "wal").exists()


def test_an_answer_from_the_spool_takes_part_in_the_deadline(tmp_path: Path) -> None:
    name = segment_name(1)
    os.mkfifo(tmp_path / "requests")
    reader = os.open(tmp_path / "requests", os.O_RDONLY | os.O_NONBLOCK)
    try:
        began = time.monotonic()
        (tmp_path / f"{name}.part").touch()
        background_client.await_work(opened(tmp_path), name, Deadline(0.6, total=True))
        assert 0.2 < time.monotonic() - began < 100  # it would wait for ever
    finally:
        os.close(reader)


def test_a_backup_whose_store_stays_down_fails_in_time_and_says_why(
    moto: StoreServer, proxy: FaultProxy, postgres: PostgresServer
) -> None:
    """What is uploaded in parts, too, which was silent for eight minutes once."""
    body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
    proxy.add(Fault("PUT", "partNumber", status=503, body=body, times=10_000))
    proxy.add(Fault("PUT", ".tar", status=503, body=body, times=10_000))
    line = ["--timeout", "15", "--immediate-checkpoint", "--endpoint-url", proxy.endpoint, moto.new_bucket(), "main"]
    outcome = run([program("backup"), *line], {**moto.environ, **postgres.client_environ})
    assert outcome.code == 1
    assert outcome.seconds - outcome.waited < 15 + SLACK + 5
    assert "SlowDown: Reduce your request rate." in outcome.logged
    warnings = [line for line in outcome.logged.splitlines() if "WARNING" in line and "trying again in" in line]
    assert 1 <= len(warnings) <= 3, outcome.logged
    assert "SlowDown" in warnings[0]


def test_a_long_transfer_is_not_limited_by_the_timeout(rclone_s3: StoreServer, postgres: PostgresServer) -> None:
    """The limit is longer than a store on a busy machine is ever silent, and the transfer longer than the limit."""
    store = rclone_s3
    line = ["--timeout", "6", "--immediate-checkpoint", "--max-bandwidth", "3MB", "--endpoint-url", store.endpoint]
    outcome = run([program("backup"), *line, store.new_bucket(), "main"], {**store.environ, **postgres.client_environ})
    assert outcome.code == 0, outcome
    assert outcome.seconds > 7


@pytest.mark.parametrize("value", ["0", "-1", "soon", ""])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(value: str, tmp_path: Path) -> None:
    outcome = run([program("backup-list"), f"--timeout={value}", f"file://{tmp_path}", "main"], {})
    assert outcome.code == 3
    assert "--timeout" in outcome.logged


def test_the_document_names_every_default() -> None:
    text = DOCUMENT.read_text()
    for name, seconds in TOTAL.items():
        assert re.search(rf"`{name}`.*\| {seconds:.0f} s ", text), name
    for name in set(SUMMARIES) - set(TOTAL):
        assert re.search(rf"`{name}`.*\| {RUN_OF_FAILURES:.0f} s ", text), name
    assert re.search(rf"`--test`.*\| {TEST:.0f} s ", text)
