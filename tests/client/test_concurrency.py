"""Many commands at once, the same one twice, and the environments that the client sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.pod import Pod, can_isolate
from tests.support.segments import Cluster, segment, segment_name
from tests.support.servers import AZURITE_ACCOUNT, AZURITE_KEY, StoreServer, rclone_s3

SEGMENTS = 8
PATIENCE = ("--timeout", "100")
"""So many at once take their time on a busy machine; a fetch is given up after 25 s by itself."""


def archive(pod: Pod, path: Path) -> list[str | Path]:
    return ["barman-cloud-wal-archive", "--gzip", *PATIENCE, *pod.endpoint, *pod.cloud, *pod.place, path]


def fetch(pod: Pod, name: str) -> list[str | Path]:
    target = pod.volume / "spool" / f"{name}.tmp"
    return ["barman-cloud-wal-restore", *PATIENCE, *pod.endpoint, *pod.cloud, *pod.place, name, target]


def test_many_at_once(any_store: StoreServer, new_pod: Callable[[StoreServer], Pod], cluster: Cluster) -> None:
    pod = new_pod(any_store)
    paths = [cluster.add(number) for number in range(1, SEGMENTS + 1)]
    assert [answer.code for answer in pod.run_all([archive(pod, path) for path in paths])] == [0] * SEGMENTS
    ahead = [segment_name(number) for number in range(5, 5 + SEGMENTS)]
    codes = [answer.code for answer in pod.run_all([fetch(pod, name) for name in ahead])]
    assert codes == [0] * 4 + [1] * 4
    for number in range(5, SEGMENTS + 1):
        assert (pod.volume / "spool" / f"{segment_name(number)}.tmp").read_bytes() == segment(number)


def test_the_same_segment_twice_and_at_once(
    any_store: StoreServer, new_pod: Callable[[StoreServer], Pod], cluster: Cluster
) -> None:
    pod = new_pod(any_store)
    path = cluster.add(1)
    answers = pod.run_all([archive(pod, path)] * 4)
    assert [answer.code for answer in answers] == [0] * 4, answers
    assert pod.run(*archive(pod, path)).code == 0
    cluster.add(1, content=1)
    changed = pod.run(*archive(pod, path))
    assert changed.code == 1
    assert path.name in changed.stderr


def test_a_container_can_write_nowhere_else(moto: StoreServer, new_pod: Callable[[StoreServer], Pod]) -> None:
    if not can_isolate():
        pytest.skip("no user namespaces here")
    pod = new_pod(moto)
    assert pod.run("touch", "/file").code != 0
    assert pod.run("touch", pod.volume / "tmp" / "file").code == 0
    assert pod.run("id", "-u").stdout == "26026\n"
    assert pod.run("sh", "-c", "echo ${HOME-unset}").stdout == "unset\n"


@pytest.mark.parametrize(
    "environ",
    [
        {"AWS_SESSION_TOKEN": "token"},
        {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"},
        {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported"},
        {"AWS_MAX_ATTEMPTS": "5"},
        {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"},
    ],
    ids=["session-token", "checksum-when-required", "checksum-when-supported", "max-attempts", "no-proxy"],
)
def test_aws_environment(
    environ: dict[str, str], moto: StoreServer, new_pod: Callable[[StoreServer], Pod], cluster: Cluster
) -> None:
    round_trip(new_pod(moto), cluster, environ)


@pytest.mark.parametrize("access", ["key", "sas", "connection-string"])
def test_azure_environment(
    access: str, azurite: StoreServer, new_pod: Callable[[StoreServer], Pod], cluster: Cluster
) -> None:
    pod = new_pod(azurite)
    environ = dict(azurite.environ)
    connection = environ.pop("AZURE_STORAGE_CONNECTION_STRING")
    account = {"AZURE_STORAGE_ACCOUNT": AZURITE_ACCOUNT}
    given = {
        "key": account | {"AZURE_STORAGE_KEY": AZURITE_KEY},
        "sas": account | {"AZURE_STORAGE_SAS_TOKEN": account_sas()},
        "connection-string": {"AZURE_STORAGE_CONNECTION_STRING": connection},
    }
    pod.store = StoreServer(
        azurite.name, azurite.provider, azurite.endpoint, given[access], azurite.prefix, azurite.make_bucket
    )
    round_trip(pod, cluster, {})


def account_sas() -> str:
    """Return an account SAS for the emulator (Azure docs: Create an account SAS)."""
    import base64
    import hashlib
    import hmac
    from urllib.parse import urlencode

    fields = {"sv": "2020-04-08", "ss": "b", "srt": "sco", "sp": "rwdlact", "se": "2099-01-01T00:00:00Z"}
    text = "\n".join(
        [AZURITE_ACCOUNT, fields["sp"], fields["ss"], fields["srt"], "", fields["se"], "", "", fields["sv"], ""]
    )
    digest = hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest()
    return urlencode({**fields, "sig": base64.b64encode(digest).decode()})


@pytest.fixture(scope="module")
def tls_store() -> Iterator[StoreServer]:
    with rclone_s3(tls=True) as store:
        yield store


def test_private_certificate_authority(
    tls_store: StoreServer, new_pod: Callable[[StoreServer], Pod], cluster: Cluster
) -> None:
    pod = new_pod(tls_store)
    round_trip(pod, cluster, {})
    path = cluster.add(2)
    untrusted = pod.run(*archive(pod, path), environ={"AWS_CA_BUNDLE": ""})
    assert 0 < untrusted.code <= 4


def round_trip(pod: Pod, cluster: Cluster, environ: dict[str, str]) -> None:
    """Archive a segment and fetch it back in this environment."""
    path = cluster.add(1)
    pod.environ.update(environ)
    archived = pod.run(*archive(pod, path))
    assert archived.code == 0, archived.stderr
    fetched = pod.run(*fetch(pod, path.name))
    assert fetched.code == 0, fetched.stderr
    assert (pod.volume / "spool" / f"{path.name}.tmp").read_bytes() == segment(1)
