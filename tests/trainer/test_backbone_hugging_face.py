"""Hugging Face folders: written by transformers itself, read back as feature maps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
import transformers

from loupe_trainer.backbones import open_backbone
from loupe_trainer.backbones.hugging_face import load_hugging_face
from loupe_trainer.errors import WeightsError
from loupe_trainer.progress import SilentProgress
from loupe_trainer.published_weights import Whose
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.pretrain import pretrain

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
STAGES: dict[str, Any] = {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1]}
PLAIN: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], Any]] = {
    "resnet": lambda: transformers.ResNetConfig(embedding_size=8, **STAGES),
    "convnext": lambda: transformers.ConvNextConfig(**STAGES),
    "regnet": lambda: transformers.RegNetConfig(embedding_size=8, groups_width=8, **STAGES),
    "efficientnet": lambda: transformers.EfficientNetConfig(
        width_coefficient=0.1, depth_coefficient=0.1, hidden_dim=128
    ),
    "mobilenet_v2": lambda: transformers.MobileNetV2Config(depth_multiplier=0.35),
    "swin": lambda: transformers.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4
    ),
    "vit": lambda: transformers.ViTConfig(image_size=32, patch_size=16, **PLAIN),
    "dinov2": lambda: transformers.Dinov2Config(image_size=28, patch_size=14, **PLAIN),
    "dinov2_registers": lambda: transformers.Dinov2WithRegistersConfig(
        image_size=28, patch_size=14, num_register_tokens=4, **PLAIN
    ),
    "dinov3": lambda: transformers.DINOv3ViTConfig(num_register_tokens=4, **PLAIN),
    "vit_mae": lambda: transformers.ViTMAEConfig(image_size=32, patch_size=16, **PLAIN),
    "bert": lambda: transformers.BertConfig(**PLAIN),
}


def write_folder(folder: Path, name: str, licence: str = "apache-2.0") -> Any:
    """Lay a tiny random network out as the hub does."""
    torch.manual_seed(3)
    network = transformers.AutoModel.from_config(CONFIGS[name]())  # type: ignore[no-untyped-call]
    network.eval()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(IMAGENET | {"size": 224}))
    (folder / "README.md").write_text(f"---\ntags:\n- vision\nlicense: {licence}\n---\n# A card\n")
    return network


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet", (24, 32)),
        ("convnext", (24, 32)),
        ("regnet", (24, 32)),
        ("efficientnet", (8, 16)),
        ("mobilenet_v2", (16, 32)),
        ("swin", (16, 32)),
    ],
)
def test_convolutional_and_hierarchical_networks_give_maps_at_two_strides(
    tmp_path: Path, name: str, channels: tuple[int, ...]
) -> None:
    write_folder(tmp_path, name)
    backbone = load_hugging_face(tmp_path)
    assert backbone.strides_px == (8, 16)
    maps = backbone.features(torch.rand(2, 3, 128, 192) * 255)
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 128 // s, 192 // s) for c, s in zip(channels, (8, 16), strict=True)
    ]
    assert backbone.channels == channels


def test_the_deepest_map_of_a_stride_is_taken_and_normalised_as_its_folder_says(
    tmp_path: Path,
) -> None:
    network = write_folder(tmp_path, "resnet")
    told = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    picture = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in told.values())
    with torch.no_grad():
        hidden = network((picture - mean) / std, output_hidden_states=True).hidden_states
    for given, expected in zip(
        load_hugging_face(tmp_path).features(picture * 255), hidden[2:4], strict=True
    ):
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_a_classifiers_folder_serves_as_well(tmp_path: Path, name: str) -> None:
    """Most of the hub's are: a prefix on every key, a head too many, a pooler too few."""
    write_folder(tmp_path, name)
    model: Any = transformers.AutoModelForImageClassification
    classifier = model.from_config(CONFIGS[name]()).eval()
    classifier.save_pretrained(tmp_path)
    picture = torch.rand(1, 3, 64, 64) * 255
    backbone = load_hugging_face(tmp_path)
    more = {"interpolate_pos_encoding": True} if name == "vit" else {}
    with torch.no_grad():
        output = classifier.base_model(
            backbone.normalise(picture), **more, output_hidden_states=True
        )
    expected = output.hidden_states[-2] if name == "resnet" else output.last_hidden_state[:, 1:]
    given = backbone.features(picture)[-1]
    torch.testing.assert_close(given if name == "resnet" else given.flatten(2).mT, expected)


@pytest.mark.parametrize("name", ["vit", "dinov2", "dinov2_registers", "dinov3"])
def test_a_transformers_patches_are_put_back_into_their_grid(tmp_path: Path, name: str) -> None:
    """At a size it was not trained on, and with the row and the column told apart."""
    network = write_folder(tmp_path, name)
    backbone = load_hugging_face(tmp_path)
    patch_px = network.config.patch_size
    picture = torch.rand(1, 3, 4 * patch_px, 6 * patch_px) * 255
    (features,) = backbone.features(picture)
    assert backbone.strides_px == (patch_px,)
    assert features.shape == (1, 32, 4, 6)
    more = {"interpolate_pos_encoding": True} if name == "vit" else {}
    with torch.no_grad():
        tokens = network(backbone.normalise(picture), **more).last_hidden_state
    n_before = tokens.shape[1] - 24
    assert n_before == {"vit": 1, "dinov2": 1}.get(name, 5)
    torch.testing.assert_close(features[0, :, 2, 5], tokens[0, n_before + 2 * 6 + 5])


