"""Shapes, padding, receptive field, and the autoencoder at any size."""

import pytest
import torch
from torch import nn

from loupe_trainer.errors import RecipeError
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.teachers.pdn import (
    RECEPTIVE_FIELD_PX,
    PdnShape,
    PdnSize,
    initialise,
    student_network,
    teacher_network,
)

TINY = 0.07


def n_parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("size", "teacher", "student"), [("S", 2.694e6, 4.267e6), ("M", 8.027e6, 11.615e6)]
)
def test_full_width_has_the_papers_parameters(
    size: PdnSize, teacher: float, student: float
) -> None:
    shape = PdnShape(size)
    assert n_parameters(teacher_network(shape)) == pytest.approx(teacher, rel=1e-3)
    assert n_parameters(student_network(shape)) == pytest.approx(student, rel=1e-3)


def test_autoencoder_at_256_has_the_papers_parameters() -> None:
    autoencoder = Autoencoder(PdnShape(), (256, 256))
    assert n_parameters(autoencoder) == pytest.approx(1.096e6, rel=1e-3)
    assert autoencoder.sizes_hw == tuple((n, n) for n in (3, 8, 15, 32, 63, 127))


@pytest.mark.parametrize("size", ["S", "M"])
def test_padding_changes_the_size_and_not_the_weights(size: PdnSize) -> None:
    shape = PdnShape(size, TINY)
    padded, bare = teacher_network(shape, padding=True), teacher_network(shape)
    bare.load_state_dict(padded.state_dict())
    picture = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        outer, inner = padded(picture), bare(picture)
    assert outer.shape == (1, shape.feature_channels, 32, 40)
    assert inner.shape == (1, shape.feature_channels, 24, 32)


@pytest.mark.parametrize("size", ["S", "M"])
def test_one_output_sees_exactly_33_px(size: PdnSize) -> None:
    network = teacher_network(PdnShape(size, TINY)).double()
    picture = torch.randn(1, 3, 97, 97, dtype=torch.float64, requires_grad=True)
    described = network(picture)
    described[0, :, 8, 8].square().sum().backward()
    assert picture.grad is not None
    seen = picture.grad.abs().sum((0, 1)) > 0
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    assert int(rows.max() - rows.min()) + 1 == RECEPTIVE_FIELD_PX
    assert int(columns.max() - columns.min()) + 1 == RECEPTIVE_FIELD_PX
    assert network(picture[..., :33, :33]).shape[2:] == (1, 1)


@pytest.mark.parametrize("size", ["S", "M"])
@pytest.mark.parametrize("size_hw", [(33, 33), (64, 97), (127, 128), (130, 99), (256, 256)])
@torch.no_grad()
def test_what_the_stem_leaves_off_changes_no_answer(
    size: PdnSize, size_hw: tuple[int, int]
) -> None:
    network = initialise(teacher_network(PdnShape(size, TINY)))
    picture = torch.randn(2, 3, *size_hw)
    uncut = nn.Sequential(*network.stem)(picture)
    torch.testing.assert_close(network(picture), network.describe(uncut), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", ["S", "M"])
def test_of_256_px_the_last_three_rows_and_columns_are_outside_every_patch(size: PdnSize) -> None:
    network = initialise(teacher_network(PdnShape(size, TINY)))
    picture = torch.randn(1, 3, 256, 256, requires_grad=True)
    described = network(picture)
    described.square().sum().backward()
    assert picture.grad is not None
    felt = picture.grad.abs().sum((0, 1)) > 0
    assert (int(felt.any(1).nonzero().max()), int(felt.any(0).nonzero().max())) == (252, 252)
    other = picture.detach().clone()
    other[..., 253:, :] = other[..., 253:] = 7.0
    assert torch.equal(network(other), described)
    other[..., 252, :] = 7.0
    assert not torch.equal(network(other), described)


@pytest.mark.parametrize("size_hw", [(128, 128), (160, 128), (256, 256), (288, 416)])
def test_autoencoder_matches_the_teachers_grid_at_any_size(size_hw: tuple[int, int]) -> None:
    shape = PdnShape("S", TINY)
    picture = torch.randn(1, 3, *size_hw)
    with torch.no_grad():
        encoded = Autoencoder(shape, size_hw).encoder(picture)
        predicted = Autoencoder(shape, size_hw)(picture)
        described = teacher_network(shape)(picture)
    assert encoded.shape[2:] == (1, 1)
    assert predicted.shape == described.shape


@pytest.mark.parametrize("size_hw", [(96, 128), (128, 144), (32, 32)])
def test_sizes_that_cannot_work_are_refused_with_the_reason(size_hw: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="multiple of 32 from 128 up"):
        Autoencoder(PdnShape("S", TINY), size_hw)


def test_half_of_a_student_equals_that_half_of_all_of_it() -> None:
    shape = PdnShape("M", TINY)
    student, picture = student_network(shape), torch.randn(2, 3, 128, 128)
    second = slice(shape.feature_channels, None)
    with torch.no_grad():
        half = student.describe(student.stem(picture), second)
        torch.testing.assert_close(half, student(picture)[:, second])
