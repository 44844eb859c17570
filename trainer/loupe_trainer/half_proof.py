"""A mode's FP16 graph, made and tried as far as that goes before there is a threshold.

Range on calibration frames, noise and stress inputs; true rounding on torch's CPU; and the scores
that `half_exam` holds against the threshold once it is known.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import Field

from loupe_edge.errors import EngineError
from loupe_models.checked import Checked
from loupe_models.errors import GraphError
from loupe_models.manifest import TensorSpec
from loupe_models.preprocess import Tensors
from loupe_trainer.errors import HalfError
from loupe_trainer.export import export_onnx
from loupe_trainer.half import Copies, copies_of, trace_rounding
from loupe_trainer.half_range import MagnitudeProbe, check_range, check_weights
from loupe_trainer.methods.base import Detector
from loupe_trainer.parity import random_inputs
from loupe_trainer.progress import Progress
from loupe_trainer.scorer import Answer, Scorer
from loupe_trainer.spread import spread
from loupe_trainer.tolerance import HALF

N_SPREAD: Final = 16  # calibration frames over all of them
N_HIGHEST: Final = 8  # and those that score highest, where the threshold lies
N_AMPLIFIED: Final = 2
GAIN: Final = 100.0
FARTHEST_M: Final = 10.0  # as far as a depth camera sees at all
OF_CLOUD: Final = ("xyz", "groups", "centres")
OLD_RUN: Final = "this run was trained before FP16 graphs were made; train again for one"


class HalfProof(Checked):
    """What is known of a mode's FP16 graph before there is a threshold.

    Attributes:
        refused: Why there is none; empty where there is.
        layer: Where FP16 loses most, for messages.
        scores: Of each frame that was compared: the float32 graph's, and the FP16 graph's.
        parity: What was measured, as the manifest will say it.
    """

    refused: str = ""
    layer: str = ""
    scores: tuple[tuple[float, float], ...] = ()
    parity: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """What an FP16 graph is tried on.

    Attributes:
        reference: The float32 graph.
        half: Where the FP16 graph goes; nothing is left there if it is refused.
        inputs: Of both graphs.
        outputs: Of both graphs.
        frames: Some of the calibration frames; the first one that passes is golden later.
        unit: Of their scores, s95 - s50.
        seed: Of the noise.
    """

    reference: Path
    half: Path
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    frames: Sequence[Tensors]
    unit: float
    seed: int


def prove_half(detector: Detector, trial: Trial, progress: Progress) -> HalfProof:
    """Export a detector's FP16 graph and try it.

    Returns:
        What was found. A graph that fails is removed, and `refused` says why: the float32 graph is
        the reference and stands without it.
    """
    try:
        return _proved(detector, trial, progress)
    except (HalfError, GraphError, EngineError) as error:
        reason = str(error)
    except RuntimeError as error:  # torch's own, of an operation that it has not in FP16
        reason = f"the network does not compute in FP16: {(str(error).splitlines() or ['?'])[0]}"
    trial.half.unlink(missing_ok=True)
    return HalfProof(refused=reason)


def frames_to_try(scores: Sequence[float]) -> list[int]:
    """Choose at most 24 calibration frames: some spread over all, and the highest-scoring.

    Args:
        scores: One a frame.
    """
    highest = np.argsort(-np.asarray(scores), kind="stable")[:N_HIGHEST]
    return [int(i) for i in dict.fromkeys((*spread(len(scores), N_SPREAD), *highest))]


def stress_inputs(like: Tensors) -> Iterator[tuple[str, Tensors]]:
    """Make what no part looks like, each with its name.

    White is full colour, and a cloud stretched until its farthest point is 10 m away. Black is no
    colour, and nothing measured anywhere.

    Args:
        like: What preprocessing gives.
    """
    cloud = [np.abs(like[name]).max() for name in OF_CLOUD if name in like]
    stretch = FARTHEST_M / max(float(max(cloud, default=FARTHEST_M)), 1e-3)
    white = {name: array.copy() for name, array in like.items()}
    black = {name: np.zeros_like(array) for name, array in like.items()}
    for name in OF_CLOUD:
        if name in like:
            white[name] = like[name].astype(np.float32) * np.float32(stretch)
    if "rgb" in like:
        white["rgb"] = np.full_like(like["rgb"], 255)
    if "nn_index" in like:
        black["nn_index"] = like["nn_index"].copy()
    yield "an all-white input", white
    yield "an all-black input", black


def _proved(detector: Detector, trial: Trial, progress: Progress) -> HalfProof:
    first, copies = trial.frames[0], copies_of(detector)
    export_onnx(copies.half, first, trial.half)
    check_weights(trial.half)
    noise = list(random_inputs(first, trial.seed))
    rounded, layer = _rounding(copies, [first, *trial.frames[-1:], noise[0]], trial.unit)
    largest = max(_largest(trial, noise, progress), _largest_amplified(detector, trial))
    answers = _answers(trial, noise)
    parity = {
        "true_rounding": rounded,
        "anomaly_map": max(_map_error(*pair, trial.unit) for pair in answers),
        "largest_fp16": largest,
    }
    scores = tuple((want.score, have.score) for want, have in answers)
    return HalfProof(layer=layer, scores=scores, parity=parity)


def _rounding(copies: Copies, inputs: Sequence[Tensors], unit: float) -> tuple[float, str]:
    """Give the largest score error of true rounding, and where it comes from.

    Raises:
        HalfError: It is above 1 %, or something is not finite; names the layer.
    """
    worst, said = 0.0, ""
    for tensors in inputs:
        traced = trace_rounding(copies, tensors)
        finite = np.isfinite(traced.half.anomaly_map).all() and np.isfinite(traced.half.score)
        error = HALF.largest_error(traced.half.score, traced.reference.score, unit)
        if not finite or not error <= HALF.of_unit:
            moved = f"moves a score by {HALF.said(error)}, and {HALF.of_unit} is allowed"
            told = moved if finite else "gives what is not finite"
            raise HalfError(f"rounding to FP16 {told}; {traced.said}")
        if error >= worst:
            worst, said = error, traced.said
    return worst, said


def _largest(trial: Trial, noise: Sequence[Tensors], progress: Progress) -> float:
    """Give the largest FP16 number on frames, noise and stress inputs."""
    first = trial.frames[0]
    tried = [
        *(("a calibration frame", tensors) for tensors in trial.frames),
        *(("noise", tensors) for tensors in noise),
        *stress_inputs(first),
    ]
    with MagnitudeProbe(trial.reference, trial.half, trial.inputs, trial.outputs) as probe:
        shown = progress.track(tried, "how large FP16 numbers become")
        return max(check_range(probe.largest(tensors), what) for what, tensors in shown)


def _largest_amplified(detector: Detector, trial: Trial) -> float:
    """Give the same of a detector whose features are a hundred times as large."""
    louder = copy.deepcopy(detector)
    louder.amplify(GAIN)
    what = f"features {GAIN:.0f} times as large"
    with tempfile.TemporaryDirectory(prefix="loupe-stress-") as folder:
        file = Path(folder) / trial.reference.name
        export_onnx(louder, trial.frames[0], file)
        with MagnitudeProbe(file, trial.half, trial.inputs, trial.outputs) as probe:
            some = trial.frames[:N_AMPLIFIED]
            return max(check_range(probe.largest(tensors), what) for tensors in some)


def _answers(trial: Trial, noise: Sequence[Tensors]) -> list[tuple[Answer, Answer]]:
    """Ask both graphs."""
    with (
        Scorer(trial.reference, trial.inputs, trial.outputs) as reference,
        Scorer(trial.half, trial.inputs, trial.outputs) as half,
    ):
        tried = (*trial.frames, *noise)
        return [(reference.answer(tensors), half.answer(tensors)) for tensors in tried]


def _map_error(want: Answer, have: Answer, unit: float) -> float:
    return HALF.largest_error(have.anomaly_map, want.anomaly_map, unit)
