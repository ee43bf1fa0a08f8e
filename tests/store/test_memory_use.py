"""Streamed transfers use as much memory as the contract says, whatever the size of the object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.cases import StoreCase

GIB = 1 << 30
MIB = 1 << 20

PROGRAM = """
import json, os, sys, zlib
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions

url, provider, endpoint, size, part_size, concurrency = json.loads(sys.argv[1])
store = open_store(url, provider, StoreOptions(endpoint_url=endpoint))
block = os.urandom(1 << 20)
big = f"{store.url.path}/big".lstrip("/")
store.put(big, block[:100])

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

def chunks(size):
    for number in range(size >> 20):
        yield number.to_bytes(8) + block[8:]

def crc(pieces):
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value

before = peak()
written = store.put_stream(big, chunks(size), part_size=part_size, concurrency=concurrency)
after_writing = peak()
same = crc(store.read(big, range_size=part_size, concurrency=concurrency)) == crc(chunks(size))
print(json.dumps([written, same, after_writing - before, peak() - before]))
"""


def measure(case: StoreCase, url: str, size: int, part_size: int, concurrency: int) -> tuple[int, bool, int, int]:
    """Write and read an object in a process of its own; return size, equality, and growth of its peak RSS for both."""
    arguments = json.dumps([url, case.provider, case.endpoint or None, size, part_size, concurrency])
    environ = {"PATH": os.environ["PATH"], **case.environ}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments], env=environ, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    written, same, writing, both = json.loads(done.stdout)
    return written, same, writing, both


@pytest.mark.long
@pytest.mark.parametrize("kind", ["rclone", "local"])
def test_one_gibibyte_in_bounded_memory(kind: str, rclone: StoreCase, tmp_path: Path) -> None:
    case = rclone if kind == "rclone" else StoreCase("local", "file://", None)
    part_size, concurrency = 8 * MIB, 4
    written, same, writing, both = measure(case, case.new_url(tmp_path), GIB, part_size, concurrency)
    assert (written, same) == (GIB, True)
    # The contract's formula, and what the allocators of two languages keep for themselves.
    assert writing < part_size * (concurrency + 2) + 32 * MIB
    assert both < part_size * (concurrency + 2) + 96 * MIB


@pytest.mark.slow
def test_memory_does_not_grow_with_the_object(cloud: StoreCase, tmp_path: Path) -> None:
    case = cloud
    if case.name in ("moto", "rclone"):
        pytest.skip("moto keeps objects in memory, rclone is measured above")
    part_size = 5 * MIB
    written, same, writing, _ = measure(case, case.new_url(tmp_path), 128 * MIB, part_size, 2)
    assert (written, same) == (128 * MIB, True)
    assert writing < part_size * 4 + 32 * MIB


BOUNDED = """
import json, sys
from barman_cloud.errors import ObjectTooLargeError
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions

url, provider, endpoint = json.loads(sys.argv[1])
store = open_store(url, provider, StoreOptions(endpoint_url=endpoint))
store.get("small", limit=100)

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

before = peak()
try:
    store.get("large", limit=1 << 20)
except ObjectTooLargeError:
    print(peak() - before)
"""


@pytest.mark.parametrize("kind", ["rclone", "azurite", "fake-gcs", "local"])
def test_an_object_above_the_limit_is_not_read_into_memory(
    kind: str, rclone: StoreCase, azure: StoreCase, google: StoreCase, tmp_path: Path
) -> None:
    cases = {"rclone": rclone, "azurite": azure, "fake-gcs": google, "local": StoreCase("local", "file://", None)}
    case = cases[kind]
    url = case.new_url(tmp_path)
    with case.open(url) as store:
        store.put("small", b"x")
        store.put("large", bytes(96 * MIB))
    arguments = json.dumps([url, case.provider, case.endpoint])
    environ = {"PATH": os.environ["PATH"], **case.environ}
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, arguments], env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32 * MIB
