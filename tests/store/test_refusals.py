"""What a store refuses, in its own words: the region it expects, keys it doesn't know, requests without a body."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from barman_cloud.errors import AccessDeniedError, BarmanCloudError, ObjectExistsError, ObjectNotFoundError, StoreError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.providers import AZURE
from tests.store.cases import StoreCase
from tests.support.fault_proxy import Fault, FaultProxy, SeenRequest

MIB = 1 << 20
NUMBERS = itertools.count()
REQUESTS: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("k", b"x"),
    "create": lambda store: store.put(f"new-{next(NUMBERS)}", b"x", if_absent=True),
    "put_stream": lambda store: store.put_stream("k", iter([bytes(6 * MIB)]), part_size=5 * MIB),
    "odd put_stream": lambda store: store.put_stream("a//k", iter([bytes(6 * MIB)]), part_size=5 * MIB),
    "get": lambda store: store.get("k"),
    "read": lambda store: list(store.read("k")),
    "head": lambda store: store.head("k"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete(["k"]),
    "lock": lambda store: store.object_lock("k"),
    "check": lambda store: store.check(),
    "create_bucket": lambda store: store.create_bucket(),
}


@pytest.fixture
def front(s3: StoreCase) -> Iterator[FaultProxy]:
    with s3.proxied() as proxy:
        yield proxy


# The region -----------------------------------------------------------------------------------------------------------

MALFORMED = (
    b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region is "
    b"wrong; expecting &#39;eu-central-1&#39;.</Message><Region>eu-central-1</Region></Error>"
)


def signed_for_another_region(seen: SeenRequest) -> bool:
    return "/eu-central-1/" not in seen.headers.get("authorization", "")


def strict(front: FaultProxy, headers: dict[str, str] | None = None) -> None:
    """Make the store refuse what isn't signed for its region, as MinIO and versitygw do, a HEAD without a word."""
    front.add(Fault(status=400, body=MALFORMED, headers=headers or {}, times=1000, only_if=signed_for_another_region))


@pytest.fixture
def bucket(s3: StoreCase, tmp_path: Path) -> str:
    url = s3.new_url(tmp_path)
    with s3.open(url) as store:
        store.put("k", b"x")
    return url


def without_region(case: StoreCase, home: Path) -> dict[str, str]:
    if case.answers.region:
        pytest.skip("this server insists on a region of its own; the tests play another")
    kept = {name: value for name, value in case.environ.items() if "REGION" not in name and name != "XDG_CACHE_HOME"}
    return {**kept, "HOME": str(home)}


@pytest.mark.parametrize("kind", REQUESTS)
def test_the_region_that_the_store_names_is_followed(
    s3: StoreCase, front: FaultProxy, bucket: str, tmp_path: Path, kind: str
) -> None:
    if kind.startswith("odd") and "a//b" in s3.answers.changed_keys:
        pytest.skip("this server has no such keys")
    if kind == "create_bucket" and s3.name == "given":
        pytest.skip("servers disagree about a bucket that exists already")
    strict(front)
    environ = without_region(s3, tmp_path)
    with s3.open(bucket, endpoint=front.endpoint, environ=environ) as store:
        REQUESTS[kind](store)
        list(store.list(""))
    # A refused HEAD is followed by a GET that says why.
    assert len([seen for seen in front.seen if signed_for_another_region(seen)]) <= 2
    front.seen.clear()
    with s3.open(bucket, endpoint=front.endpoint, environ=environ) as store:
        REQUESTS[kind](store)
    assert not [seen for seen in front.seen if signed_for_another_region(seen)], "the region isn't remembered"


