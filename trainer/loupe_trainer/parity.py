"""Does the exported graph say what the network says?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from loupe_models.groups import group_points
from loupe_models.points import grid_points, sample_farthest
from loupe_models.preprocess import GROUPED, Tensors
from loupe_models.scoring import score_unit
from loupe_trainer.errors import ParityError
from loupe_trainer.scorer import Scorer
from loupe_trainer.tolerance import FLOAT32

N_RANDOM = 4
JITTER_M = 0.01


def measure_parity(
    detector: torch.nn.Module,
    scorer: Scorer,
    inputs: Iterable[Tensors],
    calibration_scores: Sequence[float],
) -> dict[str, float]:
    """Compare network and graph.

    The error is law 8's: the difference in units of the good parts' spread, s95 - s50. Far above
    the threshold, where float32 runs out of digits, a relative 1e-5 stands for 1e-3 units.

    Args:
        detector: What was exported.
        scorer: The graph.
        inputs: Tensors to try.
        calibration_scores: Give the unit.

    Returns:
        Largest errors of the image score and of the anomaly map.

    Raises:
        ParityError: Either exceeds 1e-3.
    """
    unit = score_unit(calibration_scores)
    worst = {"image_score": 0.0, "anomaly_map": 0.0}
    for tensors in inputs:
        score, anomaly_map = run_torch(detector, tensors)
        answer = scorer.answer(tensors)
        errors = {
            "image_score": FLOAT32.largest_error(np.float32(answer.score), score, unit),
            "anomaly_map": FLOAT32.largest_error(answer.anomaly_map, anomaly_map[0, 0], unit),
        }
        # np.maximum, because max() forgets a NaN
        worst = {n: float(np.maximum(worst[n], error)) for n, error in errors.items()}
    bad = {name: error for name, error in worst.items() if not error <= FLOAT32.of_unit}
    if bad:
        said = ", ".join(f"{name} by {FLOAT32.said(error)}" for name, error in bad.items())
        raise ParityError(
            f"the exported graph differs from the network: {said}, "
            f"at most {FLOAT32.of_unit} is allowed"
        )
    return worst


def run_torch(
    detector: torch.nn.Module, tensors: Mapping[str, npt.NDArray[np.generic]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Run the network; gives the image score (1,) and the anomaly map (1, 1, H, W)."""
    detector.eval()
    with torch.no_grad():
        anomaly_map, score = detector(*(torch.from_numpy(np.array(t)) for t in tensors.values()))
    return score.cpu().numpy(), anomaly_map.cpu().numpy()


def random_inputs(like: Tensors, seed: int) -> Iterator[Tensors]:
    """Make inputs no camera takes: colours at random, points jittered by a centimetre.

    Groups are those of the jittered points, so that tensors fit each other as a camera's do.
    """
    rng = np.random.default_rng(seed)
    for _ in range(N_RANDOM):
        made: dict[str, npt.NDArray[np.generic]] = {}
        grouped = _random_groups(like, rng) if GROUPED & set(like) else {}
        for name, array in like.items():
            if name in grouped:
                made[name] = grouped[name]
            elif array.dtype == np.uint8 and name != "valid":
                made[name] = rng.integers(0, 256, array.shape, dtype=np.uint8)
            elif array.dtype == np.float32 and name != "nn_weight":
                points = array.astype(np.float32)
                noise = rng.normal(0, JITTER_M, array.shape).astype(np.float32)
                made[name] = np.where(points != 0, points + noise, np.float32(0))
            else:
                made[name] = array
        yield made


def _random_groups(like: Tensors, rng: np.random.Generator) -> dict[str, npt.NDArray[np.generic]]:
    """Jitter the cloud, which the centres tell roughly where it is not given, and group it anew."""
    n_centres, size = like["groups"].shape[1:3]
    xyz, valid = _cloud_like(like)
    noise = rng.normal(0, JITTER_M, xyz.shape).astype(np.float32)
    jittered = np.where(valid[..., None] != 0, xyz + noise, np.float32(0))
    sampled = sample_farthest(grid_points(jittered, valid), n_centres)
    made = {**group_points(jittered, valid, sampled, size), "xyz": jittered, "valid": valid}
    return {name: array[None] for name, array in made.items()}


def _cloud_like(like: Tensors) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Give points (H, W, 3) and whether they are valid; one row where only the groups are told."""
    weight = like["nn_weight"][0].astype(np.float32)
    valid = (weight.sum(axis=-1) > 0).astype(np.uint8)
    if "xyz" in like:
        xyz = like["xyz"][0].astype(np.float32)
        return xyz, valid.reshape(xyz.shape[:2])
    near = like["centres"][0].astype(np.float32)[like["nn_index"][0].astype(np.intp)]
    return (near * weight[..., None]).sum(axis=1)[None], valid[None]
