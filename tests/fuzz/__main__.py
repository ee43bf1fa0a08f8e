"""Fuzzing led by coverage, with atheris where it is installed: ``python -m tests.fuzz [--seconds N] [TARGET ...]``.

Hypothesis spoils good bytes; libFuzzer, which atheris is, goes on from whatever input reached code that none had
reached. Each target runs in a process of its own. What fails is kept in ``.fuzz/`` and named at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FAILURES = Path(".fuzz")


def main() -> int:
    """Run the targets one after another; 1 if one of them found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition(":")[0])
    parser.add_argument("--seconds", type=int, default=30, help="for each target (default 30)")
    parser.add_argument("--here", action="store_true", help="run the only target in this process")
    parser.add_argument("target", nargs="*", help="names as in tests/fuzz (default: all)")
    args = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print(
            "atheris isn't installed (pip install atheris, where it has a wheel for this Python): only Hypothesis ran"
        )
        return 0
    if args.here:
        fuzz(args.target[0], args.seconds)
    names = args.target or _names()
    FAILURES.mkdir(exist_ok=True)
    bad = []
    for name in names:
        command = [sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(args.seconds), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = [line for line in done.stderr.splitlines() if "cov:" in line or line.startswith("Done ")]
        print(
            f"{name:20} {'found something' if done.returncode else 'held'}  {last[-1].strip() if last else ''}",
            flush=True,
        )
        if runs := re.search(r"^Done (\d+) runs", done.stderr, re.MULTILINE):
            with (FAILURES / "inputs").open("a") as file:
                file.write(f"{name} {runs[1]}\n")
        if done.returncode:
            bad.append(name)
            print(done.stderr[-3000:], file=sys.stderr)
    return 1 if bad else 0


def _names() -> list[str]:
    from tests.fuzz.targets import targets

    return list(targets(Path()))


def fuzz(name: str, seconds: int) -> None:
    """Feed one target, and end the process."""
    import atheris

    with atheris.instrument_imports(include=["barman_cloud"]):
        from barman_cloud.errors import BarmanCloudError
        from tests.fuzz.targets import targets

    directory = Path(tempfile.mkdtemp(prefix="fuzz-"))
    target = targets(directory)[name]
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, sample in enumerate(target.samples):
        (corpus / str(number)).write_bytes(sample)

    def one(data: bytes) -> None:
        with contextlib.suppress(BarmanCloudError):
            target.feed(data)

    options = [f"-max_total_time={seconds}", f"-artifact_prefix={FAILURES}/{name}-", "-max_len=65536", "-seed=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
