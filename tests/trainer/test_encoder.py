"""What every encoder of CMDIAD says of itself holds."""

from __future__ import annotations

from typing import Final

import pytest
import torch
from torch import Tensor

from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.encoders.pdn_encoder import PdnEncoder
from loupe_trainer.encoders.point_encoder import PointEncoder
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import PointShape
from loupe_trainer.encoders.relief import ReliefEncoder
from loupe_trainer.encoders.surface_encoder import SurfaceEncoder
from loupe_trainer.encoders.vit import Vit
from loupe_trainer.encoders.vit_spec import VitSpec
from loupe_trainer.methods.cmdiad.config import KINDS
from loupe_trainer.teachers.pdn import PdnShape, initialise, teacher_network
from loupe_trainer.teachers.weights import Origin, Teacher

HW_PX, CELLS, N_CENTRES = (32, 48), 8, 12


def pdn() -> PdnEncoder:
    network = initialise(teacher_network(PdnShape("S", 0.05)))
    origin = Origin(name="none", licence="none", corpus="none")
    return PdnEncoder(Teacher(network, origin, "0" * 64), HW_PX)


def made() -> list[Encoder]:
    spec = VitSpec(channels=8, depth=1, n_heads=2, hidden=8, patch_px=8, input_hw_px=HW_PX)
    shape = PointShape(depth=1, width=24, n_heads=3, taps=(0,), hidden=8, local=16)
    points = PointEncoder(PointMae(shape), None, HW_PX, CELLS, N_CENTRES)
    return [
        Vit(spec),
        pdn(),
        points,
        SurfaceEncoder(6, HW_PX, CELLS),
        ReliefEncoder(5.0, HW_PX, CELLS),
    ]


ENCODERS: Final = {encoder.name: encoder for encoder in made()}


def given(encoder: Encoder) -> list[Tensor]:
    n_px = HW_PX[0] * HW_PX[1]
    inputs = {
        "rgb": torch.rand(2, 3, *HW_PX) * 255,
        "xyz": torch.rand(2, *HW_PX, 3),
        "valid": torch.ones(2, *HW_PX, dtype=torch.uint8),
        "groups": torch.randn(2, N_CENTRES, 4, 3),
        "centres": torch.randn(2, N_CENTRES, 3),
        "nn_index": torch.randint(N_CENTRES, (2, n_px, 3), dtype=torch.int32),
        "nn_weight": torch.rand(2, n_px, 3),
    }
    return [inputs[name] for name in encoder.tensors]


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_tokens_are_as_many_and_as_wide_as_is_said(name: str) -> None:
    encoder = ENCODERS[name].eval()
    tokens = encoder(*given(encoder))
    assert tokens.shape == (2, encoder.channels, *encoder.patches_hw)
    assert tokens.dtype == torch.float32


def test_every_kind_in_a_recipe_has_its_encoder() -> None:
    assert {kind for kinds in KINDS.values() for kind in kinds} == set(ENCODERS)


def test_an_encoder_has_to_say_how_its_tokens_grow() -> None:
    class Mute(Encoder):
        name = "mute"

    with pytest.raises(TypeError, match="amplify"):
        Mute()  # type: ignore[abstract]
