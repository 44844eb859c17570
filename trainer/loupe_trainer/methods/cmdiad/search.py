"""The nearest row of a matrix for each query, as operators that ONNX and TensorRT have.

One matrix product ranks all rows for a query and shortlists k of them; the distances to those are
computed anew, in float32 and as differences, and the nearest is taken there. So the product need
not be accurate: it may run in FP16, where |q|^2 + |y|^2 - 2qy alone would lose small distances.

What the product gives is, for query q and row y, s (qy - |y|^2/2 - c): the squared distance but for
a constant and a positive factor of the query. Both are chosen so that nothing overflows FP16 and
that FP16's steps are small where rows are near. The squares travel as two FP16 numbers each,
coarse and fine, in four columns beside the rows.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from loupe_trainer.errors import DataError
from loupe_trainer.precision import KeepsFloat32

MAX_SHORTLIST: Final = 32
DEFAULT_SHORTLIST: Final = 8
N_SQUARES: Final = 4  # columns beside the rows
MAX_RANKS: Final = 2**24  # of queries times rows at once: 67 MB in float32
LARGEST_NORM: Final = 64.0  # of the rows as they are held: |y|^2/2 is at most 2048
FARTHEST_UNSCALED: Final = 128.0  # |s q| is at most this, so |s qy| at most 8,192


class NearestRow(KeepsFloat32):
    """Finds the nearest of N rows, and how far it is.

    Rows are held as FP16 can hold them, in the float32 network too: both give the same distances.
    In a `half()` copy the ranking product runs in FP16, everything else in float32.

    Attributes:
        n_rows: How many rows there are to find.
        n_dimensions: Of rows and queries.
        n_shortlist: How many rows are looked at closely for each query.
    """

    table: Tensor
    unit: Tensor
    zero: Tensor
    float32_buffers = ("unit",)

    def __init__(self, table: Tensor, unit: Tensor, n_shortlist: int = DEFAULT_SHORTLIST) -> None:
        super().__init__()
        if not 1 <= n_shortlist <= MAX_SHORTLIST:
            raise DataError(f"a shortlist of {n_shortlist}: take 1 to {MAX_SHORTLIST} rows a query")
        # Kept as numbers: a shape that is asked for while a graph is traced becomes part of it.
        self.n_rows, self.n_dimensions = len(table), table.shape[1] - N_SQUARES
        self.n_shortlist = min(n_shortlist, self.n_rows)
        self.n_at_once = max(1, MAX_RANKS // self.n_rows)
        self.register_buffer("table", table)
        self.register_buffer("unit", unit)
        self.register_buffer("zero", torch.zeros(1), persistent=False)

    def rows(self, index: Tensor) -> Tensor:
        """Give rows in float32, in the table's unit."""
        return self.table.index_select(0, index)[:, : self.n_dimensions].float()

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Search.

        Args:
            queries: (n, D) float32.

        Returns:
            (n,) float32 distances, NaN where a query is, and (n,) int64 rows.
        """
        queries = queries.float() / self.unit
        listed = self._shortlist(queries)
        squared = torch.stack(
            [
                (queries - self.rows(listed[:, j])).square().sum(dim=1)
                for j in range(self.n_shortlist)
            ],
            dim=1,
        )
        least, which = squared.min(dim=1, keepdim=True)
        return least.sqrt().squeeze(1) * self.unit, listed.gather(1, which).squeeze(1)

    def distances_to(self, query: Tensor, index: Tensor) -> Tensor:
        """Measure from one query, (1, D) float32, to the rows (m,): (m,) float32."""
        squared = (query.float() / self.unit - self.rows(index)).square().sum(dim=1)
        return squared.sqrt() * self.unit

    def _shortlist(self, queries: Tensor) -> Tensor:
        """Give (n, k) int64 rows that rank first, some queries at a time."""
        keys = _keys(queries, self.table.dtype).to(self.table.dtype)
        # With something to add, the product is exported as a Gemm that reads the table as it lies;
        # alone it would be a MatMul, with a second, transposed table in the file.
        ranks = (torch.addmm(self.zero, k, self.table.T) for k in torch.split(keys, self.n_at_once))
        return torch.cat([torch.topk(rank, self.n_shortlist, dim=1).indices for rank in ranks])


def make_table(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Prepare rows for `NearestRow`.

    Args:
        rows: (N, D) float32, best about their mean.

    Returns:
        The table (N, D + 4), float32 of values that FP16 can hold, and its unit: the power of two
        by which rows were divided, so that the longest comes out between 32 and 64.

    Raises:
        DataError: All rows are zero, or some are not finite.
    """
    longest = float(rows.norm(dim=1).max()) if len(rows) else 0.0
    if not (math.isfinite(longest) and longest > 0):
        raise DataError(f"the longest of {len(rows)} rows has length {longest}; nothing to search")
    unit = torch.tensor(2.0 ** math.ceil(math.log2(longest / LARGEST_NORM)))
    held = (rows / unit).half().float()
    coarse, fine = _in_two(held.square().sum(dim=1, keepdim=True) / 2, torch.float16)
    ones = torch.ones(len(rows), 2)
    return torch.cat((held, coarse, fine, ones), dim=1), unit


def _keys(queries: Tensor, dtype: torch.dtype) -> Tensor:
    """Give (n, D + 4) float32: queries beside the factors of the table's last four columns."""
    squares = queries.square().sum(dim=1, keepdim=True)
    scale = FARTHEST_UNSCALED / squares.sqrt().clamp(min=FARTHEST_UNSCALED)
    scale = scale.to(dtype).float()
    # Near rows rank as their squared distance, close to zero, where FP16's steps are finest. Of
    # far queries the constant would be all that is left, so it stops growing.
    coarse, fine = _in_two(scale * squares.clamp(max=LARGEST_NORM**2) / 2, dtype)
    return torch.cat((queries * scale, -scale, -scale, -coarse, -fine), dim=1)


def _in_two(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Split float32 values into what `dtype` holds of them, and what it holds of the rest."""
    coarse = values.to(dtype).float()
    return coarse, (values - coarse).to(dtype).float()
