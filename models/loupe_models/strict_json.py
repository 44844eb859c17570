"""JSON as the standard means it: no NaN, no Infinity, no key twice."""

from __future__ import annotations

import json


def loads(raw: str | bytes) -> object:
    """Parse JSON.

    Raises:
        ValueError: Malformed, not UTF-8, a number that is not finite, or a repeated key.
    """
    return json.loads(raw, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")
    return document
