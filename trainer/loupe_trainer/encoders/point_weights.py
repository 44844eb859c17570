"""Point-MAE's weights, from the published checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch import Tensor

from loupe_models.bundle import file_sha256
from loupe_models.manifest import Backbone
from loupe_trainer.encoders.point_encoder import GRID_HW, N_CENTRES, SIDE, PointEncoder
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import PointShape
from loupe_trainer.errors import WeightsError
from loupe_trainer.published_weights import NOBODY_SAYS, PLACE
from loupe_trainer.torch_file import fill, read_state_dict

WHAT: Final = "Point-MAE"
PUBLISHED_SHAPE: Final = PointShape()
FILE: Final = "pretrain.pth"
URL: Final = f"https://github.com/Pang-Yatian/Point-MAE/releases/download/main/{FILE}"
PREFIX: Final = "MAE_encoder."


def read_point_mae(
    file: Path, licence: str = NOBODY_SAYS, shape: PointShape = PUBLISHED_SHAPE
) -> tuple[PointMae, Backbone]:
    """Read the encoder out of the authors' checkpoint; decoder and optimiser stay behind.

    Args:
        file: `pretrain.pth`, or a bare state dict with the same names.
        licence: SPDX name. The authors' code is MIT; they say nothing of the weights, and what
            these learnt from, ShapeNet, is for research.
        shape: Its sizes, and how it is normalised.

    Raises:
        WeightsError: Missing (told what to fetch), damaged, or another network's.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: not there. To have {WHAT}, {fetch_point_mae(file)}")
    network = PointMae(shape)
    fill(network, _encoder(read_state_dict(file, within=("base_model",))), file, WHAT)
    sha256 = file_sha256(file)
    return network.eval(), Backbone(name=f"{WHAT}, {file.name}", licence=licence, sha256=sha256)


def open_point_mae(
    file: Path,
    licence: str = NOBODY_SAYS,
    grid_hw: tuple[int, int] = GRID_HW,
    side: int = SIDE,
    n_centres: int = N_CENTRES,
) -> PointEncoder:
    """Open the published encoder in its published sizes.

    Its running statistics are of objects that fill the unit sphere; clouds come in metres, and
    with those statistics all groups look alike to it. The frame's own fit (decisions/0009).

    Args:
        file: See `read_point_mae`.
        licence: Likewise.
        grid_hw: See `PointEncoder`, also for what follows.
        side: Of the map.
        n_centres: Of a frame.

    Raises:
        WeightsError: As `read_point_mae`.
    """
    shape = PUBLISHED_SHAPE.model_copy(update={"norm": "frame"})
    network, origin = read_point_mae(file, licence, shape)
    return PointEncoder(network, origin, grid_hw, side, n_centres)


def fetch_point_mae(place: Path | None = None) -> str:
    """Say what to fetch, from where, and where to put it."""
    return f"fetch {URL} (its authors publish no hash) to {place or PLACE / FILE}"


def _encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick the encoder's weights, under our names; a bare one has no prefix to take off."""
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    inside = {k.removeprefix(PREFIX): v for k, v in plain.items() if k.startswith(PREFIX)}
    return inside or plain
