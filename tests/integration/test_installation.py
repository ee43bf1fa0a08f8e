"""What users install: the wheel in clean environments, the Debian package, and the units of systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.dist_check import build, copy_source

from barman_cloud import __version__
from barman_cloud.cli.commands import OWN, PROGRAMS
from tests.support.privileges import PROJECT
from tests.support.segments import Cluster

SYSTEMD = PROJECT / "packaging" / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
LEAST = {
    "UMask=0077", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict",
    "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "RestrictNamespaces=yes", "SystemCallErrorNumber=EPERM",
}  # fmt: skip


def interpreters() -> Iterator[str]:
    """The oldest and the newest Python from 3.11 on that can make environments here."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found: dict[int, str] = {}
    for minor in range(11, 20):
        for name in (f"python3.{minor}", *sorted(map(str, root.glob(f"versions/3.{minor}.*/bin/python3")))):
            if shutil.which(name) is None:
                continue
            command = [name, "-c", "import ensurepip, sys; print(sys.version_info[1])"]
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            if told.returncode == 0 and told.stdout.strip() == str(minor):
                found.setdefault(minor, name)
    yield from {found[min(found)], found[max(found)]} if found else ()


def run(*words: str | os.PathLike[str], **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an environment that has nothing of ours, except for the way to the package index."""
    network = ("PIP_", "SSL_", "HTTP", "http", "no_proxy", "NO_PROXY")
    kept = {name: value for name, value in os.environ.items() if name.startswith(network)}
    with tempfile.TemporaryDirectory() as home:
        clean = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, **kept, **environ}
        done = subprocess.run(words, env=clean, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def works(programs: Path, directory: Path) -> None:
    """See that programs of a clean environment archive and fetch a segment."""
    assert run(programs / "barman-cloud", "--version").stdout == f"barman-cloud {__version__}\n"
    told = run(programs / "barman-cloud", "--help").stdout
    assert all(name in told for name in (*PROGRAMS, *OWN))
    place = Cluster(directory / "data").add(1)
    url = f"file://{directory}/store"
    (directory / "store").mkdir()
    run(programs / "barman-cloud-wal-archive", "--zstd", url, "main", place)
    run(programs / "barman-cloud-wal-restore", url, "main", place.name, directory / "fetched")
    assert (directory / "fetched").read_bytes() == place.read_bytes()


@pytest.mark.long
def test_the_wheel_works_in_clean_environments(tmp_path: Path) -> None:
    packages = build(copy_source(tmp_path / "source"), tmp_path / "dist", "1767225600", "--wheel")
    (wheel,) = packages.values()
    pythons = list(interpreters())
    assert pythons
    for number, python in enumerate(pythons):
        place = tmp_path / f"environment-{number}"
        run(python, "-m", "venv", place)
        run(place / "bin" / "pip", "install", "--quiet", "--constraint", PROJECT / "constraints.txt", wheel)
        works(place / "bin", tmp_path / f"used-{number}")
        assert {path.name for path in (place / "bin").glob("barman-cloud-*")} == {
            f"barman-cloud-{name}" for name in PROGRAMS
        }


@pytest.mark.long
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="Debian's packages are made on Debian")
def test_the_debian_package_has_programs_that_work(tmp_path: Path) -> None:
    (python, *_) = interpreters()
    run(PROJECT / "packaging" / "debian" / "build", tmp_path / "out", EXTRAS="", PYTHON=python)
    (package,) = (tmp_path / "out").iterdir()
    run("dpkg-deb", "--extract", package, tmp_path / "root")
    control = run("dpkg-deb", "--field", package).stdout
    assert f"Version: {__version__}-1\n" in control
    root = tmp_path / "root"
    assert {path.name for path in (root / "usr/bin").iterdir()} == {
        "barman-cloud", *(f"barman-cloud-{name}" for name in PROGRAMS)
    }  # fmt: skip
    for link in (root / "usr/bin").iterdir():
        program = root / str(link.readlink()).lstrip("/")
        assert program.read_bytes().startswith(b"#!/opt/barman-cloud/bin/python"), program
        assert str(tmp_path).encode() not in program.read_bytes()
        # The package would be installed at its place; here its programs are told where it is.
        program.write_text(re.sub(r"\A#!/opt", f"#!{root}/opt", program.read_text()))
    works(root / "opt/barman-cloud/bin", tmp_path / "used")
    assert {path.name for path in (root / "lib/systemd/system").glob("*.service")} == {path.name for path in UNITS}
    assert (root / "etc/barman-cloud/credentials").stat().st_mode & 0o777 == 0o700


def test_every_unit_has_the_least_rights() -> None:
    assert len(UNITS) == 8
    for unit in UNITS:
        lines = set(unit.read_text().splitlines())
        assert LEAST - lines == set(), unit.name
        assert lines & {"User=postgres", "User=barman"}, unit.name
        (command,) = (line for line in lines if line.startswith("ExecStart="))
        options = r"cron|wal-receive %i|[a-z-]+ .*\$[A-Z]+_OPTIONS %i"
        assert re.fullmatch(rf"ExecStart=/usr/bin/barman-cloud (?:{options})", command), unit.name
        assert command.split()[1] in {**PROGRAMS, **OWN}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_understands_every_unit(tmp_path: Path) -> None:
    names = []
    for file in (*UNITS, *SYSTEMD.glob("*.timer")):
        place = tmp_path / file.name.replace("@", "@main")
        place.write_text(file.read_text().replace("/usr/bin/barman-cloud ", f"{shutil.which('true')} "))
        names.append(str(place))
    drop_in = tmp_path / "barman-cloud-.service.d"
    drop_in.mkdir()
    shutil.copy(SYSTEMD / "barman-cloud-.service.d" / "credentials.conf.example", drop_in / "credentials.conf")
    asked = ["systemd-analyze", "verify", "--man=no"]
    done = subprocess.run([*asked, *names], capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert (done.returncode, told) == (0, []), done.stderr
    (tmp_path / "broken.service").write_text("[Service]\nExecStart=nothing\nProtectSystem=maybe\n")
    broken = subprocess.run([*asked, str(tmp_path / "broken.service")], capture_output=True, text=True, check=False)
    assert "maybe" in broken.stderr