def test_a_region_that_was_remembered_and_is_wrong_now(
    s3: StoreCase, front: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    environ = without_region(s3, tmp_path)
    strict(front)
    with s3.open(bucket, endpoint=front.endpoint, environ=environ) as store:
        store.check()
    memory = tmp_path / ".cache" / "barman-cloud" / "region"
    assert memory.stat().st_mode & 0o777 == 0o600
    memory.write_text(memory.read_text().replace("eu-central-1", "mars-1"))
    with s3.open(bucket, endpoint=front.endpoint, environ=environ) as store:
        store.check()
    memory.write_text("0 garbage\n")
    with s3.open(bucket, endpoint=front.endpoint, environ=environ) as store:
        store.check()


def test_a_memory_that_others_can_write_is_not_used(
    s3: StoreCase, front: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / ".cache" / "barman-cloud").mkdir(parents=True)
    (tmp_path / ".cache" / "barman-cloud").chmod(0o777)
    strict(front)
    with s3.open(bucket, endpoint=front.endpoint, environ=without_region(s3, tmp_path)) as store:
        store.check()
    assert list((tmp_path / ".cache" / "barman-cloud").iterdir()) == []


def test_many_threads_follow_the_region_together(s3: StoreCase, front: FaultProxy, bucket: str, tmp_path: Path) -> None:
    strict(front)
    with (
        s3.open(bucket, endpoint=front.endpoint, environ=without_region(s3, tmp_path)) as store,
        ThreadPoolExecutor(8) as pool,
    ):
        assert list(pool.map(lambda _: bytes(store.get("k")), range(16))) == [b"x"] * 16


def test_a_store_that_contradicts_itself_is_asked_a_few_times_only(
    s3: StoreCase, front: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    front.add(Fault(status=400, body=MALFORMED, times=1000))
    with s3.open(bucket, endpoint=front.endpoint, environ=without_region(s3, tmp_path)) as store:
        with pytest.raises(AccessDeniedError, match="expects another region") as raised:
            store.get("k")
        assert "AWS_DEFAULT_REGION=eu-central-1" in (raised.value.hint or "")
        assert "'eu-central-1'" in str(raised.value), "entities of XML are decoded"
    assert len(front.seen) <= 6


def test_a_batch_whose_every_key_is_in_another_region(
    s3: StoreCase, front: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    """As MinIO answers a DeleteObjects."""
    error = MALFORMED.replace(b"<Error>", b"<Error><Key>k</Key>")
    body = b"<DeleteResult>" + error + b"</DeleteResult>"
    front.add(Fault("POST", "delete", status=200, body=body, times=9, only_if=signed_for_another_region))
    front.add(
        Fault("HEAD", status=400, headers={"x-amz-bucket-region": "eu-central-1"}, only_if=signed_for_another_region)
    )
    with s3.open(bucket, endpoint=front.endpoint, environ=without_region(s3, tmp_path)) as store:
        store.delete(["k"])
        assert list(store.list("")) == []


# Refusals without a body ----------------------------------------------------------------------------------------------

REFUSALS = [
    (400, "InvalidRequest", StoreError),
    (403, "AccessDenied", AccessDeniedError),
    (403, "ExpiredToken", AccessDeniedError),
    (403, "RequestTimeTooSkewed", AccessDeniedError),
    (404, "InvalidAccessKeyId", AccessDeniedError),
    (404, "XAdminUserNotFound", AccessDeniedError),
    (404, "SomethingElse", StoreError),
    (404, "NoSuchKey", ObjectNotFoundError),
]


@pytest.mark.parametrize("kind", ["head", "lock", "create", "get", "list", "delete", "put"])
@pytest.mark.parametrize(("status", "code", "meaning"), REFUSALS)
def test_the_code_of_the_store_is_what_the_user_sees(
    s3: StoreCase,
    front: FaultProxy,
    bucket: str,
    kind: str,
    status: int,
    code: str,
    meaning: type[BarmanCloudError],
) -> None:
    if code == "NoSuchKey" and kind not in ("head", "lock", "get"):
        pytest.skip("isn't said of this request")
    body = f"<Error><Code>{code}</Code><Message>Said &quot;so&quot; &amp;amp; meant it.</Message></Error>".encode()
    front.add(Fault(status=status, body=body, times=1000))
    with s3.open(bucket, endpoint=front.endpoint) as store, pytest.raises(meaning) as raised:
        REQUESTS[kind](store)
    if code != "NoSuchKey":
        assert code in str(raised.value)
        assert 'Said "so" &amp; meant it.' in str(raised.value)
        assert str(raised.value).count(str(status)) == 1
    if code == "ExpiredToken":
        assert "temporary credentials" in (raised.value.hint or "")
    if code == "RequestTimeTooSkewed":
        assert "clock" in (raised.value.hint or "")


@pytest.mark.parametrize("status", [400, 403])
def test_a_silent_head_is_explained_on_every_provider(cloud: StoreCase, tmp_path: Path, status: int) -> None:
    with cloud.proxied() as proxy, cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint) as store:
        store.put("k", b"x")
        body = b"<Error><Code>SaidByTheStore</Code><Message>because</Message></Error>"
        proxy.add(Fault(status=status, body=body, times=1000))
        for ask in (lambda: store.head("k"), lambda: store.object_lock("k")):
            with pytest.raises((StoreError, AccessDeniedError), match=f"{status} SaidByTheStore: because"):
                ask()


def test_an_object_that_is_not_there_costs_no_second_request_once_the_store_has_answered(
    s3: StoreCase, front: FaultProxy, bucket: str
) -> None:
    with s3.open(bucket, endpoint=front.endpoint) as store:
        for _ in range(2):
            with pytest.raises(ObjectNotFoundError):
                store.head("missing")
        assert [seen.method for seen in front.seen] == ["HEAD", "GET", "HEAD", "GET"]
        store.check()
        front.seen.clear()
        with pytest.raises(ObjectNotFoundError):
            store.head("missing")
        assert [seen.method for seen in front.seen] == ["HEAD"]


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_conflict_that_is_not_about_this_object_keeps_its_code(
    s3: StoreCase, front: FaultProxy, bucket: str, if_absent: bool
) -> None:
    body = b"<Error><Code>ObjectParentIsFile</Code><Message>Object parent already exists as a file.</Message></Error>"
    front.add(Fault("PUT", status=409, body=body, times=9))
    with s3.open(bucket, endpoint=front.endpoint) as store:
        with pytest.raises(StoreError, match="409 ObjectParentIsFile"):
            store.put("k/below", b"x", if_absent=if_absent)
        with pytest.raises(StoreError, match="409 ObjectParentIsFile"):
            store.put("odd//k", b"x", if_absent=if_absent)


def test_what_a_store_says_is_fit_for_a_terminal(s3: StoreCase, front: FaultProxy, bucket: str) -> None:
    body = b"<Error><Code>Bad&#27;[31m</Code><Message>\x1b]0;title\x07&#27;[2Jgone\nsecond line</Message></Error>"
    front.add(Fault(status=400, body=body, times=9))
    with s3.open(bucket, endpoint=front.endpoint) as store:
        for kind in ("list", "get"):
            with pytest.raises(StoreError) as raised:
                REQUESTS[kind](store)
            assert str(raised.value).isprintable()
            assert "second line" not in str(raised.value)


# Keys that obstore can't name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a//deep/k", "a/./k", "a/../k"])
def test_streams_to_keys_with_empty_and_dotted_segments(cloud: StoreCase, tmp_path: Path, key: str) -> None:
    """A path such as ``s3://bucket/prod//pg`` is used as it is, as in the original commands."""
    if {"a//b", "x/./y"} & set(cloud.answers.changed_keys):
        pytest.skip("this server turns keys into names of files")
    data = bytes(range(256)) * (12 * MIB // 256)
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        proxy.add(Fault("PUT", "partNumber=2" if cloud.provider != AZURE else "comp=block&", drop=True))
        chunks = iter([data[: 7 * MIB], b"", data[7 * MIB :]])
        try:
            size = store.put_stream(key, chunks, part_size=5 * MIB, tags={"a": "b"})
        except StoreError:
            assert cloud.provider == AZURE
            assert "." in key, "Azure has rules for dots"
            return
        assert size == len(data)
        assert [(info.key, info.size) for info in store.list("a")] == [(key, len(data))]
        assert b"".join(store.read(key, range_size=MIB)) == data
        assert b"".join(store.read(key, start=MIB, end=MIB + 9)) == data[MIB : MIB + 9]
        assert store.get(key) == data
        store.delete([key])
        assert list(store.list("")) == []


def test_a_store_that_keeps_a_key_under_another_name_has_not_got_it(google: StoreCase, tmp_path: Path) -> None:
    """What is stored there would never be found again; the second try finds it, and that is no success either."""
    if "a//b" not in google.answers.changed_keys:
        pytest.skip("this server keeps such keys as they are")
    with google.open(google.new_url(tmp_path)) as store:
        for _ in range(2):
            with pytest.raises(StoreError, match="under another name"):
                store.put("a//k", b"x", if_absent=True)
        with pytest.raises(StoreError, match="under another name"):
            store.put_stream("a//many", iter([bytes(6 * MIB)]), part_size=5 * MIB)
        store.put("a/k2", b"x", if_absent=True)


def test_a_part_that_fails_for_good_aborts_the_odd_upload(s3: StoreCase, front: FaultProxy, bucket: str) -> None:
    if "a//b" in s3.answers.changed_keys:
        pytest.skip("this server has no such keys")
    with s3.open(bucket, endpoint=front.endpoint) as store:
        denied = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        front.add(Fault("PUT", "partNumber=2", status=403, body=denied))
        with pytest.raises(AccessDeniedError):
            store.put_stream("a//k", iter([bytes(16 * MIB)]), part_size=5 * MIB, concurrency=1)
        assert front.requests("DELETE", "uploadId=")
        with pytest.raises(ObjectNotFoundError):
            store.head("a//k")
        chunks = iter([bytes(6 * MIB), ObjectExistsError("raised by the source")])

        def failing() -> Iterator[bytes]:
            for chunk in chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk

        with pytest.raises(ObjectExistsError, match="raised by the source"):
            store.put_stream("a//k", failing(), part_size=5 * MIB)
        assert len(front.requests("DELETE", "uploadId=")) == 2
