"""How long does the tutorial take somebody who has nothing installed? ``python -m scripts.newcomer [--write]``

Builds the wheel, then runs the page as it stands, from ``python3 -m venv`` and ``pip install`` to the recovered table,
with S3 by ``rclone`` and PostgreSQL of the tests. ``--write`` puts the figures into the page.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.installations import newest_installation
from tests.support.ports import free_port
from tests.support.postgres import temporary_server_directory
from tests.support.privileges import PROJECT
from tests.support.scenes import TUTORIAL, Scene, Stage, run_page
from tests.support.servers import rclone_s3

from scripts.dist_check import build, copy_source

BEGIN, END = "<!-- newcomer: begin -->\n", "<!-- newcomer: end -->\n"
_BLOCK = re.compile(r"^=== (\S+) (\d+\.\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Times:
    """What a run took, in seconds."""

    install: float
    rest: float
    """From the first command after ``pip install`` to the end of the page."""
    told: str
    """What the commands printed."""


def pip_environment(directory: Path) -> dict[str, str]:
    """Build the wheel in ``directory``, and return the variables with which ``pip install barman-cloud`` installs it.

    Everything else comes from the package index, in the versions that the project pins.
    """
    wheel = next(iter(build(copy_source(directory / "source"), directory / "dist", "1767225600", "--wheel").values()))
    pins = directory / "constraints.txt"
    pins.write_text(f"barman-cloud @ {wheel.as_uri()}\n{(PROJECT / 'constraints.txt').read_text()}")
    network = ("PIP_", "SSL_", "HTTP", "http", "no_proxy", "NO_PROXY")
    kept = {name: value for name, value in os.environ.items() if name.startswith(network)}
    return {**kept, "PIP_CONSTRAINT": str(pins), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def measure() -> Times:
    """Run the tutorial; AssertionError with what was printed if a command of it fails."""
    with temporary_server_directory() as root, temporary_server_directory() as dist, rclone_s3() as store:
        stage = Stage(newest_installation(), store=store)
        scene = Scene(server=False, environ=pip_environment(dist))
        told = run_page(TUTORIAL, scene, stage, root, free_port(), ("newcomer", "s3"))
    moments = [float(moment) for _, moment in _BLOCK.findall(told)]
    return Times(moments[1] - moments[0], moments[-1] - moments[1], told)


def text(times: Times) -> str:
    """Return the sentence for the page."""
    return (
        f"The commands of this page took {times.install + times.rest:.0f} s in all on a machine of "
        f"{os.cpu_count()} processors, with S3 on the same machine: {times.install:.0f} s for the environment and "
        f"`pip install`, {times.rest:.0f} s from the first\ncommand to the recovered table and the end of the page "
        "(`python -m scripts.newcomer` measures it). The rest of the ten minutes is reading.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the figures into the page")
    written = text(measure())
    if parser.parse_args().write:
        before, _, rest = TUTORIAL.read_text().partition(BEGIN)
        TUTORIAL.write_text(f"{before}{BEGIN}{written}{END}{rest.partition(END)[2]}")
    print(written, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
