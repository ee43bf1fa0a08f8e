"""Fixtures of the tests of S3's settings and credentials."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest


@pytest.fixture
def aws_files(tmp_path: Path) -> dict[str, str]:
    """An environment with a configuration and a credentials file."""
    (tmp_path / "config").write_text(
        f"""
[default]
region = eu-north-1

[profile static]
region = ap-south-1
endpoint_url = https://store.example.com/
s3 =
    addressing_style = virtual
    max_concurrent_requests = 20
request_checksum_calculation = when_required

[profile process]
credential_process = {sys.executable} {tmp_path}/process.py

[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = static

[profile "with space"]
aws_access_key_id = SPACE
aws_secret_access_key = S

[profile serviced]
services = local
aws_access_key_id = A
aws_secret_access_key = S

[services local]
s3 =
  endpoint_url = http://127.0.0.1:9
"""
    )
    (tmp_path / "credentials").write_text(
        "[static]\naws_access_key_id = STATIC\naws_secret_access_key = S\naws_session_token = T\n"
        "[half]\naws_access_key_id = HALF\n[default]\naws_access_key_id = DEFAULT\naws_secret_access_key = S\n"
    )
    expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    answer = {"Version": 1, "AccessKeyId": "PROC", "SecretAccessKey": "S", "SessionToken": "T", "Expiration": expires}
    (tmp_path / "process.py").write_text(
        f"open({str(tmp_path / 'calls')!r}, 'a').write('x')\nprint('''{json.dumps(answer)}''')\n"
    )
    return {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
