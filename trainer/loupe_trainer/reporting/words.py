"""Numbers, intervals and tables as a reader meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from loupe_trainer.bootstrap import Interval

NOTHING = "–"

Metrics = Mapping[str, object]


def number_of(metrics: Metrics, name: str) -> float | None:
    """Take a number out of metrics; None where there is none."""
    value = metrics.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def count_of(metrics: Metrics, name: str) -> int:
    """Take a count out of metrics."""
    value = metrics.get(name)
    return value if isinstance(value, int) else 0


def interval_of(metrics: Metrics, name: str) -> Interval | None:
    """Take an interval out of metrics; None where there is none."""
    value = metrics.get(name)
    return [float(v) for v in value] if isinstance(value, list) else None


def section_of(metrics: Metrics, name: str) -> Metrics:
    """Take an inner table out of metrics."""
    section = metrics.get(name)
    return section if isinstance(section, dict) else {}


def rows_of(metrics: Metrics, name: str) -> list[Metrics]:
    """Take a list of inner tables out of metrics."""
    rows = metrics.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def share(value: float | None) -> str:
    """Write a share with three digits behind the point."""
    return NOTHING if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Write a rate in per cent."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def span(interval: Interval | None) -> str:
    """Write an interval of shares."""
    return NOTHING if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def percent_span(interval: Interval | None) -> str:
    """Write an interval of rates."""
    if interval is None:
        return NOTHING
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def counted(n: int, one: str, many: str = "") -> str:
    """Write a count with its noun: 1 part, 2 parts."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Lay out a table; heads and cells are HTML already.

    Args:
        heads: One a column.
        rows: The first cell of each names the row.
        kind: A class of the style sheet.
    """
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{c}</td>" for c in row[1:]) + "</tr>"
        for row in rows
    )
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def text(value: object) -> str:
    """Escape anything for HTML; nothing is a dash."""
    return NOTHING if value is None or value == "" else escape(str(value))
