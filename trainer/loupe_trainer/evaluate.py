"""How good is a bundle? Asked of the very code that runs on the line.

Nothing is tuned here: the threshold is the bundle's own, an AUROC below a half stays there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from loupe_edge.engines import open_engine
from loupe_edge.inspector import Inspection, Inspector
from loupe_edge.proof import prove
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame, Rect
from loupe_models.preprocess import preprocess
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.errors import DataError
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.outcomes import Outcome, part_outcomes
from loupe_trainer.progress import Progress
from loupe_trainer.tracked import tracked

MAX_SIDE_PX = 1024  # maps are compared at the picture's own size, up to this


@dataclass(frozen=True, slots=True)
class Exam:
    """What a bundle is asked.

    Attributes:
        items: Those of `data` that are asked, none of them of a part that was learnt from.
        sha256: Of each file's content, by its place.
        is_checked: Whether what the bundle learnt from was at hand, and nothing here is of it.
    """

    data: DataSet
    items: Sequence[Item]
    sha256: Mapping[Path, str]
    is_checked: bool

    @property
    def data_sha256(self) -> str:
        """Hash what is asked: pictures, masks and kinds, wherever they lie."""
        lines = sorted(
            f"{self.sha256.get(item.source)} {item.stamp} "
            f"{self.sha256.get(item.mask) if item.mask else None} {item.kind} {item.defect}\n"
            for item in self.items
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame's map beside its truth, on one grid.

    Attributes:
        region: Where in the frame the grid lies, pixels.
        mask: None where nobody drew one of a defect: its pixels are neither good nor bad.
    """

    outcome: Outcome
    region: Rect
    anomaly_map: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that is known after the test.

    Attributes:
        seed: Of the run that the bundle came from.
        frames: In the order of inspection.
        parts: In the order of the items.
        shown: Frames that have a map.
        baseline: The Gaussian baseline's outcomes; empty where there was none.
        stage_us: Microseconds by stage, of each frame.
    """

    mode: str
    seed: int
    threshold: float
    frames: tuple[Outcome, ...]
    parts: tuple[Outcome, ...]
    shown: tuple[Shown, ...]
    baseline: tuple[Outcome, ...]
    stage_us: tuple[Mapping[str, int], ...]


def evaluate(
    bundle: Bundle, mode: str, exam: Exam, progress: Progress,
    baseline: GaussianBaseline | None = None,
) -> Evaluation:  # fmt: skip
    """Prove a bundle on this machine, then inspect every frame of an exam.

    Args:
        bundle: Verified.
        mode: One that it serves.
        exam: The items and where they come from.
        progress: Shown while frames are inspected.
        baseline: Scored beside the bundle, on the same crops.

    Raises:
        DataError: There is nothing to evaluate.
        ProofError: The bundle does not answer here as it did where it was made.
    """
    data, items = exam.data, exam.items
    if not items:
        raise DataError("no frame to evaluate on; give pictures, or a recording with its labels")
    engine = open_engine(bundle, mode)
    belt = data.belt_from_camera
    inspector = Inspector(
        bundle, mode, engine, belt_from_camera=belt, min_depth_valid=data.min_depth_valid
    )
    outcomes: list[Outcome] = []
    shown: list[Shown] = []
    plain: list[Outcome] = []
    stage_us: list[Mapping[str, int]] = []
    with (
        closing(engine),
        closing(data.frames(items)) as frames,
        closing(tracked(progress, frames, "inspecting", len(items))) as inspected,
    ):
        prove(bundle, mode, engine)
        for item, frame in inspected:
            found = inspector.inspect(frame)
            if found is None:
                continue
            outcome = _outcome(item, frame, found)
            outcomes.append(outcome)
            stage_us.append(found.stage_us)
            if found.anomaly_map is not None:
                shown.append(_show(outcome, item, found, data))
                if baseline is not None:
                    plain.append(_baseline_outcome(outcome, frame, found, inspector, baseline))
    return Evaluation(
        mode, bundle.manifest.provenance.seed, inspector.cut, tuple(outcomes),
        tuple(part_outcomes(items, outcomes)), tuple(shown), tuple(plain), tuple(stage_us),
    )  # fmt: skip


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
        return Shown(outcome, found.region, grown, np.zeros(grown.shape, dtype=bool))
    mask = data.mask(item)
    if mask is None:
        return Shown(outcome, found.region, grown, None)
    if mask.shape[0] < y + height or mask.shape[1] < x + width:
        raise DataError(f"{item.mask or item.key}: the mask is smaller than its picture")
    cut = mask[y : y + height, x : x + width].astype(np.uint8)
    cut = np.asarray(cv2.resize(cut, size_wh, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    return Shown(outcome, found.region, grown, cut > 0)


def _baseline_outcome(
    outcome: Outcome, frame: Frame, found: Inspection, inspector: Inspector,
    baseline: GaussianBaseline,
) -> Outcome:  # fmt: skip
    spec = inspector.contract.preprocess
    tensors = preprocess(frame, found.region, spec, inspector.belt_from_camera).tensors
    return replace(outcome, score=baseline.score(np.asarray(tensors["rgb"], dtype=np.uint8)))
