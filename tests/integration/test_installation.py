"""What users install: the wheel in clean environments, the Debian package, and the units of systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.dist_check import PARTS, build, copy_source

from barman_cloud import __version__
from barman_cloud.cli.commands import OWN, PROGRAMS
from barman_cloud.cli.examples import REPOSITORY
from tests.support.privileges import PROJECT
from tests.support.segments import Cluster

SYSTEMD = PROJECT / "packaging" / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
LEAST = {
    "UMask=0077", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict",
    "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "RestrictNamespaces=yes", "SystemCallErrorNumber=EPERM",
}  # fmt: skip


def interpreters() -> Iterator[str]:
    """Every Python from 3.11 on that can make environments here, the oldest first."""
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
    yield from (found[minor] for minor in sorted(found))


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


def has_manuals_and_completions(share: Path, packed: str = "", zsh: str = "zsh/site-functions") -> None:
    """See that there is a manual page for each command, and for each shell what completes each program."""
    pages = {path.name for path in (share / "man/man1").glob("barman-cloud*")}
    assert pages == {f"barman-cloud{name}.1{packed}" for name in ("", *(f"-{name}" for name in (*PROGRAMS, *OWN)))}
    programs = {f"barman-cloud{name}" for name in ("", *(f"-{name}" for name in PROGRAMS))}
    assert {path.name for path in (share / "bash-completion/completions").glob("barman-cloud*")} == programs
    assert {path.stem for path in (share / "fish/vendor_completions.d").glob("barman-cloud*")} == programs
    assert (share / zsh / "_barman_cloud").read_text().startswith("#compdef barman-cloud barman-cloud-backup ")


def test_whatever_builds_packages_has_all_their_parts() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    targets = project["tool"]["hatch"]["build"]["targets"]
    sources = {*targets["wheel"]["packages"], *targets["wheel"]["shared-data"], *targets["wheel"]["shared-scripts"]}
    needed = {source.partition("/")[0] for source in sources} | {"README.md", "LICENSE", "CHANGELOG.md"}
    assert needed == set(targets["sdist"]["include"])
    assert needed | {"pyproject.toml"} == set(PARTS)
    container = (PROJECT / "packaging" / "container" / "Containerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", container, re.MULTILINE) for word in line.split()}
    assert copied == needed | {"pyproject.toml", "constraints.txt"}


@pytest.mark.long
def test_wheel_and_sdist_work_in_clean_environments(tmp_path: Path) -> None:
    packages = build(copy_source(tmp_path / "source"), tmp_path / "dist", "1767225600")
    sdist, wheel = sorted(packages.values(), key=lambda path: path.suffix)
    pythons = list(interpreters())
    assert pythons
    # The wheel for each of them, and as a distribution does, from the source for the newest.
    for number, (python, package) in enumerate([*((python, wheel) for python in pythons), (pythons[-1], sdist)]):
        place = tmp_path / f"environment-{number}"
        run(python, "-m", "venv", place)
        run(place / "bin" / "pip", "install", "--quiet", "--constraint", PROJECT / "constraints.txt", package)
        works(place / "bin", tmp_path / f"used-{number}")
        has_manuals_and_completions(place / "share")
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
    assert f"Homepage: {REPOSITORY}\n" in control
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
    has_manuals_and_completions(root / "usr/share", ".gz", "zsh/vendor-completions")
    manual = run("man", "-P", "cat", root / "usr/share/man/man1/barman-cloud-restore.1.gz").stdout
    assert "Restore a base backup into a directory." in manual
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
