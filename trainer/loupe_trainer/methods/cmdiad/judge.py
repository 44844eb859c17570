"""From tokens to the contract's two answers: banks, fusion, and the scale of map and score."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from loupe_models.errors import ThresholdError
from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.fusion import LinearFusion
from loupe_trainer.methods.cmdiad.scoring import DistanceMap
from loupe_trainer.methods.map_scale import MapScale
from loupe_trainer.precision import KeepsFloat32

MIN_RELATIVE_SPREAD: Final = 1e-6
Values = npt.NDArray[np.float32]

log = logging.getLogger(__name__)


class Judge(nn.Module):
    """Holds tokens against banks of good ones, one kind of tokens to each bank.

    Args:
        banks: One a kind of tokens.
        size_px: Side of the square anomaly map.
        border_px: So far from the map's edge nothing is judged: distances count as 0 there, and
            neither fusion nor scale is fitted on it.
        paper: Whether the image score is the published one, the farthest patch of each bank,
            re-weighted and added up. Otherwise it is the map's highest value: what lies in one
            place, in all banks, and over more than a patch.
    """

    def __init__(
        self, banks: Sequence[MemoryBank], size_px: int, border_px: int = 0, *, paper: bool = False
    ) -> None:
        super().__init__()
        self.paper = paper
        self.banks = nn.ModuleList(banks)
        self.distance_map = DistanceMap((size_px, size_px), border_px=border_px)
        self.fusion = LinearFusion(len(banks))
        self.map_scale = MapScale()
        self.score_scale = ScoreScale()

    def forward(self, kinds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Answer: anomaly map (1, 1, H, W) and image score (1,), both float32."""
        fused_map, score = self.fused(kinds)
        anomaly_map = self.map_scale(fused_map)
        if self.paper:
            return anomaly_map, self.score_scale(score)
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))

    def fused(self, kinds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Give map (1, 1, H, W) and score (1,) before any scale."""
        maps, scores = self.apart(kinds)
        answer: tuple[Tensor, Tensor] = self.fusion(scores, maps)
        return answer

    def apart(self, kinds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Give what each bank says: maps (1, B, H, W) and scores (B,).

        Args:
            kinds: (1, C, h, w) for each bank, each with channels and grid of its own.
        """
        answers = [bank(tokens) for bank, tokens in zip(self.banks, kinds, strict=True)]
        maps = [self.distance_map(distances) for distances, _ in answers]
        return torch.cat(maps, dim=1), torch.cat([score for _, score in answers])


class ScoreScale(KeepsFloat32):
    """Puts published image scores on the scale of map peaks, so that one threshold serves both.

    The score is the farthest patch's, re-weighted; the map is blurred. On good parts both spread by
    luck alone, so mean and standard deviation of one are taken to those of the other.
    """

    factor: Tensor
    offset: Tensor
    float32_buffers = ("factor", "offset")

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, score: Tensor) -> Tensor:
        """Scale (1,) float32."""
        return score.float() * self.factor + self.offset

    def fit(self, scores: Values, peaks: Values) -> None:
        """Take the scores of good frames to the peaks of their normalised maps.

        Args:
            scores: (N,) before any scale.
            peaks: (N,) of the same frames.

        Raises:
            ThresholdError: The scores are all but equal, or not finite.
        """
        spread, mean = float(scores.std(dtype=np.float64)), float(scores.mean(dtype=np.float64))
        if not np.isfinite(spread) or spread <= MIN_RELATIVE_SPREAD * abs(mean):
            raise ThresholdError(
                f"the image score hardly varies over {len(scores)} good pictures (about "
                f"{mean:.3g}, give or take {spread:.3g}), so it has no scale: collect pictures of "
                f"at least 10 different good parts, and check that the gate's region shows them"
            )
        factor = float(peaks.std(dtype=np.float64)) / spread
        self.factor.fill_(factor)
        self.offset.fill_(float(peaks.mean(dtype=np.float64)) - factor * mean)


@torch.no_grad()
def fit_fusion(judge: Judge, frames: Iterable[Sequence[Tensor]], seed: int) -> None:
    """Fit the fusion, in place, on good frames whose patches are in no bank; warn of oddities.

    Args:
        judge: Changed in place.
        frames: Tokens of each frame, one tensor a bank.
        seed: Of the fit.
    """
    maps, scores = zip(*(judge.apart(kinds) for kinds in frames), strict=True)
    judged = [judge.distance_map.judged(m[0]) for m in maps]
    pixels = torch.cat([m.flatten(1).T for m in judged])  # (N*h*w, B)
    judge.fusion.fit(torch.stack(scores).numpy(), pixels.numpy(), seed)
    for note in judge.fusion.notes:
        log.warning("fusion of memory banks, %s", note)


@torch.no_grad()
def fit_scales(judge: Judge, frames: Iterable[Sequence[Tensor]]) -> None:
    """Fix the scale of map and score on good frames that nothing has been learnt from.

    Raises:
        ThresholdError: Map or score hardly vary.
    """
    maps, scores = zip(*(judge.fused(kinds) for kinds in frames), strict=True)
    judge.map_scale.fit([judge.distance_map.judged(m).numpy() for m in maps], "distance")
    if not judge.paper:
        return
    peaks = torch.stack([judge.map_scale(m).max() for m in maps])
    judge.score_scale.fit(torch.cat(scores).numpy(), peaks.numpy())
