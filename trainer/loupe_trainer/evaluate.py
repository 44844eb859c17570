"""How good is a bundle? Asked of the very code that runs on the line.

Nothing is tuned here: the threshold is the bundle's own, an AUROC below a half stays there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from loupe_edge.engines import open_engine
from loupe_edge.inspector import Inspection, Inspector
from loupe_models.atomic import write_text
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame
from loupe_models.preprocess import preprocess
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.errors import DataError
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.metrics import PixelMetrics, pixel_metrics
from loupe_trainer.outcomes import Outcome, Rates, part_outcomes, rates, write_decisions
from loupe_trainer.progress import Progress
from loupe_trainer.tracked import tracked

MAX_SIDE_PX = 1024  # maps are compared at the picture's own size, up to this


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame's map beside its truth, on one grid.

    Attributes:
        mask: None where nobody drew one of a defect: its pixels are neither good nor bad.
    """

    outcome: Outcome
    anomaly_map: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that is known after the test.

    Attributes:
        frames: In the order of inspection.
        parts: In the order of the items.
        shown: Frames that have a map.
        baseline: The Gaussian baseline's outcomes; empty where there was none.
    """

    mode: str
    threshold: float
    frames: tuple[Outcome, ...]
    parts: tuple[Outcome, ...]
    shown: tuple[Shown, ...]
    baseline: tuple[Outcome, ...]


def evaluate(
    bundle: Bundle, mode: str, data: DataSet, items: Sequence[Item], progress: Progress,
    baseline: GaussianBaseline | None = None,
) -> Evaluation:  # fmt: skip
    """Inspect every frame of some items.

    Args:
        bundle: Verified.
        mode: One that it serves.
        data: Where the items come from.
        items: None of them of a part that was learnt from.
        progress: Shown while frames are inspected.
        baseline: Scored beside the bundle, on the same crops.

    Raises:
        DataError: There is nothing to evaluate.
    """
    if not items:
        raise DataError("no frame to evaluate on; give pictures, or a recording with its labels")
    engine = open_engine(bundle, mode)
    belt = data.belt_from_camera
    inspector = Inspector(bundle, mode, engine, belt_from_camera=belt)
    frames: list[Outcome] = []
    shown: list[Shown] = []
    plain: list[Outcome] = []
    try:
        for item, frame in tracked(progress, data.frames(items), "inspecting", len(items)):
            found = inspector.inspect(frame)
            if found is None:
                continue
            outcome = _outcome(item, frame, found)
            frames.append(outcome)
            if found.anomaly_map is not None:
                shown.append(_show(outcome, item, found, data))
                if baseline is not None:
                    plain.append(_baseline_outcome(outcome, frame, found, inspector, baseline))
    finally:
        engine.close()
    return Evaluation(
        mode, inspector.cut, tuple(frames), tuple(part_outcomes(items, frames)), tuple(shown),
        tuple(plain),
    )  # fmt: skip


def summarise(evaluation: Evaluation) -> dict[str, object]:
    """Give what `metrics.json` holds; headline numbers count frames, `parts` counts parts."""
    frames, parts = rates(evaluation.frames), rates(evaluation.parts)
    rows = [_defect_row(evaluation, name) for name in _defect_names(evaluation)]
    each = [row["image_auroc"] for row in rows]
    known = [float(a) for a in each if isinstance(a, float)]
    baseline = rates(evaluation.baseline).auroc if evaluation.baseline else None
    return {
        "mode": evaluation.mode,
        "threshold": evaluation.threshold,
        **_rates_of_frames(frames),
        **asdict(_pixels(evaluation.shown)),
        "image_auroc_mean_of_defects": float(np.mean(known)) if known else None,
        "gaussian_baseline_image_auroc": baseline,
        "parts": asdict(parts),
        "defects": rows,
    }


def write_evaluation(folder: Path, evaluation: Evaluation) -> dict[str, object]:
    """Write `metrics.json` and `decisions.jsonl`, and give what the former holds."""
    metrics = summarise(evaluation)
    write_decisions(folder / "decisions.jsonl", evaluation.frames, evaluation.threshold)
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    return metrics


def _outcome(item: Item, frame: Frame, found: Inspection) -> Outcome:
    return Outcome(
        name=item.key,
        part_id=item.part_id,
        source=frame.label.source if frame.label and frame.label.source else str(item.source),
        kind=item.kind,
        defect=item.defect,
        decision=found.decision,
        reason=found.reason,
        score=found.score,
    )


def _show(outcome: Outcome, item: Item, found: Inspection, data: DataSet) -> Shown:
    """Bring the map to the region's own pixels and cut the truth to the region."""
    x, y, width, height = found.region
    shrink = min(1.0, MAX_SIDE_PX / max(width, height))
    size_wh = max(1, round(width * shrink)), max(1, round(height * shrink))
    small = np.asarray(found.anomaly_map, dtype=np.float32)
    grown = cv2.resize(small, size_wh, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    if item.kind == "good":
        return Shown(outcome, grown, np.zeros(grown.shape, dtype=bool))
    mask = data.mask(item)
    if mask is None:
        return Shown(outcome, grown, None)
    if mask.shape[0] < y + height or mask.shape[1] < x + width:
        raise DataError(f"{item.mask or item.key}: the mask is smaller than its picture")
    cut = mask[y : y + height, x : x + width].astype(np.uint8)
    cut = np.asarray(cv2.resize(cut, size_wh, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    return Shown(outcome, grown, cut > 0)


def _baseline_outcome(
    outcome: Outcome, frame: Frame, found: Inspection, inspector: Inspector,
    baseline: GaussianBaseline,
) -> Outcome:  # fmt: skip
    spec = inspector.contract.preprocess
    tensors = preprocess(frame, found.region, spec, inspector.belt_from_camera).tensors
    return replace(outcome, score=baseline.score(np.asarray(tensors["rgb"], dtype=np.uint8)))


def _defect_names(evaluation: Evaluation) -> list[str]:
    return sorted({o.defect or "" for o in evaluation.frames if o.kind == "defect"})


def _defect_row(evaluation: Evaluation, name: str) -> dict[str, object]:
    """Hold one kind of defect against all good frames."""

    def concerns(outcome: Outcome) -> bool:
        return outcome.kind == "good" or (outcome.defect or "") == name

    frames = rates([o for o in evaluation.frames if concerns(o)])
    parts = rates([o for o in evaluation.parts if concerns(o)])
    pixels = _pixels([s for s in evaluation.shown if concerns(s.outcome)])
    return {
        "defect": name,
        "n": frames.n_defect,
        "n_parts": parts.n_defect,
        "n_unknown": sum(o.decision == "unknown" and o.defect == name for o in evaluation.frames),
        "image_auroc": frames.auroc,
        "escape_rate": frames.escape_rate,
        **asdict(pixels),
    }


def _rates_of_frames(frames: Rates) -> dict[str, object]:
    told: dict[str, object] = asdict(frames)
    return {"image_auroc": told.pop("auroc"), **told}


def _pixels(shown: Sequence[Shown]) -> PixelMetrics:
    known = [(s.anomaly_map, s.mask) for s in shown if s.mask is not None]
    return pixel_metrics([m for m, _ in known], [t for _, t in known])
