"""The few patch features that cover all the others: greedy farthest point, memory bounded.

PatchCore (arXiv 2106.08265), section 3.2, as CMDIAD and M3DM use it: a sparse random projection
first, then from row 0 on always the row that is farthest from everything chosen.

The plain loop reads every candidate once for each choice. Distances to what is chosen only ever
fall, so one that was measured a while ago is an upper bound of today's. Choices are therefore made
in a pool of the farthest candidates for as long as the pool's best lies above every bound outside
it, and the others are brought up to date for all those choices at once, as one matrix product. The
order of choice is that of the plain loop.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim
from torch import Tensor

from loupe_models.atomic import write_bytes
from loupe_trainer.errors import DataError, RunError
from loupe_trainer.progress import Progress

JL_EPS: Final = 0.9  # as published
ROWS_PER_BLOCK: Final = 8192
CANDIDATES_PER_POOLED: Final = 64
LEAST_POOL: Final = 1024
MOST_CHOICES_A_SWEEP: Final = 512
CHECKPOINT_EVERY_S: Final = 60.0

Features = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.int64]


def select_coreset(
    features: Features,
    share: float,
    seed: int,
    progress: Progress,
    checkpoint: Path | None = None,
) -> Rows:
    """Choose the rows that a memory bank keeps.

    Beside `features` it takes 4 bytes a candidate for each projected dimension (335 dimensions for
    800,000 candidates: 1.1 GB) and blocks of 100 MB.

    Args:
        features: (N, C) float16 or float32, a memory-mapped array on disk as well.
        share: Of the candidates, in (0, 1]; at least one row is kept.
        seed: Of the projection; the same seed gives the same rows.
        progress: Shows how many rows are chosen.
        checkpoint: Takes what is chosen so far, once a minute; a call with the same features, share
            and seed goes on from it. The caller removes it.

    Returns:
        (n,) int64 in order of choice: the first m of them are the coreset of m rows. Where fewer
        than n rows differ, some are chosen that are equal to others.

    Raises:
        DataError: No features, some that are not finite, or a share outside (0, 1].
        RunError: The checkpoint is damaged, or of other features, share or seed.
    """
    _check(features, share)
    n_wanted = max(1, round(share * len(features)))
    candidates, sha256 = _project(features, seed, progress)
    settings = {"sha256": sha256, "n_rows": n_wanted, "seed": seed}
    cover = _Cover(candidates)
    if checkpoint is not None:
        cover.restore(checkpoint, settings)
    saved_at = time.monotonic()
    with progress.task("coreset", n_wanted, done=len(cover.chosen)) as task:
        while len(cover.chosen) < n_wanted:
            task.advance(cover.choose_more(n_wanted))
            is_due = time.monotonic() - saved_at >= CHECKPOINT_EVERY_S
            if checkpoint is not None and (is_due or len(cover.chosen) == n_wanted):
                cover.save(checkpoint, settings)
                saved_at = time.monotonic()
    return np.array(cover.chosen, dtype=np.int64)


def _check(features: Features, share: float) -> None:
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"features are {features.shape}; a coreset is chosen from (N, C)")
    if not 0 < share <= 1:
        raise DataError(f"share = {share}: keep more than 0 and at most 1 (all) of the features")


def _project(features: Features, seed: int, progress: Progress) -> tuple[Tensor, str]:
    """Project block by block, about the mean of the first block, so that float32 suffices.

    Features of few dimensions stay as they are: Johnson and Lindenstrauss ask for more than that.
    """
    n, channels = features.shape
    n_dimensions = int(johnson_lindenstrauss_min_dim(n, eps=JL_EPS)) if n > 1 else channels
    projection = None
    if n_dimensions < channels:
        projection = SparseRandomProjection(n_dimensions, random_state=seed)
        projection.fit(np.zeros((1, channels), np.float32))  # it looks at the shape alone
    candidates = torch.empty(n, min(n_dimensions, channels))
    digest = hashlib.sha256(f"{features.shape} {features.dtype}".encode())
    centre: npt.NDArray[np.float32] | None = None
    for block in progress.track(list(_blocks(n)), "projection"):
        digest.update(np.ascontiguousarray(features[block]).tobytes())
        rows = features[block].astype(np.float32)
        if not np.isfinite(rows).all():
            bad = block.start + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise DataError(f"row {bad} of the features is not finite; no bank can hold it")
        centre = rows.mean(axis=0) if centre is None else centre
        rows -= centre
        candidates[block] = torch.from_numpy(projection.transform(rows) if projection else rows)
    return candidates, digest.hexdigest()


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, ROWS_PER_BLOCK):
        yield slice(start, min(start + ROWS_PER_BLOCK, n))


class _Cover:
    """What is chosen, and how far every candidate is from the nearest of it.

    Attributes:
        chosen: Row numbers in order of choice.
        nearest: (N,) squared distances; -1 for chosen rows, so that none is chosen twice.
    """

    def __init__(self, candidates: Tensor) -> None:
        self.candidates = candidates
        self.norms = torch.cat([candidates[b].square().sum(1) for b in _blocks(len(candidates))])
        self.chosen: list[int] = []
        self.nearest = torch.full((len(candidates),), math.inf)

    def choose_more(self, n_wanted: int) -> int:
        """Choose until the pool is used up, and bring all candidates up to date.

        Returns:
            How many were chosen, one at least.
        """
        most = min(MOST_CHOICES_A_SWEEP, n_wanted - len(self.chosen))
        new = self._choose_in_pool(most) if self.chosen else [0]
        self.chosen += new
        self._sweep(new)
        return len(new)

    def _choose_in_pool(self, most: int) -> list[int]:
        n = len(self.candidates)
        n_pooled = min(n - 1, max(LEAST_POOL, n // CANDIDATES_PER_POOLED))
        top, which = torch.topk(self.nearest, n_pooled + 1)
        bound = float(top[-1])  # of everything outside the pool
        rows = which[:-1].sort().values  # ties go to the lower row
        pool, norms = self.candidates[rows], self.norms[rows]
        nearest = self.nearest[rows]
        new: list[int] = []
        while len(new) < most:
            at = int(nearest.numpy().argmax())
            if float(nearest[at]) <= bound:
                break
            new.append(int(rows[at]))
            squared = (norms + norms[at] - 2 * (pool @ pool[at])).clamp_(min=0)
            torch.minimum(nearest, squared, out=nearest)
            nearest[at] = -1
        # Equals on both sides of the pool's edge: the lowest of them all is next.
        return new or [int(self.nearest.numpy().argmax())]

    def _sweep(self, new: list[int]) -> None:
        index = torch.tensor(new)
        chosen, norms = self.candidates[index].T.contiguous(), self.norms[index]
        for block in _blocks(len(self.candidates)):
            squared = torch.addmm(norms[None], self.candidates[block], chosen, alpha=-2)
            closest = squared.amin(dim=1).add_(self.norms[block]).clamp_(min=0)
            self.nearest[block] = torch.minimum(self.nearest[block], closest)
        self.nearest[index] = -1

    def save(self, path: Path, settings: dict[str, object]) -> None:
        arrays = {"chosen": np.array(self.chosen, np.int64), "nearest": self.nearest.numpy()}
        write_bytes(path, save(arrays, {"settings": json.dumps(settings)}))

    def restore(self, path: Path, settings: dict[str, object]) -> None:
        if not path.exists():
            return
        try:
            with safe_open(path, framework="pt") as file:
                written_under = (file.metadata() or {}).get("settings")
                chosen, nearest = file.get_tensor("chosen"), file.get_tensor("nearest")
        except SafetensorError as error:
            raise RunError(f"{path} is not a whole checkpoint ({error}); delete it") from error
        if written_under != json.dumps(settings):
            raise RunError(
                f"{path} belongs to other features, another share or seed; delete it, or choose "
                f"another place"
            )
        self.chosen, self.nearest = chosen.tolist(), nearest
