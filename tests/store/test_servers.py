"""The servers of the tests are what other people's clients take for real ones."""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import urllib.error
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from crc32c import crc32c

from tests.store.cases import StoreCase
from tests.support.servers import private_certificate, request

S3_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
"""What Google's client library looks for in the answers about multipart uploads."""


class TestCertificates:
    def test_the_certificate_passes_the_strict_check_that_python_3_13_makes(self, tmp_path: Path) -> None:
        authority, certificate, key = private_certificate(tmp_path)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(certificate, key)
        asking = ssl.create_default_context(cafile=str(authority))
        asking.verify_flags |= ssl.VERIFY_X509_STRICT
        _shake_hands(asking, serving, "127.0.0.1")

    def test_the_certificate_is_good_for_no_other_host(self, tmp_path: Path) -> None:
        authority, certificate, key = private_certificate(tmp_path)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(certificate, key)
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            _shake_hands(ssl.create_default_context(cafile=str(authority)), serving, "127.0.0.2")


def _shake_hands(asking: ssl.SSLContext, serving: ssl.SSLContext, host: str) -> None:
    """Let two ends agree in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(back, there, server_hostname=host)
    server = serving.wrap_bio(there, back, server_side=True)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.version() == server.version() == "TLSv1.3"


class TestGoogleFront:
    """What Google's own client library reads in answers of the XML API, and what it refuses without."""

    def test_answers_to_writes_carry_both_checksums(self, google: StoreCase, tmp_path: Path) -> None:
        data = os.urandom(1000)
        _, headers, _ = request("PUT", f"{_bucket(google, tmp_path)}/k", body=data)
        assert headers["x-goog-hash"] == f"crc32c={_crc32c(data)},md5={_md5(data)}"

    def test_a_multipart_upload_in_the_namespace_of_s3(self, google: StoreCase, tmp_path: Path) -> None:
        url = f"{_bucket(google, tmp_path)}/a%20key"
        _, _, begun = request("POST", f"{url}?uploads", body=b"")
        upload_id = ElementTree.fromstring(begun).findtext(f"{S3_NAMESPACE}UploadId")
        data = os.urandom(1000)
        _, headers, _ = request("PUT", f"{url}?partNumber=1&uploadId={upload_id}", body=data)
        assert headers["x-goog-hash"] == f"crc32c={_crc32c(data)},md5={_md5(data)}"
        parts = f"<Part><PartNumber>1</PartNumber><ETag>{headers['ETag']}</ETag></Part>"
        listed = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        _, headers, completed = request("POST", f"{url}?uploadId={upload_id}", body=listed.encode())
        assert ElementTree.fromstring(completed).findtext(f"{S3_NAMESPACE}Key") == "a key"
        assert headers["x-goog-hash"] == f"crc32c={_crc32c(data)}"
        assert request("GET", url)[2] == data

    @pytest.mark.parametrize("header", ["x-goog-hash", "content-md5"])
    def test_a_body_that_is_not_what_its_sender_says_is_refused(
        self, google: StoreCase, tmp_path: Path, header: str
    ) -> None:
        url = f"{_bucket(google, tmp_path)}/k"
        right = _md5(b"right") if header == "content-md5" else f"crc32c={_crc32c(b'right')}"
        assert request("PUT", url, body=b"right", headers={header: right})[0] == 200
        with pytest.raises(urllib.error.HTTPError) as raised:
            request("PUT", url, body=b"wrong", headers={header: right})
        assert (raised.value.code, b"BadDigest" in raised.value.read()) == (400, True)
        assert request("GET", url)[2] == b"right"


def _bucket(google: StoreCase, tmp_path: Path) -> str:
    """The address of a new bucket in the XML API."""
    return f"{google.endpoint}/{google.new_url(tmp_path).removeprefix('gs://').partition('/')[0]}"


def _crc32c(data: bytes) -> str:
    return base64.b64encode(crc32c(data).to_bytes(4)).decode()


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()
