"""From groups of points to a map: interpolated at every pixel, averaged into cells.

CMDIAD (arXiv 2405.13571) spreads features to pixels by their three nearest centres, averages 3 x 3
pixels, and averages adaptively to 56 x 56. All of it is linear in the features, so that the map is
one matrix (cells x centres) times them; `CellSpread` makes that matrix first, and never holds
channels at pixels. `PixelSpread` goes the published way, for comparison.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.precision import StaysFloat32

SMOOTH_PX = 3


def cell_weights(n_px: int, n_cells: int) -> npt.NDArray[np.float64]:
    """Give what each pixel of an axis adds to each cell, (n_cells, n_px); rows sum to 1.

    The average of 3 pixels without padding, then PyTorch's adaptive average: cell i goes from
    floor(i n / cells) to ceil((i + 1) n / cells).
    """
    n_smooth = n_px - SMOOTH_PX + 1
    cells = adaptive_weights(n_smooth, n_cells)
    smooth = sum(np.eye(n_smooth, n_px, k) for k in range(SMOOTH_PX)) / SMOOTH_PX
    return np.asarray(cells @ smooth)


class CellSpread(StaysFloat32):
    """The cheap form: weights of centres in cells, then one product with the features.

    A cell sees the pixels of its window. A centre's number is written as two digits, and a product
    of the windows' one-hot digits counts every pair of them; so the matrix is made from Gather and
    MatMul alone, where adding at indices is what TensorRT 10.3 lacks.
    """

    def __init__(self, grid_hw: tuple[int, int], side: int, n_centres: int) -> None:
        super().__init__()
        self.side, self.n_centres = side, n_centres
        rows, columns = (_taps(cell_weights(n, side)) for n in grid_hw)
        pixel = rows[0][:, None, :, None] * grid_hw[1] + columns[0][None, :, None, :]
        weight = rows[1][:, None, :, None] * columns[1][None, :, None, :]
        n_cells = side * side
        self.register_buffer("pixel", torch.from_numpy(pixel.reshape(n_cells, -1)))
        flat = weight.reshape(n_cells, -1, 1).astype(np.float32)
        self.register_buffer("weight", torch.from_numpy(flat))
        n_low = math.ceil(math.sqrt(n_centres))
        number = torch.arange(n_centres)
        high, low = torch.eye(-(-n_centres // n_low)), torch.eye(n_low)
        self.register_buffer("high", high[number // n_low])
        self.register_buffer("low", low[number % n_low])

    pixel: Tensor
    weight: Tensor
    high: Tensor
    low: Tensor

    def forward(self, features: Tensor, nn_index: Tensor, nn_weight: Tensor) -> Tensor:
        """Take (B, G, C), (B, H*W, 3) and (B, H*W, 3); give (B, C, side, side) float32."""
        index = nn_index[:, self.pixel].flatten(2)  # (B, cells, pixels of a window * 3)
        share = (nn_weight[:, self.pixel] * self.weight).flatten(2)
        high = self.high[index] * share.unsqueeze(-1)
        of_centres = (high.transpose(-2, -1) @ self.low[index]).flatten(2)[..., : self.n_centres]
        cells = (of_centres @ features.float()).transpose(1, 2)
        return cells.reshape(*cells.shape[:2], self.side, self.side)


class PixelSpread(nn.Module):
    """The published form: a vector at every pixel, then both averages."""

    def __init__(self, grid_hw: tuple[int, int], side: int) -> None:
        super().__init__()
        self.grid_hw, self.side = grid_hw, side
        rows, columns = (adaptive_weights(n - SMOOTH_PX + 1, side) for n in grid_hw)
        self.register_buffer("rows", torch.from_numpy(rows).float())
        self.register_buffer("columns", torch.from_numpy(columns).float())

    rows: Tensor
    columns: Tensor

    def forward(self, features: Tensor, nn_index: Tensor, nn_weight: Tensor) -> Tensor:
        """Take one frame's (1, G, C), (1, H*W, 3) and (1, H*W, 3); give (1, C, side, side)."""
        near = features[0][nn_index[0]] * nn_weight[0].unsqueeze(-1)  # (H*W, 3, C)
        pixels = near.sum(1).T.reshape(1, -1, *self.grid_hw)
        return self.rows @ nnf.avg_pool2d(pixels, SMOOTH_PX, 1) @ self.columns.T


def adaptive_weights(n: int, side: int) -> npt.NDArray[np.float64]:
    """Give PyTorch's adaptive average along one axis as a matrix (side, n)."""
    cells = np.zeros((side, n))
    for i in range(side):
        begin, end = i * n // side, -(-(i + 1) * n // side)
        cells[i, begin:end] = 1 / (end - begin)
    return cells


def _taps(
    weights: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Give each cell's window along one axis: pixels and weights, both (n_cells, widest window)."""
    n_cells, n_px = weights.shape
    first = (weights > 0).argmax(1)
    widest = int((weights > 0).sum(1).max())
    begin = np.minimum(first, n_px - widest)
    pixel = begin[:, None] + np.arange(widest)
    return pixel, weights[np.arange(n_cells)[:, None], pixel]
