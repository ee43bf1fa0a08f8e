"""Documents for programs, compared with the schemas that are published for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


def require_valid(document: Any, name: str) -> None:
    """Compare with ``NAME.schema.json``; readers must take fields that are new, but none may be undescribed here."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    errors = sorted(Draft202012Validator(_closed(schema)).iter_errors(document), key=str)
    assert not errors, "\n".join(f"{error.json_path}: {error.message}" for error in errors)


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed
