"""The modes of one bundle beside each other: what a dead camera costs."""

from __future__ import annotations

from collections.abc import Mapping

from loupe_trainer.reporting.headline import LOCATED, RANKED
from loupe_trainer.reporting.words import (
    Metrics,
    count_of,
    interval_of,
    number_of,
    percent,
    percent_span,
    section_of,
    share,
    span,
    table,
    text,
)

RATES = (("escape rate", "escape_rate"), ("false-reject rate", "false_reject_rate"))


def side_by_side(by_mode: Mapping[str, Metrics]) -> str:
    """Lay out the headline numbers, a column a mode, each with its 95 % interval below it."""
    heads = ["", *(f'<a href="#mode-{mode}">{text(mode)}</a>' for mode in by_mode)]
    parts = [section_of(metrics, "parts") for metrics in by_mode.values()]
    rows = [[name, *(_rate(each, key) for each in parts)] for name, key in RATES]
    rows += [
        [name, *(_area(metrics, key) for metrics in by_mode.values())]
        for name, key, _ in RANKED + LOCATED
    ]
    rows.append(["parts called unknown", *(str(count_of(each, "n_unknown")) for each in parts)])
    return (
        "<h2>The modes side by side</h2><p>The same parts, asked of each mode by itself. Rates "
        "count parts, the other numbers frames or pixels; in small print the 95 % interval.</p>"
        + table(heads, rows, "numbers")
    )


def _rate(parts: Metrics, key: str) -> str:
    found = percent_span(interval_of(parts, f"{key}_exact"))
    return f"{percent(number_of(parts, key))}<br><small>{found}</small>"


def _area(metrics: Metrics, key: str) -> str:
    found = span(interval_of(metrics, f"{key}_interval"))
    return f"{share(number_of(metrics, key))}<br><small>{found}</small>"
