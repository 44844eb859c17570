"""Settings that a person wrote: taken for exactly what they are, and refused in plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)


def read_settings(model: type[Model], document: Mapping[str, object]) -> Model:
    """Check a parsed TOML or JSON document, where `true` is no number and `"5"` is text.

    It is read as JSON, since only there a strict check takes a list for a tuple and text for a
    path.

    Raises:
        ValidationError: Not what the model asks for.
    """
    return model.model_validate_json(json.dumps(document, default=str), strict=True)


def plain_reason(error: ErrorDetails) -> str:
    """Give the reason alone: neither the library's prefix nor a dump of a whole section."""
    if error["type"] == "extra_forbidden":
        return "unknown key; remove it or mend its spelling"
    cause = error.get("ctx", {}).get("error")
    if error["type"] == "value_error" and isinstance(cause, ValueError):
        return str(cause)
    return error["msg"]
