"""What `metrics.json` holds: every number beside its 95 % interval.

A headline number counts frames; `parts` counts parts. `NAME_interval` is the bootstrap's, null
where one part alone leaves nothing to draw anew; `NAME_exact` is the exact binomial interval of a
rate of parts. Only what comes out the same each time is in it: no time, no place.

An evaluation of one mode has all of this at the top, `mode` among it. One of several has, at the
top, `modes`: by mode, exactly what an evaluation of that mode alone has. A script that takes
either reads `(.modes.rgb // .).image_auroc`. `modes_left_out` names the bundle's modes, if any,
that the data could not serve.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from loupe_models.atomic import write_text
from loupe_trainer.bootstrap import (
    LEVEL,
    N_RESAMPLES,
    SEED,
    Intervals,
    bootstrap,
    exact_interval,
)
from loupe_trainer.evaluate import Evaluation, Exam, Shown
from loupe_trainer.metrics import pixel_metrics
from loupe_trainer.outcomes import Outcome, Rates, rate_intervals, rates
from loupe_trainer.pixel_histograms import PixelHistograms

METRICS, DECISIONS = "metrics.json", "decisions.jsonl"
PIXEL_MEASURES = ("pixel_auroc", "au_pro_30", "au_pro_05")


def write_evaluation(folder: Path, decisions: str, metrics: Mapping[str, object]) -> None:
    """Write `metrics.json` and `decisions.jsonl`."""
    write_text(folder / DECISIONS, decisions)
    write_text(folder / METRICS, json.dumps(metrics, indent=1) + "\n")


def document(
    by_mode: Mapping[str, Mapping[str, object]], left_out: Sequence[str] = ()
) -> dict[str, object]:
    """Give what `metrics.json` holds.

    Args:
        by_mode: From `summarise`, one mode or several.
        left_out: Modes that the data could not serve.
    """
    only = next(iter(by_mode.values()))
    told = dict(only) if len(by_mode) == 1 else {"seed": only["seed"], "modes": dict(by_mode)}
    return told | ({"modes_left_out": list(left_out)} if left_out else {})


def modes_of(metrics: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Take a document apart again: each mode's metrics, whether it holds one or several."""
    modes = metrics.get("modes")
    return dict(modes) if isinstance(modes, dict) else {str(metrics["mode"]): metrics}


def summarise(evaluation: Evaluation, exam: Exam) -> dict[str, object]:
    """Give the metrics of one mode."""
    told = known_maps(evaluation)
    cut = histograms(told)
    rows = [_defect_row(evaluation, name, told, cut) for name in _defect_names(evaluation)]
    each = [row["image_auroc"] for row in rows]
    known = [float(a) for a in each if isinstance(a, float)]
    baseline = rates(evaluation.baseline).auroc if evaluation.baseline else None
    frames = _with_intervals(rates(evaluation.frames), rate_intervals(evaluation.frames))
    return {
        "mode": evaluation.mode,
        "seed": evaluation.seed,
        "threshold": evaluation.threshold,
        **_renamed(frames),
        **_pixels(told, cut, range(len(told))),
        "image_auroc_mean_of_defects": float(np.mean(known)) if known else None,
        "gaussian_baseline_image_auroc": baseline,
        "parts": _of_parts(evaluation.parts),
        "defects": rows,
        "intervals": {"level": LEVEL, "n_resamples": N_RESAMPLES, "seed": SEED},
        "test_data_sha256": exam.data_sha256,
        "is_checked_against_learnt": exam.is_checked,
    }


def what_is_missing(metrics: Mapping[str, object]) -> list[str]:
    """Say why numbers are absent from what `summarise` gave, and what would bring them."""
    if not metrics["n_defect"]:
        return [
            "no defect in the data: only the rate of false rejects can be measured; add pictures "
            "of defects for escapes, AUROC and AU-PRO"
        ]
    if not metrics["n_good"]:
        return [
            "no good part in the data: only the rate of escapes can be measured; add pictures of "
            "good parts for false rejects, AUROC and AU-PRO"
        ]
    if metrics["pixel_auroc"] is None:
        return ["no mask of a defect in the data: nothing is known pixel by pixel, so no AU-PRO"]
    return []


