"""Several banks' answers in one: a one-class SVM, which is a linear combination.

M3DM (arXiv 2303.00601), section 3.3, and CMDIAD: one `SGDOneClassSVM` for the vectors of single
pixels and one for score vectors. Its score is w . x, so w is all that is exported.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDOneClassSVM
from torch import Tensor

from loupe_trainer.errors import DataError
from loupe_trainer.precision import StaysFloat32

NU: Final = 0.5
MAX_EPOCHS: Final = 1000
SEED: Final = 42  # the published one: of the SVM's order, and of which rows are used
# Of 2 million drawn pixels, so many gave weights within 0.0003 of those of all, in a quarter of the
# time; two orders of all of them differ by less than 0.000001.
MAX_ROWS: Final = 500_000
LEAST_VECTORS: Final = 2

Vectors = npt.NDArray[np.floating[Any]]


class LinearFusion(StaysFloat32):
    """Adds what the banks say, each with its weight: their maps, or their scores.

    Weights are zero or more, and come to 1 when each counts in medians of its bank: where all banks
    answer as usual, the sum is 1.

    Attributes:
        n_banks: How many banks it joins.
    """

    weights: Tensor

    def __init__(self, n_banks: int) -> None:
        super().__init__()
        self.n_banks = n_banks
        self.register_buffer("weights", torch.full((n_banks,), 1 / n_banks))

    def fit_maps(self, maps: Sequence[Tensor]) -> list[str]:
        """Find the weights for maps, (banks, h, w) of each frame; as `fit`."""
        pixels = torch.cat([m.flatten(1).T for m in maps])  # (N*h*w, B)
        return self.fit(pixels.numpy(), "map")

    def fit(self, vectors: Vectors, name: str) -> list[str]:
        """Find the weights.

        Args:
            vectors: (n, banks), of good parts: a row for each pixel of their maps, or for each
                frame's scores. None of their patches may be in a bank: there they lie on top of
                themselves, and the published fit, which uses just these parts, weighs banks by
                distances that no new part has.
            name: What they are, for notes and errors.

        Returns:
            What was unusual about the fit, one sentence each.

        Raises:
            DataError: Too few rows, another number of banks, values that are negative or not
                finite, or a bank whose distances are mostly zero.
        """
        _check(vectors, self.n_banks, name)
        if len(vectors) > MAX_ROWS:
            drawn = np.random.default_rng(SEED).choice(len(vectors), MAX_ROWS, replace=False)
            vectors = vectors[np.sort(drawn)]
        weights, notes = _weights(vectors.astype(np.float64))
        self.weights.copy_(torch.from_numpy(weights))
        return [f"{name}: {note}" for note in notes]

    def forward(self, said: Tensor) -> Tensor:
        """Join (1, banks, ...), maps or scores, into (1, 1, ...), float32."""
        weights = self.weights.view(1, -1, *[1] * (said.ndim - 2))
        return (said.float() * weights).sum(dim=1, keepdim=True)


def _check(vectors: Vectors, n_banks: int, name: str) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != n_banks or len(vectors) < LEAST_VECTORS:
        raise DataError(
            f"{name} vectors are {vectors.shape}: give at least {LEAST_VECTORS} of {n_banks} banks"
        )
    if not (np.isfinite(vectors).all() and (vectors >= 0).all()):
        raise DataError(f"some {name} vectors are negative or not finite; distances are neither")
    lying = np.flatnonzero(np.median(vectors, axis=0) == 0)
    if len(lying):
        raise DataError(
            f"bank {lying[0]}: at least half of its {name} vectors are 0, so these parts lie in "
            f"the bank; fit on good parts whose patches are not in it"
        )


def _weights(vectors: npt.NDArray[np.float64]) -> tuple[Vectors, list[str]]:
    """Fit one SVM over vectors in medians of each bank.

    The medians stand in for the published fixed factors (colour 0.1, depth and hallucination 1.0),
    which belong to that data's distances.
    """
    medians = np.median(vectors, axis=0)
    if vectors.shape[1] == 1:
        return 1 / medians, []  # an SVM could only rescale it
    weights, notes = _svm(vectors / medians)
    kept, said = share_out(weights)
    constant = np.flatnonzero(np.ptp(vectors, axis=0) == 0)
    notes += said + [f"bank {bank} answers the same for every good part" for bank in constant]
    return kept / medians, notes


def share_out(weights: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Make an SVM's weights ones that come to 1, none of them negative; say what that changed.

    Vectors of distances should not give such weights. A bank that had one would call a part better
    for being farther off.
    """
    notes = [
        f"bank {bank} got weight {weights[bank]:.3g}, so it is left out"
        for bank in np.flatnonzero(weights <= 0)
    ]
    kept = weights.clip(min=0)
    if not kept.any():
        notes = ["no bank got a positive weight, so all count alike"]
        kept = np.ones_like(kept)
    return kept / kept.sum(), notes


def _svm(vectors: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], list[str]]:
    svm = SGDOneClassSVM(nu=NU, max_iter=MAX_EPOCHS, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told in the notes
        svm.fit(vectors)
    weights: npt.NDArray[np.float64] = svm.coef_.copy()
    is_done = svm.n_iter_ < MAX_EPOCHS
    return weights, [] if is_done else [f"the SVM was still moving after {MAX_EPOCHS} epochs"]
