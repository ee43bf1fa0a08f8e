"""What S3 stores make of conditions and signatures, and conditional creates on those that ignore the condition."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from barman_cloud.errors import ObjectExistsError
from barman_cloud.store import put
from barman_cloud.store.s3 import behaviour
from barman_cloud.store.s3.behaviour import PROBE, Answers
from tests.store.cases import PATIENCE, StoreCase
from tests.support.fault_proxy import Answer, Fault, SeenRequest
from tests.support.ports import wait_for


@pytest.fixture(autouse=True)
def _nothing_learned() -> Iterator[None]:
    behaviour._learned.clear()
    yield
    behaviour._learned.clear()


def _needs_conditions(case: StoreCase) -> None:
    if not case.answers.conditional_create:
        pytest.skip("this server ignores conditions")


def test_a_store_that_honours_conditions_is_asked_once_and_then_trusted(s3: StoreCase, tmp_path: Path) -> None:
    _needs_conditions(s3)
    with s3.proxied() as proxy:
        url = s3.new_url(tmp_path)
        store = s3.open(url, endpoint=proxy.endpoint)
        assert not store.capabilities.conditional_create
        store.put("first", b"x", if_absent=True)
        assert not proxy.requests("PUT", PROBE), "for one create it isn't worth its requests"
        for name in ("a", "b", "c"):
            store.put(name, b"x", if_absent=True)
        assert store.capabilities.conditional_create
        assert len(proxy.requests("PUT", PROBE)) == 3
        assert [info.key for info in store.list("")] == ["a", "b", "c", "first"], "the probe is gone"
        proxy.clear()
        s3.open(url, endpoint=proxy.endpoint).put("d", b"x", if_absent=True)
        assert [seen.method for seen in proxy.seen] == ["PUT"]


def test_a_store_that_ignores_conditions_is_found_out(rclone: StoreCase, tmp_path: Path) -> None:
    with rclone.proxied() as proxy:
        store = rclone.open(rclone.new_url(tmp_path), endpoint=proxy.endpoint)
        for name in ("a", "b", "c"):
            store.put(name, b"x", if_absent=True)
        assert not store.capabilities.conditional_create
        assert len(proxy.requests("PUT", PROBE)) == 3
        with pytest.raises(ObjectExistsError):
            store.put("a", b"y", if_absent=True)
        assert store.get("a") == b"x"


@pytest.mark.parametrize("name", ["moto", "rclone"])
def test_the_answer_is_remembered_for_the_next_process(
    name: str, s3: StoreCase, rclone: StoreCase, tmp_path: Path
) -> None:
    case = s3 if name == "moto" else rclone
    environ = {**case.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with case.proxied() as proxy:
        url = case.new_url(tmp_path)
        case.open(url, environ=environ, endpoint=proxy.endpoint).put("a", b"x", if_absent=True)
        assert proxy.requests("PUT", PROBE)
        behaviour._learned.clear()
        proxy.clear()
        case.open(url, environ=environ, endpoint=proxy.endpoint).put("b", b"x", if_absent=True)
        assert [seen.method for seen in proxy.seen] == (["PUT"] if name == "moto" else ["HEAD", "PUT", "HEAD"])


@pytest.mark.parametrize("text", [None, "", "yes", "yes,maybe", "yes,no,yes", "YES,NO"])
def test_an_answer_that_cannot_be_read_is_none(text: str | None) -> None:
    assert Answers.of(text) is None


@pytest.mark.parametrize("answers", [Answers(*pair) for pair in itertools.product((False, True), repeat=2)])
def test_answers_as_text(answers: Answers) -> None:
    assert Answers.of(str(answers)) == answers


def test_credentials_that_may_not_probe_get_the_careful_way(s3: StoreCase, tmp_path: Path) -> None:
    with s3.proxied() as proxy:
        store = s3.open(s3.new_url(tmp_path), endpoint=proxy.endpoint)
        denied = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        proxy.add(Fault("PUT", PROBE, status=403, body=denied, times=1000))
        for name in ("a", "b", "c"):
            store.put(name, b"x", if_absent=True)
        assert len(proxy.requests("PUT", PROBE)) == 1
        assert not store.capabilities.conditional_create


def test_a_probe_that_may_not_be_deleted_stays_and_tells_the_same(s3: StoreCase, tmp_path: Path) -> None:
    _needs_conditions(s3)
    with s3.proxied() as proxy:
        url = s3.new_url(tmp_path)
        store = s3.open(url, endpoint=proxy.endpoint)
        denied = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        proxy.add(Fault("DELETE", PROBE, status=403, body=denied, times=1000))
        for name in ("a", "b"):
            store.put(name, b"x", if_absent=True)
        assert store.capabilities.conditional_create
        behaviour._learned.clear()
        again = s3.open(url, endpoint=proxy.endpoint)
        for name in ("c", "d"):
            again.put(name, b"x", if_absent=True)
        assert again.capabilities.conditional_create


@pytest.mark.parametrize("refused", [False, True])
def test_a_store_that_compares_content_with_its_signature_is_not_checked_twice(
    s3: StoreCase, tmp_path: Path, refused: bool
) -> None:
    """Where the server doesn't compare it, as moto doesn't, the refusal is the proxy's."""
    if s3.answers.signed_content and not refused:
        pytest.skip("this server compares it")
    with s3.proxied(keep_bodies=True) as proxy:
        store = s3.open(s3.new_url(tmp_path), endpoint=proxy.endpoint)
        body = b"<Error><Code>XAmzContentSHA256Mismatch</Code><Message>no</Message></Error>"
        if refused:
            proxy.add(Fault("PUT", PROBE, status=400, body=body, times=99, only_if=_signed_for_another_content))
        for name in ("a", "b"):
            store.put(name, b"x", if_absent=True)
        assert store._behaviour.known == Answers(s3.answers.conditional_create, refused)  # type: ignore[attr-defined]
        assert store.etags_are_md5 is not refused  # type: ignore[attr-defined]


