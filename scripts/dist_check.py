"""Does the same source give the same packages, byte for byte? ``python -m scripts.dist_check [--out dist]``

Wheel and sdist are built twice, from two copies of the source that differ in what mustn't matter (place, times and
modes of files, umask, locale, time zone), and the wheel a third time from the sdist, as a distribution does. Exit
code 1 and the names of what differs if they aren't equal; else the packages are in ``--out``, with ``SHA256SUMS``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parent.parent
PARTS = ("bin", "completions", "man", "src", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
"""What packages are made of."""


def epoch() -> str:
    """Return the time that goes into packages: ``SOURCE_DATE_EPOCH``, or when the last commit was made."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    told = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return told or "1767225600"


def copy_source(target: Path, *, strange: bool = False) -> Path:
    """Copy what packages are made of; ``strange`` gives the files other times and modes."""
    target.mkdir(parents=True)
    for name in PARTS:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info"))
        else:
            shutil.copy2(source, target / name)
    if strange:
        for number, path in enumerate(sorted(target.rglob("*"))):
            if path.is_file():
                path.chmod(path.stat().st_mode & 0o700 | 0o040)
            os.utime(path, (10**9 + number, 10**9 + number))
    return target


def build(source: Path, out: Path, when: str, *what: str, **environ: str) -> dict[str, Path]:
    """Build ``what`` (``--wheel``, ``--sdist``; nothing means both) and return the files by name."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *what, str(source)]
    done = subprocess.run(
        command, env={**os.environ, "SOURCE_DATE_EPOCH": when, **environ}, capture_output=True, text=True, check=False,
        umask=0o077 if environ else 0o022,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return {path.name: path for path in sorted(out.iterdir())}


def differences(one: Path, two: Path) -> list[str]:
    """Return what differs between two packages of one kind; empty if they are equal, byte for byte."""
    if one.read_bytes() == two.read_bytes():
        return []
    first, second = members(one), members(two)
    names = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    return [f"{one.name}: {name}" for name in names] or [f"{one.name}: order or form of its members"]


def members(package: Path) -> dict[str, tuple[object, ...]]:
    """Return of each member what must be equal."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return {
                info.filename: (info.date_time, info.external_attr, hashlib.sha256(wheel.read(info)).hexdigest())
                for info in wheel.infolist()
            }
    with tarfile.open(package) as sdist:
        return {
            info.name: (info.mtime, info.mode, info.uid, info.gid, info.uname, info.gname, _digest(sdist, info))
            for info in sdist.getmembers()
        }


def _digest(sdist: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    file = sdist.extractfile(info)
    return hashlib.sha256(file.read() if file else b"").hexdigest()


def check(directory: Path, when: str) -> tuple[dict[str, Path], list[str]]:
    """Build in ``directory`` and return the packages, and what differs between them."""
    first = build(copy_source(directory / "one"), directory / "first", when)
    elsewhere = copy_source(directory / "elsewhere" / "two", strange=True)
    second = build(elsewhere, directory / "second", when, TZ="Pacific/Apia", LC_ALL="C", PYTHONHASHSEED="7")
    unpacked = directory / "unpacked"
    sdist = next(path for name, path in first.items() if name.endswith(".tar.gz"))
    with tarfile.open(sdist) as file:
        file.extractall(unpacked, filter="data")
    third = build(next(unpacked.iterdir()), directory / "third", when, "--wheel")
    found = sorted(first.keys() ^ second.keys())
    for name, path in first.items():
        for other in (second, third):
            if name in other:
                found += differences(path, other[name])
    return first, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PROJECT / "dist", help="where the packages go (default dist)")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="barman-cloud-dist-") as directory:
        packages, found = check(Path(directory), epoch())
        if found:
            print("the same source gave different packages:", *found, sep="\n  ", file=sys.stderr)
            return 1
        out.mkdir(exist_ok=True)
        sums = []
        for name, path in packages.items():
            shutil.copyfile(path, out / name)
            sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n")
        (out / "SHA256SUMS").write_text("".join(sums))
        print("built twice and once from the sdist, all the same:", *sums, sep="\n  ", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
