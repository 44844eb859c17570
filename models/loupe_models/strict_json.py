"""JSON as the standard means it: no NaN, no Infinity, no key twice, no half of a character."""

from __future__ import annotations

import json
import math


def loads(raw: str | bytes) -> object:
    """Parse JSON.

    Raises:
        ValueError: Malformed, not UTF-8, a number that is not finite, a repeated key, half a
            surrogate pair, or nested beyond reason.
    """
    text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    try:
        document: object = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_refuse_twice,
        )
        if "\\u" in text:  # only an escape can name half a pair
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return document


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large a number")
    return number


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")
    return document
