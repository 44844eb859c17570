"""Large pictures: cut into overlapping tiles and put together again, inside the graph."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_trainer.errors import RecipeError
from loupe_trainer.methods.efficientad.area import MAP_BORDER
from loupe_trainer.methods.efficientad.pictures import Rgb
from loupe_trainer.precision import StaysFloat32
from loupe_trainer.teachers.pdn import STRIDE_PX

# Half of it pays for the border that each tile's map lacks on either side, so that no stripe stays
# blind; the other half is where two tiles both answer, and one fades into the next.
MIN_OVERLAP_PX = 64


class Tiling(StaysFloat32):
    """Takes a picture apart into square tiles, and the tiles' maps together to the picture's.

    Where tiles overlap, the map is their weighted mean: a tile's weight falls off linearly from
    its middle to its edge, and all weights at a pixel sum to one. Tiles start at multiples of the
    networks' stride, so that student and teacher say the same of a pixel in every tile that holds
    it, and their map is the one that the whole picture would have given.

    Both ways are a fixed number of operators however many tiles there are: two gathers, and two
    products with constant matrices, since a tile's weight is that of its row times its column's.

    Args:
        size_hw: Of the picture.
        tile_px: Side of a tile.
    """

    rows: Tensor
    columns: Tensor
    row_weights: Tensor
    column_weights: Tensor

    def __init__(self, size_hw: tuple[int, int], tile_px: int) -> None:
        super().__init__()
        self.tile_px = tile_px
        starts = [tile_starts(size_px, tile_px) for size_px in size_hw]
        self.grid_hw = (len(starts[0]), len(starts[1]))
        for name, at in zip(("rows", "columns"), starts, strict=True):
            picked = [start + i for start in at for i in range(tile_px)]
            self.register_buffer(name, torch.tensor(picked), persistent=False)
        weights = [_weights(at, size, tile_px) for at, size in zip(starts, size_hw, strict=True)]
        self.register_buffer("row_weights", weights[0].T.contiguous(), persistent=False)
        self.register_buffer("column_weights", weights[1], persistent=False)

    @property
    def n_tiles(self) -> int:
        """Of one picture."""
        return self.grid_hw[0] * self.grid_hw[1]

    def cut(self, picture: Tensor) -> Tensor:
        """Cut (1, C, H, W) into (n_tiles, C, tile, tile), row by row."""
        (n_rows, n_columns), side = self.grid_hw, self.tile_px
        picked = picture.index_select(2, self.rows).index_select(3, self.columns)
        apart = picked.reshape(-1, n_rows, side, n_columns, side)  # (C, ...)
        return apart.permute(1, 3, 0, 2, 4).reshape(self.n_tiles, -1, side, side)

    def stitch(self, maps: Tensor) -> Tensor:
        """Put (n_tiles, 1, tile/4 - 8, tile/4 - 8) float32 together to (1, 1, H/4 - 8, W/4 - 8)."""
        (n_rows, n_columns), side = self.grid_hw, _map_size(self.tile_px)
        apart = maps.reshape(n_rows, n_columns, side, side).permute(0, 2, 1, 3)
        beside = apart.reshape(n_rows * side, n_columns * side)
        return (self.row_weights @ beside @ self.column_weights)[None, None]

    def cut_pictures(self, pictures: Rgb) -> Rgb:
        """Cut (N, H, W, 3) uint8 into (N * n_tiles, tile, tile, 3), as `cut` does."""
        (n_rows, n_columns), side = self.grid_hw, self.tile_px
        picked = pictures[:, self.rows.numpy()][:, :, self.columns.numpy()]
        apart = picked.reshape(-1, n_rows, side, n_columns, side, 3)
        tiles: Rgb = apart.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side, side, 3)
        return tiles


def open_tiling(size_hw: tuple[int, int], tile_px: int | None) -> Tiling | None:
    """Cut a picture into tiles if it is to be cut at all.

    Raises:
        RecipeError: The tile is larger than the picture.
    """
    if tile_px is None:
        return None
    if tile_px > min(size_hw):
        raise RecipeError(
            f"fit.tile_px: a tile of {tile_px} px does not fit into a picture of {size_hw[1]} by "
            f"{size_hw[0]} px; raise width_px and height_px, or take smaller tiles"
        )
    return Tiling(size_hw, tile_px)


def tile_starts(size_px: int, tile_px: int) -> tuple[int, ...]:
    """Give where tiles begin along one axis: as few as will do, evenly spread."""
    n = 1 + math.ceil((size_px - tile_px) / (tile_px - MIN_OVERLAP_PX))
    room = (size_px - tile_px) // STRIDE_PX
    return tuple(STRIDE_PX * (i * room // max(n - 1, 1)) for i in range(n))


def _weights(starts: tuple[int, ...], size_px: int, tile_px: int) -> Tensor:
    """Give each map pixel's share in each pixel of the whole map, (n_tiles * side, whole)."""
    side, whole = _map_size(tile_px), _map_size(size_px)
    falloff = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1))
    shares: npt.NDArray[np.float64] = np.zeros((len(starts), side, whole))
    for i, start in enumerate(starts):
        shares[i, np.arange(side), start // STRIDE_PX + np.arange(side)] = falloff
    shares /= shares.sum(axis=(0, 1))
    return torch.from_numpy(shares.reshape(-1, whole)).float()


def _map_size(size_px: int) -> int:
    return size_px // STRIDE_PX - 2 * MAP_BORDER
