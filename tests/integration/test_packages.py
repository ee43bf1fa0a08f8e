"""Packages: the same source gives the same bytes, and their bill of materials names what they need."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from scripts import sbom
from scripts.dist_check import build, check, copy_source, differences


@pytest.mark.long
def test_the_same_source_gives_the_same_packages_and_another_one_does_not(tmp_path: Path) -> None:
    packages, found = check(tmp_path, "1767225600")
    assert found == []
    wheel = next(path for name, path in packages.items() if name.endswith(".whl"))
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        assert {info.date_time for info in content.infolist()} == {(2026, 1, 1, 0, 0, 0)}
    assert "barman_cloud/cli/drill.py" in names
    assert any(name.endswith("/data/share/man/man1/barman-cloud-drill.1") for name in names)
    assert any(name.endswith("/data/share/zsh/site-functions/_barman_cloud") for name in names)
    assert any(name.endswith("/scripts/barman-cloud-wal-archive") for name in names)
    assert [name for name in names if "__pycache__" in name or name.startswith("tests")] == []

    changed = copy_source(tmp_path / "changed")
    with (changed / "src/barman_cloud/errors.py").open("a") as file:
        file.write("\n# changed\n")
    other = build(changed, tmp_path / "other", "1767225600", "--wheel")
    told = differences(wheel, other[wheel.name])
    assert f"{wheel.name}: barman_cloud/errors.py" in told
    later = build(copy_source(tmp_path / "again"), tmp_path / "later", "1767225602", "--wheel")
    assert differences(wheel, later[wheel.name]) != []


def test_the_bill_of_materials_names_what_runs_and_nothing_else(tmp_path: Path) -> None:
    told = sbom.document("1767225600")
    assert told == sbom.document("1767225600")
    assert (told["bomFormat"], told["specVersion"], told["metadata"]["timestamp"]) == (
        "CycloneDX", "1.6", "2026-01-01T00:00:00Z",
    )  # fmt: skip
    names = {component["name"] for component in told["components"]}
    assert {
        "obstore",
        "psycopg",
        "psycopg-binary",
        "boto3",
        "botocore",
        "azure-identity",
        "google-auth",
        "numpy",
    } <= names
    assert not names & {"pytest", "mypy", "ruff", "moto", "barman-cloud"}
    refs = {component["bom-ref"] for component in (*told["components"], told["metadata"]["component"])}
    assert {entry["ref"] for entry in told["dependencies"]} == refs
    assert {ref for entry in told["dependencies"] for ref in entry["dependsOn"]} < refs
    assert all(component["purl"].startswith("pkg:pypi/") for component in told["components"])


def test_it_holds_to_the_schema() -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    validator = validation.JsonStrictValidator(SchemaVersion.V1_6)
    told = sbom.document("1767225600")
    assert validator.validate_str(json.dumps(told)) is None
    told["components"][0]["type"] = "thing"
    assert validator.validate_str(json.dumps(told)) is not None
