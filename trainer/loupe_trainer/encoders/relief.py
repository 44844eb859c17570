"""The untaught depth front: relief about its surroundings at several widths, and where on the part.

A dent two millimetres deep looks like a screw's seat, and what tells them apart is the place. So a
place's token holds how far it lies below or above its surroundings, how high it is, how near an
outline runs, and where on the part it lies, from the centre of all points. Nothing is learnt, and
`xyz` and `valid` are all it takes. Ours; no paper's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.encoders.point_encoder import GRID_HW, SIDE
from loupe_trainer.encoders.point_spread import adaptive_weights
from loupe_trainer.planes import Blur, inside_mask

MM_PER_M: Final = 1000.0
SIGMAS_PX: Final = (1.5, 3.0, 6.0, 12.0)
REACH_SIGMAS: Final = 3.0
OUTLINE_AT, HEIGHT_AT = 1, 2  # at which of the widths an outline's nearness is told, and height
HEIGHT_SHARE: Final = 0.3  # a part as a whole may lie a little higher than another
OUTLINE_MM: Final = 2.0  # between a place amid the surface and one far outside, in mm of relief
LEAST_COVERAGE: Final = 0.5  # of a cell: with less, its own relief is unknown
FEW: Final = 1e-3


class ReliefEncoder(Encoder):
    """Describes relief, in millimetres, all in float32.

    Its channels are relief at three widths, height, nearness of an outline, and place.
    """

    name = "relief"
    tensors = ("xyz", "valid")
    inside: Tensor
    place_mm: Tensor
    gain: Tensor
    rows: Tensor
    columns: Tensor
    float32_buffers = ("inside", "place_mm", "gain", "rows", "columns")

    def __init__(
        self, place_mm: float | None, grid_hw: tuple[int, int] = GRID_HW, side: int = SIDE,
        border_px: int = 0,
    ) -> None:  # fmt: skip
        """Make one.

        Args:
            place_mm: So far apart on the part counts as much as 1 mm of relief; None leaves the
                place out, for surfaces that do not lie alike.
            grid_hw: Of the organized cloud.
            side: Of the map.
            border_px: So far from the grid's edge points count as unknown.
        """
        super().__init__()
        self.patches_hw, self.has_place = (side, side), place_mm is not None
        self.channels = len(SIGMAS_PX) + 1 + (0 if place_mm is None else 2)
        rows, columns = (torch.from_numpy(adaptive_weights(n, side)).float() for n in grid_hw)
        self.register_buffer("inside", inside_mask(grid_hw, border_px), persistent=False)
        self.register_buffer("place_mm", torch.tensor(place_mm or 1.0))
        self.register_buffer("gain", torch.tensor(1.0), persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.blurs = nn.ModuleList(
            Blur(sigma_px, REACH_SIGMAS, has_zeros_around=True) for sigma_px in SIGMAS_PX
        )

    def amplify(self, gain: float) -> None:
        """Scale what it says."""
        self.gain *= gain

    def forward(self, xyz: Tensor, valid: Tensor) -> Tensor:
        """Describe a cloud.

        Args:
            xyz: (B, H, W, 3) float32 metres, 0 where invalid; z is the height above the belt where
                the station knows its belt.
            valid: (B, H, W) uint8.

        Returns:
            (B, channels, side, side) float32; 0 where no point is near.
        """
        known = valid.float().unsqueeze(1) * self.inside
        points_mm = xyz.float().permute(0, 3, 1, 2) * MM_PER_M * known
        shares = [blur(known) for blur in self.blurs]
        heights = [
            blur(points_mm[:, 2:]) / share.clamp(min=FEW)
            for blur, share in zip(self.blurs, shares, strict=True)
        ]
        steps = [fine - wide for fine, wide in pairwise(heights)]
        relief = torch.cat((*steps, HEIGHT_SHARE * heights[HEIGHT_AT]), 1) * known
        covered = self._cells(known)
        is_told = (covered > LEAST_COVERAGE).float()
        told = self._cells(relief) / covered.clamp(min=LEAST_COVERAGE) * is_told
        outline = OUTLINE_MM * self._cells(shares[OUTLINE_AT])
        described = [told, outline]
        if self.has_place:
            described.append(self._place(points_mm, known, covered) * is_told)
        return self.gain * torch.cat(described, 1)

    def _place(self, points_mm: Tensor, known: Tensor, covered: Tensor) -> Tensor:
        """Give x and y from the centre of all points, in units of `place_mm`."""
        flat = points_mm[:, :2]
        n_points = known.sum((2, 3), keepdim=True).clamp(min=1.0)
        centred = (flat - flat.sum((2, 3), keepdim=True) / n_points) * known
        return self._cells(centred) / covered.clamp(min=LEAST_COVERAGE) / self.place_mm

    def _cells(self, x: Tensor) -> Tensor:
        cells: Tensor = self.rows @ x @ self.columns.T
        return cells
