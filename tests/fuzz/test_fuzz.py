"""Whatever the bytes, what comes out is a value or an error of our tree, never another exception.

``make fuzz`` does the same for longer: ``BARMAN_CLOUD_TEST_FUZZ_EXAMPLES`` says how many inputs each target gets.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barman_cloud.errors import BarmanCloudError
from tests.fuzz.target import Target
from tests.fuzz.targets import Listings, listings, targets

INPUTS = os.environ.get("BARMAN_CLOUD_TEST_FUZZ_INPUTS")
"""A file that gets a line for each target: its name, and how many inputs it was fed."""
EXAMPLES = int(os.environ.get("BARMAN_CLOUD_TEST_FUZZ_EXAMPLES", "60"))
PROVIDERS = ("aws-s3", "azure-blob-storage", "google-cloud-storage")
_DIRECTORY = Path(tempfile.gettempdir()) / f"barman-cloud-fuzz-{os.getpid()}"
TARGETS = targets(_DIRECTORY)
PIECES = (
    b"",
    b"\0",
    b"\xff",
    b"-1",
    b"9" * 30,
    b"\n",
    b"\r",
    b'"',
    b"'",
    b"&",
    b"<",
    b"/../",
    b"\x1b[31m",
    b"[" * 5000,
)
"""What is put in the place of something good."""


@pytest.fixture(autouse=True, scope="module")
def _directory() -> Iterator[None]:
    shutil.rmtree(_DIRECTORY, ignore_errors=True)  # of an earlier process of this number that was killed
    _DIRECTORY.mkdir()
    yield
    shutil.rmtree(_DIRECTORY)


@pytest.fixture(scope="module")
def server() -> Iterator[Listings]:
    with listings() as place:
        yield place


def hostile(target: Target) -> st.SearchStrategy[bytes]:
    """Good bytes with a few spots spoiled, cut off or doubled; and any bytes at all."""

    @st.composite
    def spoiled(draw: st.DrawFn) -> bytes:
        data = draw(st.sampled_from(target.samples))
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(data)))
            end = min(len(data), start + draw(st.sampled_from((0, 1, 1, 2, 8, 100, 1 << 30))))
            piece = draw(st.sampled_from(PIECES) | st.binary(max_size=8) | st.just(data[start:end] * 3))
            data = data[:start] + piece + data[end:]
        return data

    return spoiled() | st.binary(max_size=200)


def survives(name: str, target: Target) -> None:
    count = 0

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(hostile(target))
    def feed(data: bytes) -> None:
        nonlocal count
        count += 1
        with contextlib.suppress(BarmanCloudError):
            target.feed(data)

    feed()
    if INPUTS:
        with Path(INPUTS).open("a") as file:
            file.write(f"{name} {count}\n")


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_of_somebody_else(name: str) -> None:
    survives(name, TARGETS[name])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_listing_of_somebody_else(provider: str, server: Listings) -> None:
    survives(provider, server.target(provider))


@pytest.mark.parametrize("name", TARGETS)
def test_the_good_samples_are_good(name: str) -> None:
    target = TARGETS[name]
    assert target.samples
    for sample in target.samples:
        target.feed(sample)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_good_listings_are_good(provider: str, server: Listings) -> None:
    target = server.target(provider, seconds=90.0)
    found = target.feed(target.samples[0])
    assert (found.key, found.size) == ("a b", 5)  # type: ignore[attr-defined]
