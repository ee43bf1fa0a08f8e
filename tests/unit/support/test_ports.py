"""A port that was found free stays so until it is used."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

from tests.support.ports import free_port
from tests.support.privileges import PROJECT

_ASK = "import json; from tests.support.ports import free_port; print(json.dumps([free_port() for _ in range(50)]))"


def test_no_other_process_gets_the_same_ports() -> None:
    ours = {free_port() for _ in range(50)}
    asked = subprocess.run([sys.executable, "-c", _ASK], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ours.isdisjoint(json.loads(asked.stdout))
    assert len(ours) == 50, "nor the same process twice in a row"


def test_a_port_that_is_taken_is_left_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert taken.getsockname()[1] not in {free_port() for _ in range(500)}
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert port not in {free_port() for _ in range(500)}
