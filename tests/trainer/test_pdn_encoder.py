"""A patch description network as an encoder: each token speaks of its own place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from loupe_trainer.encoders.pdn_encoder import PdnEncoder
from loupe_trainer.teachers.pdn import PdnShape, initialise, teacher_network
from loupe_trainer.teachers.weights import Origin, Teacher, save_teacher

SIDE_PX = 64


@pytest.fixture
def teacher(tmp_path: Path) -> Teacher:
    torch.manual_seed(0)
    network = initialise(teacher_network(PdnShape("S", 0.05)))
    origin = Origin(name="backbone", licence="MIT", sha256="0" * 64, corpus="none")
    return save_teacher(tmp_path / "teacher.safetensors", network, origin)


@pytest.fixture
def encoder(teacher: Teacher) -> PdnEncoder:
    return PdnEncoder(teacher, (SIDE_PX, SIDE_PX)).eval()


def a_picture() -> torch.Tensor:
    pixels = np.random.default_rng(1).uniform(80, 120, (1, 3, SIDE_PX, SIDE_PX))
    return torch.from_numpy(pixels).float()


def test_there_is_a_token_for_every_fourth_pixel_and_an_origin(
    encoder: PdnEncoder, teacher: Teacher
) -> None:
    tokens = encoder(a_picture())
    assert tokens.shape == (1, encoder.channels, SIDE_PX // 4, SIDE_PX // 4)
    assert tokens.dtype == torch.float32
    assert encoder.origin == teacher.backbone
    assert encoder.origin is not None
    assert encoder.origin.licence == "MIT"


@pytest.mark.parametrize(("row", "column"), [(5, 9), (0, 0), (15, 2)])
def test_a_spot_moves_the_token_of_its_own_place_most(
    encoder: PdnEncoder, row: int, column: int
) -> None:
    good, marked = a_picture(), a_picture()
    marked[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
    change = (encoder(marked) - encoder(good)).square().sum(1)[0]
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    at = [float((change * where).sum() / change.sum()) for where in (rows, columns)]
    assert at == pytest.approx([row, column], abs=1.5)  # the border continues at a corner
    assert change[(row + 8) % 16, (column + 8) % 16] < 1e-3 * change.max()


def test_a_half_copy_says_nearly_the_same(encoder: PdnEncoder) -> None:
    said = encoder(a_picture())
    half = encoder.half()(a_picture())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, said, rtol=0.02, atol=0.02 * float(said.abs().max()))
