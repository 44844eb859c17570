"""A page a person can look at: numbers, scores against the threshold, and the worst mistakes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from loupe_models.atomic import write_text
from loupe_models.bundle import Bundle
from loupe_trainer.data.item import DataSet
from loupe_trainer.evaluate import Evaluation, Shown
from loupe_trainer.outcomes import Outcome

N_WORST = 10
N_BINS = 40
PICTURE_PX = 220
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.25rem .8rem;text-align:right;
border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
img{display:block;max-width:220px}small{color:#666}svg{max-width:100%}
"""


def write_report(
    path: Path, bundle: Bundle, evaluation: Evaluation, metrics: Mapping[str, object],
    data: DataSet,
) -> None:  # fmt: skip
    """Write the page, pictures and all in one file.

    Args:
        path: HTML.
        bundle: What was evaluated.
        evaluation: What came of it.
        metrics: As in `metrics.json`.
        data: Where the pictures of the worst mistakes are read from.
    """
    manifest = bundle.manifest
    title = f"{escape(manifest.id)}: {escape(manifest.method)}, {escape(evaluation.mode)}"
    sections = [
        f"<h1>{title}</h1>",
        f"<p><small>bundle {bundle.sha256[:16]}, made {escape(manifest.provenance.created_at)} "
        f"by {escape(manifest.provenance.code_version)} from data "
        f"{manifest.provenance.data_sha256[:16]}, seed {manifest.provenance.seed}</small></p>",
        _headline(metrics),
        _promise(bundle, evaluation),
        _defects(metrics),
        "<h2>Frame scores</h2>",
        _histogram(evaluation),
        f"<h2>The {N_WORST} worst</h2>",
        "<p>Furthest on the wrong side of the threshold first, unknown before all.</p>",
        _worst(evaluation, data),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )
    write_text(path, page)


def _headline(metrics: Mapping[str, object]) -> str:
    parts = metrics.get("parts")
    by_part = parts if isinstance(parts, dict) else {}
    rows = [
        ("image AUROC", metrics.get("image_auroc"), by_part.get("auroc")),
        ("the same of a per-pixel Gaussian", metrics.get("gaussian_baseline_image_auroc"), ""),
        ("pixel AUROC", metrics.get("pixel_auroc"), ""),
        ("AU-PRO to 30 %", metrics.get("au_pro_30"), ""),
        ("AU-PRO to 5 %", metrics.get("au_pro_05"), ""),
        *(
            (name.replace("_", " "), metrics.get(name), by_part.get(name))
            for name in (
                "false_reject_rate", "escape_rate", "n_good", "n_defect", "n_unknown"
            )
        ),
    ]  # fmt: skip
    return _table(("", "frames", "parts"), rows)


def _promise(bundle: Bundle, evaluation: Evaluation) -> str:
    threshold = bundle.mode(evaluation.mode).threshold
    return (
        f"<p>Threshold {threshold.value:.4f}: at most {threshold.false_reject_rate:.0%} of good "
        f"parts rejected, with {threshold.confidence:.0%} confidence, from {threshold.n_parts} "
        f"good parts that nothing was learnt from.</p>"
    )


def _defects(metrics: Mapping[str, object]) -> str:
    rows = metrics.get("defects")
    if not isinstance(rows, list) or not rows:
        return ""
    names = list(rows[0])
    heads = [name.replace("_", " ") for name in names]
    return "<h2>By defect</h2>" + _table(heads, [[row[n] for n in names] for row in rows])


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def _histogram(evaluation: Evaluation) -> str:
    """Draw the scores of good frames above the axis and of defects below it."""
    scored = [(o.score, o.kind) for o in evaluation.frames if o.score is not None]
    if not scored:
        return "<p>No frame was scored.</p>"
    # One far outlier must not squeeze the rest into a single bar.
    values = np.array([score for score, _ in scored])
    low, high = float(values.min()), float(np.quantile(values, 0.98))
    low, high = min(low, evaluation.threshold), max(high, evaluation.threshold)
    high += max((high - low) * 0.02, 1e-9)
    edges = np.linspace(low, high, N_BINS + 1)
    counts = {
        kind: np.histogram(np.clip([s for s, k in scored if k == kind], low, high), edges)[0]
        for kind in ("good", "defect")
    }
    top = max(1, *(int(c.max()) for c in counts.values()))
    width, half = 16, 110
    bars = []
    for kind, colour in (("good", "#2a7"), ("defect", "#c43")):
        for i, count in enumerate(counts[kind]):
            tall = half * int(count) / top
            y = half - tall if kind == "good" else half
            bars.append(
                f'<rect x="{i * width}" y="{y:.1f}" width="{width - 1}" height="{tall:.1f}" '
                f'fill="{colour}"/>'
            )
    cut = (evaluation.threshold - low) / (high - low) * N_BINS * width
    return (
        f'<svg viewBox="0 0 {N_BINS * width} {2 * half + 16}" role="img">{"".join(bars)}'
        f'<line x1="{cut:.1f}" x2="{cut:.1f}" y1="0" y2="{2 * half}" stroke="#222"/>'
        f'<text x="{cut + 4:.1f}" y="{2 * half + 13}" font-size="12">threshold</text></svg>'
        "<p>Good frames upwards, defects downwards; the last bar holds all beyond it.</p>"
    )


def _worst(evaluation: Evaluation, data: DataSet) -> str:
    def wrongness(outcome: Outcome) -> float:
        if outcome.score is None:
            return float("inf")
        over = outcome.score - evaluation.threshold
        return over if outcome.kind == "good" else -over

    worst = sorted(evaluation.frames, key=wrongness, reverse=True)[:N_WORST]
    shown = {s.outcome.name: s for s in evaluation.shown}
    wanted = {outcome.name for outcome in worst}
    items = [item for item in data.items if item.key in wanted]
    pictures = {item.key: frame.rgb for item, frame in data.frames(items)}
    rows = [_mistake(o, pictures.get(o.name), shown.get(o.name), evaluation) for o in worst]
    head = "<tr><th>frame</th><th>picture</th><th>truth</th><th>anomaly map</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _mistake(
    outcome: Outcome, rgb: npt.NDArray[np.uint8] | None, shown: Shown | None,
    evaluation: Evaluation,
) -> str:  # fmt: skip
    score = "no score" if outcome.score is None else f"score {outcome.score:.4f}"
    said = f"{outcome.defect or outcome.kind}, called {outcome.decision}, {score}"
    picture = "" if rgb is None else _img(rgb)
    truth = "" if shown is None or shown.mask is None else _img(_grey(shown.mask))
    heat = "" if shown is None else _img(_heat(shown.anomaly_map, evaluation.threshold))
    name = escape(Path(outcome.name).name)
    return (
        f"<tr><td>{name}<br><small>{escape(said)}</small></td>"
        f"<td>{picture}</td><td>{truth}</td><td>{heat}</td></tr>"
    )


def _grey(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return np.repeat(mask.astype(np.uint8)[..., None] * 255, 3, axis=2)


def _heat(anomaly_map: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.uint8]:
    """Colour a map so that the threshold is the middle of the scale."""
    low = min(float(anomaly_map.min()), threshold - 1e-6)
    scale = np.clip((anomaly_map - low) / (2 * (threshold - low)), 0, 1)
    coloured = cv2.applyColorMap((scale * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.asarray(coloured[..., ::-1], dtype=np.uint8)


def _img(rgb: npt.NDArray[np.uint8]) -> str:
    shrink = PICTURE_PX / max(rgb.shape[:2])
    small = cv2.resize(rgb, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return (
        f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}">'
    )
