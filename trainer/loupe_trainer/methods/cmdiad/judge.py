"""From tokens to the contract's two answers: banks, fusion, and the scale of map and score."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.fusion import LinearFusion
from loupe_trainer.methods.cmdiad.highest import Highest
from loupe_trainer.methods.cmdiad.published_score import PublishedScore
from loupe_trainer.methods.cmdiad.scoring import DistanceMap
from loupe_trainer.methods.map_scale import MapScale

log = logging.getLogger(__name__)


class Judge(nn.Module):
    """Holds tokens against banks of good ones, one kind of tokens to each bank.

    Args:
        banks: One a kind of tokens.
        size_px: Side of the square anomaly map.
        border_px: So far from the map's edge nothing is judged: distances count as 0 there, and
            neither fusion nor scale is fitted on it.
        paper: Whether banks are joined as published: maps added up by a one-class SVM's weights,
            and for the image score the farthest patch of each bank, re-weighted and added up,
            wherever it lies. Otherwise the map is the highest of the banks', each on its own
            scale, and the image score is its highest value: what lies in one place, and over more
            than a patch.

    Attributes:
        fusion: Joins the banks' maps.
        published: Makes the published score; None where the score is the map's peak.
    """

    def __init__(
        self, banks: Sequence[MemoryBank], size_px: int, border_px: int = 0, *, paper: bool = False
    ) -> None:
        super().__init__()
        self.banks = nn.ModuleList(banks)
        self.distance_map = DistanceMap((size_px, size_px), border_px=border_px)
        self.fusion = LinearFusion(len(banks)) if paper else Highest(len(banks))
        self.map_scale = MapScale()
        self.published = PublishedScore(len(banks)) if paper else None

    def forward(self, kinds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Answer: anomaly map (1, 1, H, W) and image score (1,), both float32."""
        maps, scores = self.apart(kinds)
        anomaly_map = self.map_scale(self.fusion(maps))
        if self.published is not None:
            return anomaly_map, self.published(scores)
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))

    def apart(self, kinds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Give what each bank says: maps (1, B, H, W) and scores (1, B).

        Args:
            kinds: (1, C, h, w) for each bank, each with channels and grid of its own.
        """
        answers = [bank(tokens) for bank, tokens in zip(self.banks, kinds, strict=True)]
        maps = [self.distance_map(distances) for distances, _ in answers]
        return torch.cat(maps, dim=1), torch.stack([score for _, score in answers], dim=1)


@torch.no_grad()
def fit_fusion(judge: Judge, frames: Iterable[Sequence[Tensor]]) -> None:
    """Fit the fusion, in place, on good frames whose patches are in no bank; warn of oddities.

    Args:
        judge: Changed in place.
        frames: Tokens of each frame, one tensor a bank.

    Raises:
        DataError: Distances that an SVM cannot weigh.
        ThresholdError: A bank hardly varies over good frames.
    """
    maps, scores = zip(*(judge.apart(kinds) for kinds in frames), strict=True)
    notes = judge.fusion.fit_maps([judge.distance_map.judged(m[0]) for m in maps])
    if judge.published is not None:
        notes += judge.published.fusion.fit(torch.cat(scores).numpy(), "score")
    for note in notes:
        log.warning("fusion of memory banks, %s", note)


@torch.no_grad()
def fit_scales(judge: Judge, frames: Iterable[Sequence[Tensor]]) -> None:
    """Fix the scale of map and score on good frames that nothing has been learnt from.

    Raises:
        ThresholdError: Map or score hardly vary.
    """
    maps, scores = zip(*(judge.apart(kinds) for kinds in frames), strict=True)
    fused = [judge.fusion(m) for m in maps]
    judge.map_scale.fit([judge.distance_map.judged(m).numpy() for m in fused], "distance")
    if judge.published is not None:
        peaks = torch.stack([judge.map_scale(m).max() for m in fused])
        added = torch.cat([judge.published.fused(s) for s in scores])
        judge.published.fit_scale(added.numpy(), peaks.numpy())
