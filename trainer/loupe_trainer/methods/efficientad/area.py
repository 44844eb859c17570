"""Which pixels of the map count: those the networks answer for, in the region of interest."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from loupe_edge.pictures import read_rgb
from loupe_models.graph_lint import MAX_TOPK
from loupe_trainer.errors import RecipeError
from loupe_trainer.teachers.pdn import STRIDE_PX

MAP_BORDER = 4
"""Map pixels that the unpadded networks lose on each side, at a quarter of the resolution."""

WHITE = 128  # from here on a pixel of the mask is white
LEAST = float(torch.finfo(torch.float32).min)

Mask = npt.NDArray[np.bool_]


class InspectedArea(nn.Module):
    """Blanks the map outside the inspected area, and takes the image score inside it.

    Outside are the border and what the region of interest leaves out. The map is 0 there, an
    ordinary pixel; the image score does not look there at all, or 0 would win wherever a network
    is content with the whole of a part.

    Args:
        size_hw: Of the picture.
        roi: (h, w) of any size, stretched over the picture; None inspects all of it.
        top_share: Share of the inspected pixels whose mean is the score; 0 is the highest alone.
        border: Map pixels on each side for which the networks give no answer.

    Raises:
        RecipeError: The region of interest leaves nothing.
    """

    inside: Tensor
    inside_whole: Tensor

    def __init__(
        self, size_hw: tuple[int, int], roi: Mask | None = None, top_share: float = 0,
        border: int = MAP_BORDER,
    ) -> None:  # fmt: skip
        super().__init__()
        self._border = border
        inside = np.zeros([size_px // STRIDE_PX for size_px in size_hw], np.bool_)
        answered = tuple(slice(border, n - border) for n in inside.shape)
        inside[answered] = True if roi is None else _nearest(roi, inside.shape)[answered]
        if not inside.any():
            raise RecipeError(
                f"fit.roi: the mask leaves nothing to inspect: at {size_hw[1]} by {size_hw[0]} px "
                f"all its white lies in the outermost {border * STRIDE_PX} px, for which the "
                f"networks give no answer; paint more of it white"
            )
        self._n_top = math.ceil(top_share * int(inside.sum()))
        if self._n_top > MAX_TOPK:
            raise RecipeError(
                f"fit.top_share: {top_share} of {int(inside.sum())} pixels of the map are "
                f"{self._n_top}, and the device sorts {MAX_TOPK} at most; take a smaller share"
            )
        whole = inside.repeat(STRIDE_PX, axis=0).repeat(STRIDE_PX, axis=1)
        for name, mask in (("inside", inside), ("inside_whole", whole)):
            self.register_buffer(name, torch.from_numpy(mask)[None, None], persistent=False)

    def pixels(self, raw_map: Tensor) -> Tensor:
        """Give the inspected pixels of an unpadded (1, 1, H/4 - 8, W/4 - 8) map, (N,)."""
        return raw_map[self._answered()]

    def blank(self, fused: Tensor) -> Tensor:
        """Frame an unpadded map with the border, and put 0 outside; (1, 1, H/4, W/4)."""
        padded = zero_border(fused, self._border) if self._border else fused
        return torch.where(self.inside, padded, torch.zeros_like(padded))

    def score(self, fused: Tensor, anomaly_map: Tensor) -> Tensor:
        """Give the image score, (1,), of the unpadded map and of the map made from it."""
        if self._n_top:
            counted = torch.where(self._answered(), fused, LEAST)
            return counted.flatten(1).topk(self._n_top).values.mean(1)
        counted = torch.where(self.inside_whole, anomaly_map, LEAST)
        return counted.amax(dim=(1, 2, 3))

    def _answered(self) -> Tensor:
        """Give what is inside of that for which there is an answer."""
        n, (rows, columns) = self._border, self.inside.shape[2:]
        return self.inside[:, :, n : rows - n, n : columns - n]


def read_roi(path: Path) -> Mask:
    """Read a mask, (H, W); white is inspected.

    Raises:
        RecipeError: All of it is black.
        BadInputError: Missing, or not a picture.
    """
    mask = np.asarray(cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY) >= WHITE)
    if not mask.any():
        raise RecipeError(f"fit.roi: {path} is black all over; paint white what is to be inspected")
    return mask


def zero_border(anomaly_map: Tensor, n: int) -> Tensor:
    """Frame (1, 1, H, W) with `n` zeros on each side.

    By concatenation, because `pad` exports as a chain of shape arithmetic that no exporter folds.
    """
    rows = torch.zeros_like(anomaly_map[:, :, :n])
    tall = torch.cat((rows, anomaly_map, rows), dim=2)
    columns = torch.zeros_like(tall[:, :, :, :n])
    return torch.cat((columns, tall, columns), dim=3)


def _nearest(mask: Mask, size_hw: tuple[int, ...]) -> Mask:
    """Sample a mask at the centres of a coarser or finer grid."""
    picks = [
        ((np.arange(n) + 0.5) * have / n).astype(np.intp)
        for n, have in zip(size_hw, mask.shape, strict=True)
    ]
    return mask[np.ix_(*picks)]
