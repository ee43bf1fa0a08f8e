"""The images that people build: the Containerfile of ``packaging``, and those in the documentation.

Nothing here can build them without a builder that works and the registry of the base image. So their text is read as a
builder reads it, the packages that they install are looked up, and the steps of pip are taken on this machine.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.dist_check import copy_source

from tests.integration.test_installation import interpreters, run, works
from tests.support.documented import PAGES, blocks
from tests.support.privileges import PROJECT

CONTAINERFILE = PROJECT / "packaging" / "container" / "Containerfile"
INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN",
    "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
TEXTS = {
    "packaging": CONTAINERFILE.read_text(),
    **{block.place: block.body for page in PAGES for block in blocks(page) if block.language == "dockerfile"},
}


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Containerfile with what follows them, on one line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def apt_packages(text: str) -> Iterator[str]:
    """Yield the packages of Debian that a Containerfile installs."""
    for name, rest in instructions(text):
        if name == "RUN":
            for found in re.findall(r"apt-get install ([^&;|]*)", rest):
                yield from (word for word in found.split() if not word.startswith("-"))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_builder_could_read_it(text: str) -> None:
    stages: list[str] = []
    arguments = {rest.partition("=")[0] for name, rest in instructions(text) if name == "ARG"}
    for name, rest in instructions(text):
        assert name in INSTRUCTIONS, name
        if name == "FROM":
            image, *alias = rest.split()
            assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+/[\w./-]+:[\w.${}-]+", image), f"{image}: whole name, and a tag"
            assert set(re.findall(r"\$\{(\w+)\}", image)) <= arguments
            stages.append(alias[1] if alias else "")
            assert not alias or alias[0] == "AS"
            continue
        assert stages or name == "ARG", f"{name} before the first FROM"
        if name == "COPY" and (source := re.match(r"--from=(\S+)", rest)):
            assert source[1] in stages[:-1]
        if name in ("ENTRYPOINT", "CMD"):
            assert rest.startswith("["), f"{name}: the exec form, so that signals reach the command"
        if name == "RUN":
            done = subprocess.run(["bash", "-n"], input=rest, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "apt-get install" not in rest or "rm -rf /var/lib/apt/lists/*" in rest


def test_the_image_has_no_root_and_no_pip() -> None:
    final = TEXTS["packaging"].rpartition("\nFROM ")[2]
    users = [rest for name, rest in instructions(f"FROM {final}") if name == "USER"]
    assert users == ["postgres"]
    assert "pip uninstall --yes pip" in TEXTS["packaging"]


@pytest.mark.skipif(shutil.which("apt-cache") is None, reason="Debian's lists of packages are on Debian")
def test_debian_has_the_packages() -> None:
    names = sorted({name for text in TEXTS.values() for name in apt_packages(text)})
    assert len(names) >= 3
    if not list(Path("/var/lib/apt/lists").glob("*_Packages*")):  # of what is installed, there is something to tell
        pytest.skip("this machine has no lists of packages (apt-get update)")
    told = run("apt-cache", "policy", "python3", *names, LC_ALL="C").stdout
    candidates = dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)$", told, re.MULTILINE))
    assert [name for name in names if candidates.get(name, "(none)") == "(none)"] == []
    assert "no-such-package" not in run("apt-cache", "policy", "no-such-package").stdout


@pytest.mark.long
def test_the_steps_of_pip_work_here(tmp_path: Path) -> None:
    """What the image's first stage does behind ``apt-get``, with no more of the source than it copies."""
    copy_source(tmp_path / "source")
    shutil.copy(PROJECT / "constraints.txt", tmp_path / "source")
    oldest = next(interpreters())
    steps = [rest for name, rest in instructions(CONTAINERFILE.read_text()) if name == "RUN" and "apt-get" not in rest]
    (step,) = steps
    here = step.replace("/opt/", f"{tmp_path}/opt/").replace("/source", f"{tmp_path}/source")
    here = here.replace("python3 -m venv", f"{shlex.quote(oldest)} -m venv")
    run("bash", "-euc", here, PIP_DISABLE_PIP_VERSION_CHECK="1")
    programs = tmp_path / "opt/barman-cloud/bin"
    assert not (programs / "pip").exists()
    works(programs, tmp_path / "used")


@pytest.mark.long
def test_the_image_is_built(tmp_path: Path) -> None:
    builder = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if builder is None:
        pytest.skip("no podman or docker")
    base = re.search(r"^FROM (\S+)", TEXTS["packaging"], re.MULTILINE)
    assert base
    image = base[1].replace("${POSTGRES}", "17")
    pulled = subprocess.run([builder, "pull", image], capture_output=True, text=True, check=False, timeout=120)
    if pulled.returncode != 0:
        told = (pulled.stderr.strip() or "it says nothing").splitlines()[-1]
        pytest.skip(f"{builder} can't get {image}: {told}")
    tag = f"barman-cloud-test-{os.getpid()}"
    run(builder, "build", "-f", CONTAINERFILE, "-t", tag, PROJECT)
    try:
        told = run(builder, "run", "--rm", "--read-only", "--cap-drop", "all", "--network", "none", tag, "--version")
        assert told.stdout.startswith("barman-cloud ")
    finally:
        subprocess.run([builder, "rmi", "--force", tag], capture_output=True, check=False)
