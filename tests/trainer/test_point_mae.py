"""Point-MAE says what a plain transcription of the paper says, in both readings of its norm."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from loupe_trainer.encoders.point_blocks import initialise
from loupe_trainer.encoders.point_groups import FrozenGroupNet
from loupe_trainer.encoders.point_mae import FrozenPointMae, PointMae
from loupe_trainer.encoders.point_shape import Norm, PointShape

SMALL = PointShape(depth=4, width=24, n_heads=3, taps=(1, 3), hidden=8, local=16)


def random_mae(shape: PointShape) -> PointMae:
    """A network whose every weight and statistic matters."""
    torch.manual_seed(3)
    network = PointMae(shape)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif not key.endswith("num_batches_tracked"):
                value.uniform_(-0.6, 0.9)
    return network.eval()


def cloud(n_frames: int = 1, n_groups: int = 20, n_points: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    groups = torch.randn(n_frames, n_groups, n_points, 3, generator=generator)
    return groups, torch.randn(n_frames, n_groups, 3, generator=generator)


# What follows is written from the paper, in float64, one frame and one head at a time.


def transcribed(state: dict[str, Tensor], shape: PointShape, groups: Tensor, at: Tensor) -> Tensor:
    w = {key: value.double() for key, value in state.items()}
    x = transcribed_tokens(w, shape.norm, groups.double())
    position = affine(w, "pos_embed.2", gelu(affine(w, "pos_embed.0", at.double())))
    taken = []
    for index in range(shape.depth):
        block = f"blocks.blocks.{index}"
        x = x + position
        x = x + attention(w, block, layer_norm(w, f"{block}.norm1", x), shape.n_heads)
        hidden = gelu(affine(w, f"{block}.mlp.fc1", layer_norm(w, f"{block}.norm2", x)))
        x = x + affine(w, f"{block}.mlp.fc2", hidden)
        if index in shape.taps:
            taken.append(layer_norm(w, "norm", x))
    return torch.cat(taken, 1)


def transcribed_tokens(w: dict[str, Tensor], norm: Norm, groups: Tensor) -> Tensor:
    n_groups, n_points, _ = groups.shape
    y = affine(w, "encoder.first_conv.0", groups.reshape(-1, 3))
    y = affine(w, "encoder.first_conv.3", batch_norm(w, "encoder.first_conv.1", y, norm).relu())
    largest = y.reshape(n_groups, n_points, -1).max(1).values
    y = torch.cat((largest.repeat_interleave(n_points, 0), y), 1)
    y = affine(w, "encoder.second_conv.0", y)
    y = affine(w, "encoder.second_conv.3", batch_norm(w, "encoder.second_conv.1", y, norm).relu())
    return y.reshape(n_groups, n_points, -1).max(1).values


def affine(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].flatten(1).T + w[f"{name}.bias"]


def batch_norm(w: dict[str, Tensor], name: str, x: Tensor, norm: Norm) -> Tensor:
    mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    if norm == "frame":
        mean, variance = x.mean(0), x.var(0, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def layer_norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def attention(w: dict[str, Tensor], block: str, x: Tensor, n_heads: int) -> Tensor:
    query, key, value = (x @ w[f"{block}.attn.qkv.weight"].T).chunk(3, 1)
    said = []
    for q, k, v in zip(*(t.chunk(n_heads, 1) for t in (query, key, value)), strict=True):
        said.append((q @ k.T / math.sqrt(q.shape[1])).softmax(1) @ v)
    return affine(w, f"{block}.attn.proj", torch.cat(said, 1))


@pytest.mark.parametrize("norm", ["running", "frame"])
def test_it_says_what_the_paper_says(norm: Norm) -> None:
    shape = SMALL.model_copy(update={"norm": norm})
    network = random_mae(shape)
    groups, centres = cloud(n_frames=2)
    with torch.no_grad():
        said = FrozenPointMae(network)(groups, centres)
    assert said.shape == (2, 20, shape.channels)
    for frame in range(2):
        expected = transcribed(network.state_dict(), shape, groups[frame], centres[frame])
        torch.testing.assert_close(said[frame].double(), expected, rtol=1e-5, atol=1e-5)


def test_the_two_readings_of_the_norm_differ() -> None:
    groups, centres = cloud()
    with torch.no_grad():
        running, frame = (
            FrozenPointMae(random_mae(SMALL.model_copy(update={"norm": norm})))(groups, centres)
            for norm in ("running", "frame")
        )
    assert (running - frame).abs().max() > 0.1


def test_running_statistics_keep_a_change_where_it_is_and_the_frames_do_not() -> None:
    groups, _ = cloud()
    changed = groups.clone()
    changed[:, :2] *= 2
    moved = {}
    norms: tuple[Norm, ...] = ("running", "frame")
    for norm in norms:
        tokens = FrozenGroupNet(random_mae(SMALL).encoder, norm)
        moved[norm] = (tokens(groups) - tokens(changed)).abs()[:, 2:].max()
    assert moved["running"] < 1e-5
    assert moved["frame"] > 1e-2


def test_the_frames_statistics_serve_every_scale_and_running_ones_do_not() -> None:
    groups, _ = cloud()
    readings: tuple[tuple[Norm, bool], ...] = (("running", False), ("frame", True))
    for norm, is_same in readings:
        tokens = FrozenGroupNet(random_mae(SMALL).encoder, norm)
        assert torch.allclose(tokens(groups), tokens(groups / 4), rtol=0, atol=0.02) == is_same


def test_the_published_sizes_say_what_the_paper_says() -> None:
    """Full width and depth, few groups: what the sizes decide does not hang on their number."""
    torch.manual_seed(1)
    network = PointMae(PointShape()).eval()
    initialise(network)
    groups, centres = cloud(n_groups=4, n_points=8)
    with torch.no_grad():
        said = FrozenPointMae(network)(groups, centres)[0]
    assert said.shape == (4, 768)
    expected = transcribed(network.state_dict(), PointShape(), groups[0], centres[0])
    torch.testing.assert_close(said.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_unit_makes_place_and_scale_of_a_part_irrelevant() -> None:
    groups, centres = cloud()
    seen = random_mae(SMALL.model_copy(update={"unit_m": 0.5})).in_units(groups, centres)
    same = random_mae(SMALL.model_copy(update={"unit_m": 1.0})).in_units(
        groups * 2, centres * 2 + torch.tensor([3.0, -1.0, 7.0])
    )
    for one, other in zip(seen, same, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_nobody_can_switch_the_frozen_encoder_to_training() -> None:
    network = random_mae(SMALL)
    frozen = FrozenPointMae(network)
    groups, centres = cloud()
    before = frozen(groups, centres)
    torch.nn.ModuleList([frozen]).train()
    assert not any(module.training for module in frozen.modules())
    assert torch.equal(frozen(groups, centres), before)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_softmax_layer_norm_and_erf_stay_in_float32_in_a_half_precision_copy() -> None:
    network = random_mae(SMALL).bfloat16()
    groups, centres = cloud()
    seen: list[torch.dtype] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if getattr(func, "__name__", "") in ("softmax", "layer_norm", "gelu"):
                seen.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        network(groups[:, :, 0, :1].expand(-1, -1, SMALL.width).bfloat16(), centres.bfloat16())
    assert set(seen) == {torch.float32}
    assert len(seen) >= 3 * SMALL.depth


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"n_heads": 5}, "no multiple of 5 heads"), ({"taps": (3, 1)}, "rising"),
     ({"taps": (1, 4)}, "none of 4 blocks")],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PointShape.model_validate(SMALL.model_dump() | wrong)
