"""What `metrics.json` holds as a table for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from loupe_trainer.summary import modes_of

Metrics = Mapping[str, object]

RANKED = (
    ("image AUROC", "image_auroc", "auroc"),
    ("average precision", "average_precision", "average_precision"),
    ("F1-max (at the test's own cut)", "f1_max", "f1_max"),
    ("per-pixel Gaussian's AUROC", "gaussian_baseline_image_auroc", ""),
    ("pixel AUROC", "pixel_auroc", ""),
    ("AU-PRO to 30 %", "au_pro_30", ""),
    ("AU-PRO to 5 %", "au_pro_05", ""),
)
RATES = ("false_reject_rate", "escape_rate", "n_good", "n_defect", "n_unknown")


def metrics_table(metrics: Metrics) -> Table:
    """Lay out one mode by frames and by parts, or several modes side by side."""
    by_mode = modes_of(metrics)
    return _of_one(metrics) if len(by_mode) == 1 else _of_several(by_mode)


def _of_one(metrics: Metrics) -> Table:
    table = Table("", "frames", "95 %", "parts", "95 %", title="Evaluation")
    parts = _parts(metrics)
    for name, of_frames, of_parts in (*RANKED, *((_words(key), key, key) for key in RATES)):
        if metrics.get(of_frames) is None and parts.get(of_parts) is None:
            continue
        table.add_row(
            name, _number(metrics.get(of_frames)), _span(metrics.get(f"{of_frames}_interval")),
            _number(parts.get(of_parts)), _span(_interval(parts, of_parts)),
        )  # fmt: skip
    return table


def _of_several(by_mode: Mapping[str, Metrics]) -> Table:
    table = Table("", *by_mode, title="Evaluation, mode by mode, with 95 % intervals")
    each = list(by_mode.values())
    for name, key, _ in RANKED:
        if all(metrics.get(key) is None for metrics in each):
            continue
        table.add_row(name, *(_cell(metrics, key) for metrics in each))
    table.add_section()
    for key in RATES:
        table.add_row(f"{_words(key)}, parts", *(_cell(_parts(metrics), key) for metrics in each))
    return table


def _parts(metrics: Metrics) -> Metrics:
    parts = metrics.get("parts")
    return parts if isinstance(parts, dict) else {}


def _interval(metrics: Metrics, key: str) -> object:
    """Give the exact interval, of what has one; the bootstrap's of 0 in 13 has no width."""
    found = metrics.get(f"{key}_exact") or metrics.get(f"{key}_interval")
    is_a_point = isinstance(found, list) and found[0] == found[1]
    return None if is_a_point else found


def _words(key: str) -> str:
    return key.replace("_", " ")


def _cell(metrics: Metrics, key: str) -> str:
    return "\n".join(filter(None, (_number(metrics.get(key)), _span(_interval(metrics, key)))))


def _number(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _span(value: object) -> str:
    return f"{value[0]:.3f}–{value[1]:.3f}" if isinstance(value, list) else ""
