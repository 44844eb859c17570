"""SqueezeNet from its npz: complete, right way round, and useful."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as nnf

from loupe_trainer.backbones import open_backbone
from loupe_trainer.backbones.squeezenet import FIRES, SqueezeNet, load_squeezenet
from loupe_trainer.errors import RecipeError, WeightsError
from loupe_trainer.progress import SilentProgress
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.pretrain import pretrain


def write_random_weights(file: Path) -> None:
    state = SqueezeNet("").state_dict()
    arrays = {}
    for key, value in state.items():
        parts = key.removeprefix("fires.").split(".")
        name = "/".join(parts[:2]) + f".{parts[2]}" if parts[0] in FIRES else key
        arrays[name] = value.numpy().astype(np.float16)
    np.savez(file, **arrays)


def test_maps_lie_at_exact_strides(tmp_path: Path) -> None:
    file = tmp_path / "weights.npz"
    write_random_weights(file)
    backbone = open_backbone("squeezenet", file)
    picture = torch.rand(2, 3, 128, 160) * 255
    with torch.no_grad():
        maps = backbone.features(picture)
    for stride_px, channels, features in zip((8, 16), (256, 512), maps, strict=True):
        assert features.shape == (2, channels, 128 // stride_px, 160 // stride_px)
    assert backbone.strides_px == (8, 16)
    assert len(backbone.sha256) == 64


def test_distillation_runs_and_resumes_on_any_weights(tmp_path: Path) -> None:
    weights, file = tmp_path / "weights.npz", tmp_path / "teacher.safetensors"
    write_random_weights(weights)
    config = PretrainConfig(
        backbone="squeezenet",
        backbone_weights=weights,
        width=0.07,
        steps=3,
        batch=2,
        input_px=64,
        n_pictures=4,
    )
    teacher = pretrain(config, file, SilentProgress())
    assert teacher.origin.name == "squeezenet_v1.1"
    assert teacher.origin.licence == "BSD-2-Clause"
    assert teacher.origin.sha256 == load_squeezenet(weights).sha256
    assert not teacher.network.padding
    assert sorted(p.name for p in tmp_path.iterdir()) == ["teacher.safetensors", "weights.npz"]


def test_weights_that_are_not_squeezenets_are_refused(tmp_path: Path) -> None:
    missing, junk, foreign = (tmp_path / f"{n}.npz" for n in ("missing", "junk", "foreign"))
    junk.write_bytes(b"not a zip")
    np.savez(foreign, conv1=np.zeros(3))
    with pytest.raises(WeightsError, match="cannot be read"):
        load_squeezenet(missing)
    for file in (junk, foreign):
        with pytest.raises(WeightsError, match="not SqueezeNet"):
            load_squeezenet(file)
    with pytest.raises(RecipeError, match="no backbone"):
        open_backbone("resnet", missing)


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
    assert len(confident) >= 20
    assert right > 0.4
    assert right > swapped


def _certainty(
    backbone: torch.nn.Module, rgb: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> float:
    with torch.no_grad():
        logits = nnf.relu(nnf.conv2d(backbone(rgb)[-1], weight, bias)).mean((2, 3))
    return float(logits.softmax(1).max())
