"""From cached samples to a graph whose scores mean something: fit, normalise, export, calibrate."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from loupe_models.atomic import write_text
from loupe_models.manifest import Backbone, TensorSpec
from loupe_trainer.cache import Samples
from loupe_trainer.errors import RunError
from loupe_trainer.export import export_onnx
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.methods.base import Method
from loupe_trainer.parity import measure_parity, random_inputs
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder
from loupe_trainer.scorer import Scorer
from loupe_trainer.split import Split
from loupe_trainer.tracked import tracked

GRAPH = "graph.fp32.onnx"
LEARNT = "learnt.json"
BASELINE = "gaussian_baseline.npz"
N_PARITY = 8  # calibration frames tried beside the random inputs


class Learnt(BaseModel):
    """What `learn` leaves in the run's `export` folder, beside the graph.

    Attributes:
        part_scores: Of the threshold parts, by part id: the highest frame score.
        parity: Largest errors of the graph against the network.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    part_scores: dict[str, float]
    parity: dict[str, float]
    backbone: Backbone | None


def learn(
    method: Method, samples: Samples, split: Split, run: RunFolder, progress: Progress, seed: int
) -> Learnt:
    """Fit, fix the map's scale, export, score the threshold parts, prove parity.

    The scores come from the exported graph on the edge's own engine: what the threshold rests on
    is what will be held against it. A run that has done this already is read back.

    Args:
        method: With its settings.
        samples: Of every item of the split but the test's.
        split: Says which sample serves what.
        run: Takes the result, whole or not at all.
        progress: Shown all along.
        seed: Of the random inputs that parity is tried on.

    Raises:
        ParityError: The graph differs from the network.
    """
    if (run.export / LEARNT).exists():
        return read_learnt(run)
    held_out = samples.of(split.quantiles)
    detector = method.fit(samples.of(split.fit), held_out, run, progress)
    method.normalise(detector, held_out)
    run.path.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".export.", dir=run.path))
    try:
        calibration = samples.of(split.threshold)
        first = calibration[0]
        inputs, outputs = export_onnx(detector, first, making / GRAPH)
        with Scorer(making / GRAPH, inputs, outputs) as scorer:
            part_scores = _score_parts(calibration, scorer, progress)
            tried = chain((calibration[i] for i in _spread(len(calibration))),
                          random_inputs(first, seed))  # fmt: skip
            parity = measure_parity(detector, scorer, tried, sorted(part_scores.values()))
        learnt = Learnt(
            inputs=inputs, outputs=outputs, part_scores=part_scores, parity=parity,
            backbone=method.backbone,
        )  # fmt: skip
        if "rgb" in first:
            crops = (np.asarray(s["rgb"], dtype=np.uint8) for s in samples.of(split.fit))
            GaussianBaseline.fit(crops).save(making / BASELINE)
        write_text(making / LEARNT, learnt.model_dump_json(indent=1) + "\n")
        os.replace(making, run.export)  # noqa: PTH105
    finally:
        shutil.rmtree(making, ignore_errors=True)  # nothing, once it is in place
    return learnt


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


def _score_parts(samples: Samples, scorer: Scorer, progress: Progress) -> Mapping[str, float]:
    """Score every frame; a part counts once, by its highest."""
    scores: dict[str, float] = {}
    pairs = zip(samples.items, samples, strict=True)
    for item, tensors in tracked(progress, pairs, "scoring the threshold parts", len(samples)):
        score = scorer.answer(tensors).score
        scores[item.part_id] = max(score, scores.get(item.part_id, score))
    return scores


def _spread(n: int) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, n - 1, N_PARITY)})
