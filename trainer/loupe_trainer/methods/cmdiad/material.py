"""What is learnt from: frames, their features, and which of them serve what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_trainer.data.item import Item
from loupe_trainer.errors import SplitError
from loupe_trainer.methods.base import Samples
from loupe_trainer.methods.cmdiad.features import Features, tokens_of
from loupe_trainer.methods.cmdiad.hallucination import (
    Direction,
    Kind,
    cloud_picture,
    colour_picture,
)
from loupe_trainer.methods.cmdiad.kinds import MAIN, OTHER, TokenKind
from loupe_trainer.teachers.normalise import imagenet_normalise

LEAST_PARTS: Final = 2  # on either side: one part says nothing of how parts differ
Rows = npt.NDArray[np.intp]


@runtime_checkable
class KnowsItems(Protocol):
    """Samples that say which item each of them is, as those from a run's cache do."""

    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Material:
    """Good frames and what the encoders say of them.

    Frames are numbered with those for the banks first, so that their tokens lie in one piece.

    Attributes:
        samples: Of the parts for fitting, in any order.
        order: (N,) which sample each frame is.
        n_for_banks: So many frames are what banks and distillation learn from; on the others, of
            other parts, the fusion is fitted.
        features: By kind of tokens, (N, h, w, C) of the frames.
    """

    samples: Samples
    order: Rows
    n_for_banks: int
    features: Mapping[TokenKind, Features] = field(default_factory=dict)

    @property
    def for_fusion(self) -> range:
        """Frames that neither banks nor distillation have seen."""
        return range(self.n_for_banks, len(self.order))

    def tokens(self, kind: TokenKind, frames: Rows) -> Tensor:
        """Give (B, C, h, w) of some frames."""
        return tokens_of(self.features[kind], frames)

    def tensors(self, frames: Rows, name: str) -> Tensor:
        """Give one tensor of some frames, (B, ...)."""
        found = [np.asarray(self.samples[int(self.order[frame])][name]) for frame in frames]
        return torch.from_numpy(np.concatenate(found))

    def colour(self, frames: Rows) -> Tensor:
        """Give (B, 3, H, W) float32 in 0..255."""
        return colour_picture(self.tensors(frames, "rgb"))

    def cloud(self, frames: Rows) -> Tensor:
        """Give (B, 3, H, W) float32 metres."""
        return cloud_picture(self.tensors(frames, "xyz"))

    def pairs(self, kind: Kind, direction: Direction) -> FramePairs:
        """Give what a network is taught: of the frames for the banks alone."""
        main, other = MAIN[direction], OTHER[direction]
        pictures = {"rgb": self._normalised_colour, "depth": self.cloud}
        given = pictures[main] if kind == "i2f" else partial(self.tokens, main)
        wanted = pictures[other] if kind == "f2i" else partial(self.tokens, other)
        return FramePairs(self.n_for_banks, given, wanted)

    def _normalised_colour(self, frames: Rows) -> Tensor:
        return imagenet_normalise(self.colour(frames))


@dataclass(frozen=True, slots=True)
class FramePairs:
    """What a network is given of each frame, and what it should say; see `Pairs`."""

    n_frames: int
    given: Callable[[Rows], Tensor]
    wanted: Callable[[Rows], Tensor]

    def __len__(self) -> int:
        return self.n_frames

    def batch(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Give both sides of some frames."""
        return self.given(rows), self.wanted(rows)


def divide(samples: Samples, fusion_share: float, seed: int) -> Material:
    """Set parts aside for the fusion, frames and all, before anything is learnt.

    Args:
        samples: Frames that do not say of which part they are count as a part each.
        fusion_share: Of the parts.
        seed: Deals them.

    Raises:
        SplitError: Too few parts.
    """
    parts = _part_ids(samples)
    ids = sorted(set(parts))
    n_fusion = max(LEAST_PARTS, round(fusion_share * len(ids)))
    if len(ids) - n_fusion < LEAST_PARTS:
        raise SplitError(
            f"{len(ids)} parts to fit on leave {max(len(ids) - n_fusion, 0)} for the memory banks "
            f"beside {n_fusion} for the fusion, and it takes {LEAST_PARTS}: collect more good "
            f"parts, or raise split.fit"
        )
    drawn = np.random.default_rng((seed, 0)).permutation(len(ids))[:n_fusion]
    chosen = {ids[i] for i in drawn}
    is_fusion = np.array([part in chosen for part in parts])
    order = np.concatenate((np.flatnonzero(~is_fusion), np.flatnonzero(is_fusion)))
    return Material(samples, order, int((~is_fusion).sum()))


def _part_ids(samples: Samples) -> list[str]:
    if isinstance(samples, KnowsItems):
        return [item.part_id for item in samples.items]
    return [f"{i:09d}" for i in range(len(samples))]
