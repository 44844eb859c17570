"""From cached samples to graphs whose scores mean something: fit, normalise, export, calibrate."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from loupe_models.atomic import write_text
from loupe_models.checked import Checked
from loupe_models.manifest import Backbone, Mode, Precision, TensorSpec
from loupe_models.scoring import score_unit
from loupe_trainer.cache import Samples
from loupe_trainer.errors import RunError
from loupe_trainer.export import export_onnx
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.half_proof import OLD_RUN, HalfProof, Trial, frames_to_try, prove_half
from loupe_trainer.methods.base import Detector
from loupe_trainer.parity import measure_parity, random_inputs
from loupe_trainer.plan import Plan
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder
from loupe_trainer.scorer import Scorer
from loupe_trainer.spread import spread
from loupe_trainer.tracked import tracked
from loupe_trainer.views import naming

LEARNT = "learnt.json"
BASELINE = "gaussian_baseline.npz"
N_PARITY = 8  # calibration frames tried beside the random inputs


class LearntMode(Checked):
    """What was measured on a mode's graph.

    Attributes:
        part_scores: Of the threshold parts, by part id: the highest frame score.
        parity: Largest errors of the graph against the network.
        half: What was found of the FP16 graph.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    part_scores: dict[str, float]
    parity: dict[str, float]
    half: HalfProof = HalfProof(refused=OLD_RUN)


class Learnt(Checked):
    """What `learn` leaves in the run's `export` folder, beside the graphs."""

    modes: dict[Mode, LearntMode] = Field(min_length=1)
    backbone: Backbone | None


def graph_name(mode: Mode, precision: Precision = "fp32") -> str:
    """Name a mode's graph, in the run as in the bundle; `fp32` is the reference."""
    return f"{mode}.{precision}.onnx"


def learn(plan: Plan, samples: Samples, run: RunFolder, progress: Progress) -> Learnt:
    """Fit, fix the maps' scale; for each mode export, score the threshold parts, prove parity.

    The scores come from the exported graph on the edge's own engine: what the threshold rests on
    is what will be held against it. A run that has done this already is read back.

    Args:
        plan: Says by which method is learnt, and which sample serves what.
        samples: Of every item of the split but the test's.
        run: Takes the result, whole or not at all.
        progress: Shown all along.

    Raises:
        ParityError: A graph differs from its network; the message names the mode.
    """
    if (run.export / LEARNT).exists():
        return read_learnt(run)
    fitted, held_out = samples.of(plan.split.fit), samples.of(plan.split.quantiles)
    detectors = plan.method.fit(fitted, held_out, run, progress)
    plan.method.normalise(detectors, held_out)
    run.path.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".export.", dir=run.path))
    try:
        modes: dict[Mode, LearntMode] = {}
        for mode, view in plan.views.modes.items():
            calibration = samples.of_mode(plan.split.threshold, mode, view.preprocess.tensors)
            with naming(mode):
                graphs = making / graph_name(mode), making / graph_name(mode, "fp16")
                modes[mode] = _measure(detectors[mode], calibration, graphs, plan, progress)
        learnt = Learnt(modes=modes, backbone=plan.method.backbone)
        if "rgb" in fitted.arrays:
            crops = (np.asarray(s["rgb"], dtype=np.uint8) for s in fitted)
            GaussianBaseline.fit(crops).save(making / BASELINE)
        write_text(making / LEARNT, learnt.model_dump_json(indent=1) + "\n")
        os.replace(making, run.export)  # noqa: PTH105
    finally:
        shutil.rmtree(making, ignore_errors=True)  # nothing, once it is in place
    return learnt


def _measure(
    detector: Detector, calibration: Samples, graphs: tuple[Path, Path], plan: Plan,
    progress: Progress,
) -> LearntMode:  # fmt: skip
    """Export a mode's network, score the threshold parts with the graph, hold it against both.

    Then the same network in FP16, which is proved or left out.
    """
    first, (graph, half) = calibration[0], graphs
    inputs, outputs = export_onnx(detector, first, graph)
    with Scorer(graph, inputs, outputs) as scorer:
        frame_scores = _score_frames(calibration, scorer, progress)
        part_scores = _by_part(calibration, frame_scores)
        some = (calibration[i] for i in spread(len(calibration), N_PARITY))
        tried = chain(some, random_inputs(first, plan.recipe.seed))
        parity = measure_parity(detector, scorer, tried, sorted(part_scores.values()))
    frames = [calibration[i] for i in frames_to_try(frame_scores)]
    unit = score_unit(sorted(part_scores.values()))
    trial = Trial(graph, half, inputs, outputs, frames, unit, plan.recipe.seed)
    return LearntMode(
        inputs=inputs, outputs=outputs, part_scores=part_scores, parity=parity,
        half=prove_half(detector, trial, progress),
    )  # fmt: skip


def read_learnt(run: RunFolder) -> Learnt:
    """Read back what an earlier `learn` left.

    Raises:
        RunError: Missing, or damaged.
    """
    file = run.export / LEARNT
    try:
        return Learnt.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(
            f"{file}: not readable; delete {run.export} and train again with the same --out, "
            f"which continues from the checkpoints"
        ) from error


def _score_frames(samples: Samples, scorer: Scorer, progress: Progress) -> list[float]:
    shown = tracked(progress, samples, "scoring the threshold parts", len(samples))
    return [scorer.answer(tensors).score for tensors in shown]


def _by_part(samples: Samples, frame_scores: Sequence[float]) -> dict[str, float]:
    """Let a part count once, by its highest score."""
    scores: dict[str, float] = {}
    for item, score in zip(samples.items, frame_scores, strict=True):
        scores[item.part_id] = max(score, scores.get(item.part_id, score))
    return scores
