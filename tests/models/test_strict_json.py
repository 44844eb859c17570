"""JSON as the standard means it."""

from __future__ import annotations

import pytest

from loupe_models.strict_json import loads


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "Expecting value"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": 1, "b": {"c": 2, "c": 2}}', "a key appears twice"),
        ('{"a": 1} x', "Extra data"),
        (b"\xff\xfe", "utf-8"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        ("[" * 200_000, "nested too deeply"),
        (r'{"a": "\ud800"}', "surrogates"),
        (r'{"\udc00": 1}', "surrogates"),
    ],
    ids=[
        "empty",
        "nan",
        "infinity",
        "1e999",
        "twice",
        "tail",
        "bytes",
        "utf-16",
        "deep",
        "half a pair",
        "half a pair as a key",
    ],
)
def test_what_is_not_json_is_refused(raw: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loads(raw)


def test_what_is_json_is_read() -> None:
    assert loads(r'"\ud83d\ude00"') == "\U0001f600"
    assert loads('{"ä": [1, 2.5, null, true]}'.encode()) == {"ä": [1, 2.5, None, True]}
