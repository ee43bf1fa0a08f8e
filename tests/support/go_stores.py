"""MinIO and versitygw, where they are installed: S3 servers of other makes, which no test needs.

Both come with ``go install``: ``github.com/minio/minio@latest``, ``github.com/versity/versitygw/cmd/versitygw@latest``.
``make store-table`` runs the conformance suite on them, and the demo can be shown on them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from barman_cloud.store.open import open_store
from tests.support.ports import background, free_port
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY, StoreServer, s3_environ, scratch_directory


def find_program(name: str) -> Path | None:
    """Return the program of PATH, GOBIN or Go's own directory of that name, or None."""
    places = [os.environ.get("GOBIN"), f"{os.environ.get('GOPATH') or Path.home() / 'go'}/bin"]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(place for place in places if place))
    return Path(found) if found else None


def version_of(program: Path) -> str:
    """Return the version of its module that ``go install`` built a program from; empty if it can't be told."""
    go = shutil.which("go")
    if go is None:
        return ""
    shown = subprocess.run([go, "version", "-m", program], capture_output=True, text=True, check=False).stdout
    found = re.search(r"^\s+mod\s+\S+\s+(\S+)", shown, re.MULTILINE)
    return found[1] if found else ""


@contextlib.contextmanager
def minio(program: Path) -> Iterator[StoreServer]:
    """One MinIO server on one directory."""
    environ = {
        **os.environ,
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
        "MINIO_SITE_REGION": REGION,
        "MINIO_UPDATE": "off",
        "MINIO_BROWSER": "off",
        "MINIO_CALLHOME_ENABLE": "off",
    }
    with scratch_directory() as directory:
        port = free_port()
        arguments = ["server", "--quiet", "--address", f"127.0.0.1:{port}", "--certs-dir", str(directory / "certs")]
        yield from _served("minio", [str(program), *arguments, str(directory / "objects")], port, directory, environ)


@contextlib.contextmanager
def versitygw(program: Path) -> Iterator[StoreServer]:
    """One versitygw server, whose objects are files; with versions, which object lock needs."""
    with scratch_directory() as directory:
        port = free_port()
        for name in ("objects", "versions"):
            (directory / name).mkdir()
        arguments = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{port}", "--quiet"]
        backend = ["posix", "--versioning-dir", str(directory / "versions"), str(directory / "objects")]
        yield from _served("versitygw", [str(program), *arguments, *backend], port, directory, dict(os.environ))


def _served(
    name: str, command: list[str], port: int, directory: Path, environ: dict[str, str]
) -> Iterator[StoreServer]:
    endpoint = f"http://127.0.0.1:{port}"

    def make_bucket(bucket: str) -> None:
        with open_store(f"s3://{bucket}", environ=s3_environ(endpoint)) as store:
            store.create_bucket()

    with background(command, port=port, log=directory / "log", environ=environ) as process:
        yield StoreServer(
            name=name,
            provider="aws-s3",
            endpoint=endpoint,
            environ=s3_environ(endpoint),
            prefix="s3://",
            make_bucket=make_bucket,
            pid=process.pid,
            options=("--endpoint-url", endpoint),
        )
