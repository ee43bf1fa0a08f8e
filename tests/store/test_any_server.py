"""The record of what each server does is what it does, and the suite can be pointed at a server from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from barman_cloud.store.open import open_store
from tests.store import given, results
from tests.store.cases import StoreCase
from tests.support.privileges import PROJECT
from tests.support.servers import StoreServer


@pytest.mark.long
def test_a_server_answers_as_the_record_says(cloud: StoreCase) -> None:
    """``make store-table`` writes the record; what it says of servers that run here can't get out of date unnoticed."""
    if cloud.name == "given":
        pytest.skip("about the servers that the tests bring along")
    recorded = results.read(cloud.name)["answers"]
    assert json.loads(json.dumps(asdict(cloud.answers))) == recorded


@pytest.mark.long
@pytest.mark.skipif(given.GIVEN is not None, reason="runs the suite on a server of its own")
def test_the_suite_runs_below_a_folder_of_any_bucket_and_leaves_it_as_it_was(
    rclone_s3: StoreServer, tmp_path: Path
) -> None:
    url = rclone_s3.new_bucket()
    with open_store(url, environ=rclone_s3.environ) as store:
        store.put("a/path/somebody/elses", b"x")
        store.put("other", b"x")
    found = tmp_path / "results.json"
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        **{name: value for name, value in rclone_s3.environ.items() if name != "AWS_ENDPOINT_URL"},
        given.URL: f"{url}/a/path",
        given.ENDPOINT: rclone_s3.endpoint,
        given.RESULTS: str(found),
    }
    some = "one_level or start_after or overwrites or missing_key or refused_deletions or holds_and_retention_on_azure"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/store", "-k", some]
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    record = json.loads(found.read_text())
    assert (record["passed"], record["failed"]) == (5, [])
    assert record["skipped"] == {"about azurite, or stores of its kind": 1}
    assert record["answers"]["credentials"]
    with open_store(url, environ=rclone_s3.environ) as store:
        assert [info.key for info in store.list("")] == ["a/path/somebody/elses", "other"]
