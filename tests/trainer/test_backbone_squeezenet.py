"""SqueezeNet from either file: complete, right way round, and useful."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as nnf

from loupe_trainer.backbones import BACKBONES, Backbone, open_backbone
from loupe_trainer.backbones.mobilenet import load_mobilenet
from loupe_trainer.backbones.squeezenet import (
    FIRES,
    CaffeNormalise,
    SqueezeNet,
    load_squeezenet,
)
from loupe_trainer.errors import RecipeError, WeightsError
from loupe_trainer.progress import SilentProgress
from loupe_trainer.published_weights import Whose
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.normalise import ImageNetNormalise
from loupe_trainer.teachers.pretrain import pretrain


def random_network(normalise: torch.nn.Module) -> SqueezeNet:
    return SqueezeNet(Whose("random", "MIT", None), normalise)


def write_npz(file: Path) -> SqueezeNet:
    """Random weights as the npz stores Caffe's."""
    network = random_network(CaffeNormalise())
    arrays = {}
    for key, value in network.state_dict().items():
        parts = key.removeprefix("fires.").split(".")
        name = "/".join(parts[:2]) + f".{parts[2]}" if parts[0] in FIRES else key
        arrays[name] = value.numpy().astype(np.float16)
    arrays["conv10.weight"] = np.zeros((4, 512, 1, 1), np.float16)
    np.savez(file, **arrays)
    return network


def write_torchvision(file: Path) -> SqueezeNet:
    """Random weights under torchvision's names, with a classifier."""
    network = random_network(ImageNetNormalise())
    at = dict(zip(FIRES, (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
    state = {}
    for key, value in network.state_dict().items():
        first, name, *rest = key.split(".")
        place = f"features.{at[name]}" if first == "fires" else "features.0"
        state[".".join([place, *rest] if rest else [place, name])] = value
    torch.save(state | {"classifier.1.weight": torch.zeros(4, 512, 1, 1)}, file)
    return network


@pytest.mark.parametrize(("suffix", "write"), [("npz", write_npz), ("pth", write_torchvision)])
def test_either_file_gives_the_same_network_and_maps_at_exact_strides(
    tmp_path: Path, suffix: str, write: Callable[[Path], SqueezeNet]
) -> None:
    file = tmp_path / f"weights.{suffix}"
    written = write(file)
    backbone = open_backbone("squeezenet", file, "MIT")
    picture = torch.rand(2, 3, 128, 160) * 255
    with torch.no_grad():
        maps, expected = backbone.features(picture), written.features(picture)
    for stride_px, channels, features, same in zip(
        (8, 16), (256, 512), maps, expected, strict=True
    ):
        assert features.shape == (2, channels, 128 // stride_px, 160 // stride_px)
        torch.testing.assert_close(features, same, rtol=1e-2, atol=1e-2)
    assert backbone.strides_px == (8, 16)
    assert backbone.whose.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_distillation_runs_on_any_weights(tmp_path: Path) -> None:
    weights, file = tmp_path / "weights.npz", tmp_path / "teacher.safetensors"
    write_npz(weights)
    config = PretrainConfig(
        backbone="squeezenet",
        backbone_weights=weights,
        licence="MIT",
        width=0.07,
        steps=3,
        batch=2,
        input_px=64,
        n_pictures=4,
    )
    teacher = pretrain(config, file, SilentProgress())
    assert teacher.origin.name == "SqueezeNet 1.1, weights.npz"
    assert teacher.origin.licence == "MIT"
    assert teacher.origin.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert not teacher.network.padding
    assert sorted(p.name for p in tmp_path.iterdir()) == ["teacher.safetensors", "weights.npz"]


@pytest.mark.parametrize(
    ("load", "what", "lacks"),
    [
        (load_squeezenet, "SqueezeNet 1.1", "conv1.weight"),
        (load_mobilenet, "MobileNet 1.0", "conv1/kernel"),
    ],
)
def test_an_npz_of_other_weights_is_refused(
    tmp_path: Path, load: Callable[[Path, str], Backbone], what: str, lacks: str
) -> None:
    junk, foreign = tmp_path / "junk.npz", tmp_path / "foreign.npz"
    junk.write_bytes(b"not a zip")
    np.savez(foreign, conv1=np.zeros(3))
    with pytest.raises(WeightsError, match=f"not {what}'s weights"):
        load(junk, "MIT")
    with pytest.raises(WeightsError, match=f"not {what}: it lacks {lacks}"):
        load(foreign, "MIT")


def test_a_backbone_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no backbone"):
        open_backbone("resnet", tmp_path / "weights.npz")


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_missing_weights_say_what_to_fetch_and_where_to_put_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"fetch .* weights/.*--weights"):
        open_backbone(name, None)
    with pytest.raises(RecipeError, match="fetch ") as told:
        open_backbone(name, tmp_path / "missing")
    assert str(told.value).count(str(tmp_path / "missing")) > 1
    assert "sha256" in str(told.value)


def test_a_file_of_unknown_hash_needs_somebodys_word_on_its_licence(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    write_torchvision(file)
    with pytest.raises(WeightsError, match=r"is not that of squeezenet1_1.*--set licence=NAME"):
        open_backbone("squeezenet", file)


def test_real_weights_classify_real_photographs(real_data: Path) -> None:
    """The classifier, put back for the occasion, agrees with ImageNet's labels: proof that
    channel order, mean and layer names are right."""
    file = real_data / "weights" / "squeezenet_v1.1_fp16.npz"
    photographs = sorted((real_data / "natural" / "imagenet_sample").glob("*.jpg"))[::25]
    backbone = load_squeezenet(file)
    with np.load(file, allow_pickle=False) as arrays:
        weight = torch.from_numpy(arrays["conv10.weight"].astype(np.float32))
        bias = torch.from_numpy(arrays["conv10.bias"].astype(np.float32))
    confident = []
    for path in photographs:
        photograph = cv2.imread(str(path))
        assert photograph is not None
        bgr = cv2.resize(photograph, (256, 256), interpolation=cv2.INTER_AREA)
        rgb = torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1)[None].float()
        confident.append([_certainty(backbone, p, weight, bias) for p in (rgb, rgb.flip(1))])
    right, swapped = np.median(np.array(confident), axis=0)
    assert backbone.whose.licence == "BSD-2-Clause"
    assert len(confident) >= 20
    assert right > 0.4
    assert right > swapped


def _certainty(
    backbone: SqueezeNet, rgb: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> float:
    with torch.no_grad():
        logits = nnf.relu(nnf.conv2d(backbone.features(rgb)[-1], weight, bias)).mean((2, 3))
    return float(logits.softmax(1).max())
