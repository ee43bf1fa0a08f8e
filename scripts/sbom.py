"""Write the bill of materials of an installation as CycloneDX 1.6: ``python -m scripts.sbom [--out FILE]``

What is listed is barman-cloud and everything that it needs to run, extras included, in the versions that are installed
here; not what only its tests and its development need. The same installation gives the same document: its time is that
of ``SOURCE_DATE_EPOCH`` or of the last commit, its serial number comes from its content.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement

from scripts.dist_check import PROJECT, epoch

NAME = "barman-cloud"
EXTRAS = ("aws", "azure", "google", "verify")
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122, appendix C: URLs


def normalized(name: str) -> str:
    """Return a project's name as indexes spell it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(found: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what a distribution with these extras needs here."""
    environment: dict[str, Any] = dict(default_environment())
    for text in found.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in (*extras, "")):
            yield requirement


def closure() -> tuple[dict[str, Distribution], dict[str, set[str]]]:
    """Return the distributions by name, ours among them, and what each one depends on.

    ``SystemExit`` names one that isn't installed.
    """
    found: dict[str, Distribution] = {}
    depends: dict[str, set[str]] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    todo = [(NAME, frozenset(EXTRAS))]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in asked:
            continue
        asked.add((name, extras))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} isn't installed: run 'make venv'") from None
        for requirement in needed(found[name], extras):
            other = normalized(requirement.name)
            depends.setdefault(name, set()).add(other)
            todo.append((other, frozenset(requirement.extras)))
    return found, depends


def purl(name: str, found: Distribution) -> str:
    """Return the package URL of a distribution (package-url specification, type ``pypi``)."""
    return f"pkg:pypi/{name}@{found.version.replace('+', '%2B')}"


def component(name: str, found: Distribution) -> dict[str, Any]:
    """Return the entry of one distribution."""
    kind = "application" if name == NAME else "library"
    entry: dict[str, Any] = {
        "type": kind,
        "bom-ref": purl(name, found),
        "name": name,
        "version": found.version,
        "purl": purl(name, found),
    }
    if summary := found.metadata.get("Summary"):
        entry["description"] = summary
    if license_ := _license(found):
        entry["licenses"] = [license_]
    return entry


def _license(found: Distribution) -> dict[str, Any] | None:
    if expression := found.metadata.get("License-Expression"):
        return {"expression": expression}
    text = found.metadata.get("License") or ""
    classified = [
        value.rpartition(" :: ")[2]
        for value in found.metadata.get_all("Classifier") or ()
        if value.startswith("License :: ")
    ]
    name = text if text and "\n" not in text and len(text) < 100 else next(iter(classified), "")
    return {"license": {"name": name}} if name else None


def document(when: str) -> dict[str, Any]:
    """Return the bill of materials; ``when`` is in seconds since 1970."""
    found, depends = closure()
    ours = found[NAME]
    others = sorted(name for name in found if name != NAME)
    body: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(when), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(NAME, ours),
        },
        "components": [component(name, found[name]) for name in others],
        "dependencies": [
            {
                "ref": purl(name, found[name]),
                "dependsOn": sorted(purl(other, found[other]) for other in depends.get(name, ())),
            }
            for name in (NAME, *others)
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(body, sort_keys=True))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "serialNumber": f"urn:uuid:{serial}", **body}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PROJECT / "dist" / "sbom.cdx.json", help="where it goes")
    out: Path = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    content = document(epoch())
    out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{out}: {len(content['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