def _signed_for_another_content(seen: SeenRequest) -> bool:
    return seen.headers.get("x-amz-content-sha256") != hashlib.sha256(seen.body).hexdigest()


def test_of_two_writers_that_both_looked_before_only_one_is_acknowledged(
    rclone: StoreCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one's upload arrives while the quicker one waits to read back."""
    url = rclone.new_url(tmp_path)
    outcomes: dict[bytes, object] = {}
    both_looked = threading.Barrier(2)
    quick_waits, slow_wrote = threading.Event(), threading.Event()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        if threading.current_thread().name == "quick":
            pauses.append(seconds)
            quick_waits.set()
            assert slow_wrote.wait(PATIENCE)

    def wrote(answer: Answer) -> Answer:
        slow_wrote.set()
        return answer

    def write(data: bytes, fault: Fault) -> None:
        with rclone.proxied() as proxy:
            proxy.add(replace(fault, only_if=lambda _seen: both_looked.wait(PATIENCE) >= 0))
            store = rclone.open(url, endpoint=proxy.endpoint)
            try:
                store.put("k", data, if_absent=True)
            except ObjectExistsError as error:
                outcomes[data] = error
            else:
                outcomes[data] = "acknowledged"

    _sleeps_by(monkeypatch, pause)
    quick = Fault("PUT", "/k", delay=0.3)
    slow = Fault("PUT", "/k", before=lambda: quick_waits.wait(PATIENCE), change=wrote)
    threads = [
        threading.Thread(name="quick", target=write, args=(b"quick", quick)),
        threading.Thread(name="slow", target=write, args=(b"slow", slow)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes[b"slow"] == "acknowledged"
    assert isinstance(outcomes[b"quick"], ObjectExistsError)
    assert rclone.open(url).get("k") == b"slow"
    assert pauses[0] >= 0.3, "as long as it took itself, for one that is no slower"


def _sleeps_by(monkeypatch: pytest.MonkeyPatch, pause: Callable[[float], None]) -> None:
    """Call ``pause`` where a writer waits before it reads back, and with how long it would."""
    monkeypatch.setattr(put, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))


def test_concurrent_creates_on_a_store_that_ignores_conditions(
    rclone: StoreCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have looked before one writes, and all have written before one reads back."""
    url = rclone.new_url(tmp_path)
    writers = 8
    all_looked = threading.Barrier(writers)
    wrote_or_gave_up: list[int] = []

    def pause(_seconds: float) -> None:
        wrote_or_gave_up.append(0)
        wait_for(lambda: len(wrote_or_gave_up) >= writers, what="all writers")

    def create(number: int) -> int | None:
        with rclone.proxied() as proxy:
            proxy.add(Fault("PUT", "/contended", only_if=lambda _seen: all_looked.wait(PATIENCE) >= 0))
            store = rclone.open(url, endpoint=proxy.endpoint)
            try:
                store.put("contended", bytes([number]) * 1000, if_absent=True)
            except ObjectExistsError:
                wrote_or_gave_up.append(0)
                return None
            return number

    _sleeps_by(monkeypatch, pause)
    with ThreadPoolExecutor(writers) as pool:
        winners = [number for number in pool.map(create, range(writers)) if number is not None]
    # Such a server may keep the content of one writer with the metadata of another, which get() would refuse.
    content = b"".join(bytes(piece) for piece in rclone.open(url).read("contended"))
    assert winners == [content[0]]


def test_the_same_content_by_two_writers_is_no_conflict(rclone: StoreCase, tmp_path: Path) -> None:
    with rclone.proxied() as proxy:
        url = rclone.new_url(tmp_path)
        proxy.add(Fault("HEAD", "/k", status=404))
        rclone.open(url).put("k", b"x")
        rclone.open(url, endpoint=proxy.endpoint).put("k", b"x", if_absent=True)


def test_content_is_hashed_once_where_the_store_compares_one_hash_only(s3: StoreCase, tmp_path: Path) -> None:
    """MD5 for a store that doesn't look at the signature; it needn't compare it with ours once it has told it."""
    with s3.proxied() as proxy:
        store = s3.open(s3.new_url(tmp_path), endpoint=proxy.endpoint)
        chunks = [bytes([number]) * (5 << 20) for number in range(4)]
        store.put_stream("a", iter(chunks), part_size=5 << 20, concurrency=1)
        store.put_stream("b", iter(chunks), part_size=5 << 20, concurrency=1)
        parts = proxy.requests("PUT", "partNumber")
        assert len(parts) == 8
        answers: Answers = store._behaviour.known  # type: ignore[attr-defined]
        for number, part in enumerate(parts[4:]):
            expected = hashlib.sha256(chunks[number]).hexdigest() if answers.compares_content else "UNSIGNED-PAYLOAD"
            assert part.headers["x-amz-content-sha256"] == expected
            assert "content-md5" not in part.headers
        assert store.get("a") == store.get("b") == b"".join(chunks)


def test_a_store_that_insists_on_signed_content_gets_it(rclone: StoreCase, tmp_path: Path) -> None:
    with rclone.proxied() as proxy:
        store = rclone.open(rclone.new_url(tmp_path), endpoint=proxy.endpoint)
        for name in ("a", "b"):
            store.put(name, b"x", if_absent=True)
        refusal = b"<Error><Code>InvalidRequest</Code><Message>unsigned payloads aren't allowed</Message></Error>"
        proxy.add(Fault("PUT", "partNumber", status=400, body=refusal, times=99, only_if=_unsigned))
        store.put_stream("c", iter([b"x" * (5 << 20)] * 3), part_size=5 << 20)
        assert store.get("c") == b"x" * (15 << 20)


def _with_another_etag(answer: Answer) -> Answer:
    headers = [(name, value) for name, value in answer.headers if name.lower() != "etag"]
    return replace(answer, headers=(*headers, ("ETag", '"of-another-kind"')))


def _unsigned(seen: SeenRequest) -> bool:
    return seen.headers.get("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"


def test_a_part_whose_md5_is_told_no_more_is_sent_again_with_ours(s3: StoreCase, tmp_path: Path) -> None:
    """Nothing else would have compared its content."""
    with s3.proxied() as proxy:
        store = s3.open(s3.new_url(tmp_path), endpoint=proxy.endpoint)
        store.put_stream("a", iter([b"x" * (5 << 20)] * 3), part_size=5 << 20, concurrency=1)
        if store._behaviour.known.compares_content:  # type: ignore[attr-defined]
            pytest.skip("this server compares it")
        proxy.clear()
        proxy.add(Fault("PUT", "partNumber=2", change=_with_another_etag))
        store.put_stream("b", iter([b"x" * (5 << 20)] * 3), part_size=5 << 20, concurrency=1)
        second = proxy.requests("PUT", "partNumber=2")
        assert ["content-md5" in seen.headers for seen in second] == [False, True]


def test_another_etag_later_is_no_other_writer(rclone: StoreCase, tmp_path: Path) -> None:
    """Some servers and proxies tell one ETag after a PUT, and another one from then on."""
    with rclone.proxied() as proxy:
        store = rclone.open(rclone.new_url(tmp_path), endpoint=proxy.endpoint)
        proxy.add(Fault("HEAD", "/k", change=_with_another_etag, times=99))
        store.put("k", b"x", if_absent=True)
        with pytest.raises(ObjectExistsError):
            store.put("k", b"y", if_absent=True)
