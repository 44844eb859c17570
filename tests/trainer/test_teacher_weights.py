"""Teachers: their losses, their corpora, their file."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from pydantic import ValidationError
from torch import Tensor

from loupe_trainer.errors import RecipeError, WeightsError
from loupe_trainer.progress import SilentProgress
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.corpus import TextureCorpus
from loupe_trainer.teachers.embedding import PatchEmbedding
from loupe_trainer.teachers.marks import draw_mark
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pretrain import pretrain
from loupe_trainer.teachers.selfsupervised import (
    compactness_loss,
    draw_patches,
    nearest_stranger,
    triplet_loss,
)
from loupe_trainer.teachers.weights import load_teacher

TINY = {"width": 0.07, "steps": 3, "batch": 8, "n_pictures": 8}


def test_triplet_swaps_the_anchor_where_that_is_harder() -> None:
    anchors = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    positives = torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    negatives = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    # pair 0: to its positive 1/2; to its negative min(16, 9)/2; the margin is 1
    assert float(triplet_loss(anchors, positives, negatives)) == 0.0
    positives[0, 0] = 3.0  # to its positive 9/2; to its negative min(16, 1)/2
    loss = float(triplet_loss(anchors, positives, negatives))
    assert loss == pytest.approx((1 + 4.5 - 0.5) / 2)


def test_the_stranger_is_the_nearest_to_either_of_a_pair_and_never_itself() -> None:
    anchors = torch.tensor([[0.0], [5.0], [9.0]])
    positives = torch.tensor([[1.0], [5.0], [6.0]])
    assert nearest_stranger(anchors, positives).flatten().tolist() == [5.0, 9.0, 5.0]


def test_marks_are_small_and_always_there() -> None:
    rng = np.random.default_rng(0)
    patch = np.full((33, 33, 3), 100, np.uint8)
    changed = [np.abs(draw_mark(patch, rng).astype(int) - patch).max(2) for _ in range(200)]
    touched = np.array([np.mean(c > 0) for c in changed])
    assert (touched > 0).mean() > 0.97  # a mark may have the patch's own colour
    assert np.median(touched) < 0.2
    assert touched.max() < 0.7


def test_compactness_asks_for_uncorrelated_channels_whatever_the_sign() -> None:
    rng = torch.Generator().manual_seed(0)
    one = torch.randn(4096, 1, generator=rng)
    alike = torch.cat((one, one), dim=1)
    opposed = torch.cat((one, -one), dim=1)
    independent = torch.randn(4096, 2, generator=rng)
    assert float(compactness_loss(alike)) == pytest.approx(1, abs=1e-4)
    assert float(compactness_loss(opposed)) == pytest.approx(1, abs=1e-4)
    assert float(compactness_loss(independent)) < 0.01


def patchcore_embedding(maps: list[Tensor], size_hw: tuple[int, int], channels: int) -> Tensor:
    """Step by step, as PatchCore does it."""
    batch, n = len(maps[0]), size_hw[0] * size_hw[1]
    layers = []
    for layer in maps:
        around = nnf.unfold(layer, 3, padding=1).reshape(batch, -1, *layer.shape[2:])
        around = nnf.interpolate(around, size=size_hw, mode="bilinear")
        rows = around.flatten(2).transpose(1, 2).reshape(batch * n, 1, -1)
        layers.append(nnf.adaptive_avg_pool1d(rows, 1024))
    pooled = nnf.adaptive_avg_pool1d(torch.cat(layers, dim=2), channels)
    return pooled.reshape(batch, *size_hw, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [24, 97, 384])
def test_embedding_by_convolution_equals_patchcores(channels: int) -> None:
    maps = [torch.randn(2, 128, 8, 12), torch.randn(2, 160, 4, 6), torch.randn(2, 130, 2, 3)]
    embed = PatchEmbedding((128, 160, 130), channels, (8, 12))
    expected = patchcore_embedding(maps, (8, 12), channels)
    torch.testing.assert_close(embed(maps), expected, rtol=1e-4, atol=1e-5)


def test_a_teacher_keeps_its_answers_and_its_origin(tmp_path: Path) -> None:
    config = PretrainConfig.model_validate(TINY)
    file = tmp_path / "teacher.safetensors"
    made = pretrain(config, file, SilentProgress())
    loaded = load_teacher(file)
    assert loaded.origin == made.origin
    assert loaded.origin.corpus == "procedural textures"
    assert loaded.origin.sha256 is None
    assert loaded.network.shape == config.shape
    picture = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.network(picture), made.network(picture))
    assert not any(p.requires_grad for p in loaded.network.parameters())


def test_pretraining_is_deterministic_and_the_seed_matters(tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = PretrainConfig.model_validate(TINY | {"seed": seed})
        made = pretrain(config, tmp_path / name, SilentProgress())
        hashes.append(made.network.last.weight)
    assert torch.equal(hashes[0], hashes[1])
    assert not torch.equal(hashes[0], hashes[2])


def test_self_supervision_pulls_a_patch_and_its_twin_together(tmp_path: Path) -> None:
    """After a little training twins are closer than strangers, on textures never seen."""
    config = PretrainConfig.model_validate(
        TINY | {"steps": 60, "batch": 32, "n_pictures": 64, "lr": 1e-3}
    )
    teacher = pretrain(config, tmp_path / "t.safetensors", SilentProgress())
    rng = np.random.default_rng(99)
    pictures = [TextureCorpus().picture(rng, 128, 128) for _ in range(32)]
    with torch.no_grad():
        patches = imagenet_normalise(draw_patches(pictures, 64, rng))
        a, p, _ = teacher.network(patches).flatten(1).chunk(3)
    twins, strangers = (a - p).square().sum(1), (a - a.roll(1, 0)).square().sum(1)
    assert float((twins < strangers).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such teacher"), (b"junk" * 8, "not a whole teacher")]
)
def test_a_file_that_is_no_teacher_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "teacher.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_teacher(file)


def test_a_truncated_teacher_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    pretrain(PretrainConfig.model_validate(TINY), file, SilentProgress())
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a whole teacher"):
        load_teacher(file)


def test_a_distillation_has_a_schedule_of_its_own() -> None:
    without, distilled = PretrainConfig(), PretrainConfig(backbone="squeezenet", steps=400)
    assert (without.batch, without.lr) == (64, 2e-3)
    assert (distilled.steps, distilled.batch, distilled.lr) == (400, 16, 1e-4)


def test_a_backbone_without_weights_is_refused(tmp_path: Path) -> None:
    config = PretrainConfig(backbone="squeezenet")
    with pytest.raises(RecipeError, match="backbone_weights"):
        pretrain(config, tmp_path / "teacher.safetensors", SilentProgress())


@pytest.mark.parametrize("key", ["backbone_weights", "licence"])
def test_weights_without_a_backbone_are_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="name it with `backbone`"):
        PretrainConfig.model_validate({key: "somebodys"})


def test_textures_vary_and_the_generator_decides() -> None:
    first = TextureCorpus().picture(np.random.default_rng(1), 64, 96)
    again = TextureCorpus().picture(np.random.default_rng(1), 64, 96)
    other = TextureCorpus().picture(np.random.default_rng(2), 64, 96)
    assert first.shape == (64, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    rng = np.random.default_rng(0)
    spreads = [TextureCorpus().picture(rng, 64, 64).std() for _ in range(40)]
    assert np.median(spreads) > 15