def what_is_worse(metrics: Mapping[str, object]) -> list[str]:
    """Say where a bundle tells less than the plainest thing that could stand in its place."""
    auroc, baseline = metrics["image_auroc"], metrics["gaussian_baseline_image_auroc"]
    interval = metrics["image_auroc_interval"]
    if not isinstance(auroc, float) or not isinstance(baseline, float) or baseline <= auroc:
        return []
    is_sure = isinstance(interval, list) and baseline > interval[1]
    doubt = "" if is_sure else ", as far as so few parts can tell"
    return [
        f"mode {metrics['mode']} ranks these pictures worse (AUROC {auroc:.3f}) than a per-pixel "
        f"Gaussian of the same good parts does ({baseline:.3f}){doubt}: do not ship it; train "
        f"longer, and look at what gate and preprocessing cut out"
    ]


def known_maps(evaluation: Evaluation) -> list[Shown]:
    """Keep the frames whose truth is known pixel by pixel."""
    return [s for s in evaluation.shown if s.mask is not None]


def histograms(told: Sequence[Shown]) -> PixelHistograms:
    """Cut the maps of frames with known truth into common bins."""
    pairs = [(s.anomaly_map, s.mask) for s in told if s.mask is not None]
    return PixelHistograms.of([m for m, _ in pairs], [t for _, t in pairs])


def _of_parts(parts: Sequence[Outcome]) -> dict[str, object]:
    found = rates(parts)
    return {
        **_with_intervals(found, rate_intervals(parts)),
        "false_reject_rate_exact": exact_interval(found.n_false_rejects, found.n_good),
        "escape_rate_exact": exact_interval(found.n_escapes, found.n_defect),
    }


def _with_intervals(found: Rates, intervals: Intervals) -> dict[str, object]:
    """Put each number's interval beside it; counts have none."""
    told: dict[str, object] = {}
    for name, value in asdict(found).items():
        told[name] = value
        if not name.startswith("n_"):
            told[f"{name}_interval"] = intervals.get(name)
    return told


def _renamed(frames: Mapping[str, object]) -> dict[str, object]:
    return {f"image_{n}" if n.startswith("auroc") else n: value for n, value in frames.items()}


def _defect_names(evaluation: Evaluation) -> list[str]:
    return sorted({o.defect or "" for o in evaluation.frames if o.kind == "defect"})


def _defect_row(
    evaluation: Evaluation, name: str, told: Sequence[Shown], cut: PixelHistograms
) -> dict[str, object]:
    """Hold one kind of defect against all good frames."""

    def concerns(outcome: Outcome) -> bool:
        return outcome.kind == "good" or (outcome.defect or "") == name

    frames = [o for o in evaluation.frames if concerns(o)]
    parts = [o for o in evaluation.parts if concerns(o)]
    found, of_parts = rates(frames), rates(parts)
    row = _renamed(_with_intervals(found, rate_intervals(frames)))
    of_good = [key for key in row if key.startswith(("n_", "false_reject"))]
    return {
        "defect": name,
        "n": found.n_defect,
        "n_parts": of_parts.n_defect,
        "n_unknown": sum(
            o.decision == "unknown" and (o.defect or "") == name for o in evaluation.frames
        ),
        **{key: value for key, value in row.items() if key not in of_good},
        "n_escapes": found.n_escapes,
        "n_escaped_parts": of_parts.n_escapes,
        "part_escape_rate": of_parts.escape_rate,
        "part_escape_rate_interval": rate_intervals(parts).get("escape_rate"),
        "part_escape_rate_exact": exact_interval(of_parts.n_escapes, of_parts.n_defect),
        **_pixels(told, cut, [i for i, s in enumerate(told) if concerns(s.outcome)]),
    }


def _pixels(told: Sequence[Shown], cut: PixelHistograms, rows: Iterable[int]) -> dict[str, object]:
    """Measure some maps: exactly, and by their histograms for the intervals."""
    kept = list(rows)
    chosen = [told[i] for i in kept]
    pairs = [(s.anomaly_map, s.mask) for s in chosen if s.mask is not None]
    found = asdict(pixel_metrics([m for m, _ in pairs], [t for _, t in pairs]))
    intervals: Intervals = {}
    if found["pixel_auroc"] is not None:
        has_defect = [bool(t.any()) for _, t in pairs]
        parts = [s.outcome.part_id for s in chosen]
        intervals = bootstrap(parts, has_defect, cut.take(kept).measure)
    numbers: dict[str, object] = {"n_regions": found["n_regions"]}
    for name in PIXEL_MEASURES:
        numbers |= {name: found[name], f"{name}_interval": intervals.get(name)}
    return numbers