def test_patches_tile_a_picture_that_is_no_multiple_of_them(tmp_path: Path) -> None:
    write_folder(tmp_path, "dinov2")
    backbone = load_hugging_face(tmp_path)
    picture = torch.rand(1, 3, 139, 128) * 255  # 9.9 by 9.1 patches
    (features,) = backbone.features(picture)
    assert features.shape == (1, 32, 10, 9)
    tiled = nnf.interpolate(picture, size=(140, 126), mode="bilinear", antialias=True)
    torch.testing.assert_close(features, backbone.features(tiled)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["vit_mae", "bert"])
def test_networks_without_a_grid_are_refused(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, name)
    with pytest.raises(WeightsError, match="not a network that describes pictures of any size"):
        load_hugging_face(tmp_path)


def test_efficientnets_second_division_by_the_spread_is_kept(tmp_path: Path) -> None:
    write_folder(tmp_path, "resnet")
    told = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "include_top": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    given = load_hugging_face(tmp_path).normalise(torch.full((1, 3, 1, 1), 255.0))
    assert given.flatten().tolist() == pytest.approx([(1 - 0.5) / 0.25 / 0.25] * 3)


def test_whose_it_is_comes_from_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models--somebody--tiny" / "snapshots" / "0123456789abcdef"
    write_folder(folder, "resnet")
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert load_hugging_face(folder).whose == Whose(
        "somebody/tiny 0123456789ab", "apache-2.0", sha256
    )
    assert load_hugging_face(folder, "MIT").whose.licence == "MIT"
    (folder / "README.md").write_text(
        "---\nlicense: other\nlicense_name: dinov3-license\n---\nlicense: mit\n"
    )
    assert load_hugging_face(folder).whose.licence == "dinov3-license"
    for silent in ("# no front matter\nlicense: mit\n", "---\nlicense: other\n---\n"):
        (folder / "README.md").write_text(silent)
        with pytest.raises(WeightsError, match=r"README.md tells no licence.*--set licence"):
            load_hugging_face(folder)


def test_incomplete_folders_say_what_is_missing(tmp_path: Path) -> None:
    write_folder(tmp_path, "resnet")
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (tmp_path / name).rename(tmp_path / "away")
        with pytest.raises(WeightsError, match=f"no {name} in it.*hf download"):
            load_hugging_face(tmp_path)
        (tmp_path / "away").rename(tmp_path / name)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pickled weights \(.bin\) only.*save_pretrained"):
        load_hugging_face(tmp_path)
    with pytest.raises(WeightsError, match="not a folder"):
        load_hugging_face(tmp_path / "README.md")


def test_weights_that_config_does_not_fit_are_refused_and_not_drawn_at_random(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path, "resnet")
    whole = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(whole | {"depths": [1, 2, 2, 1]}))
    with pytest.raises(WeightsError, match=r"does not hold encoder.stages.1.layers.1"):
        load_hugging_face(tmp_path)
    for broken in ({"model_type": "no_such_network"}, {"architectures": ["X"]}):
        (tmp_path / "config.json").write_text(json.dumps(broken))
        with pytest.raises(WeightsError, match="transformers cannot load it"):
            load_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(whole))
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(WeightsError, match="transformers cannot load it"):
        load_hugging_face(tmp_path)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"image_std": [0.2] * 3}, "image_mean: Field required"),
        (IMAGENET | {"image_mean": 0.5}, "image_mean"),
        (IMAGENET | {"rescale_offset": True}, "rescale_offset"),
        ([], "the file"),
    ],
)
def test_a_normalisation_that_is_not_understood_is_refused(
    tmp_path: Path, told: object, says: str
) -> None:
    write_folder(tmp_path, "resnet")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    with pytest.raises(WeightsError, match=rf"preprocessor_config.json: {says}.*fetch the file"):
        load_hugging_face(tmp_path)


@pytest.mark.parametrize("name", ["convnext", "dinov2"])
def test_a_teacher_is_distilled_from_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tiny"
    write_folder(folder, name)
    config = PretrainConfig(
        backbone="hugging_face", backbone_weights=folder, width=0.07, steps=2, batch=2,
        input_px=64, n_pictures=4,
    )  # fmt: skip
    teacher = pretrain(config, tmp_path / "teacher.safetensors", SilentProgress())
    assert teacher.origin.name == "tiny"
    assert teacher.origin.licence == "apache-2.0"
    assert teacher.origin.sha256 == open_backbone("hugging_face", folder).whose.sha256
