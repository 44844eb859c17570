"""Published vision transformers: written by transformers itself, read into our own blocks."""

from __future__ import annotations

import hashlib
import json
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from loupe_trainer.encoders.vit_weights import open_vit
from loupe_trainer.errors import RecipeError, WeightsError

MEAN_STD = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
PLAIN: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS: dict[str, Callable[[], Any]] = {
    "dino": lambda: transformers.ViTConfig(
        image_size=32, patch_size=8, intermediate_size=96, **PLAIN
    ),
    "dino_without_bias": lambda: transformers.ViTConfig(
        image_size=32, patch_size=8, intermediate_size=96, qkv_bias=False, **PLAIN
    ),
    "dinov2": lambda: transformers.Dinov2Config(
        image_size=28, patch_size=14, mlp_ratio=2, layerscale_value=0.3, **PLAIN
    ),
    "dinov2_gated": lambda: transformers.Dinov2Config(
        image_size=28, patch_size=14, mlp_ratio=2, use_swiglu_ffn=True, **PLAIN
    ),
    "dinov2_registers": lambda: transformers.Dinov2WithRegistersConfig(
        image_size=70, patch_size=14, mlp_ratio=2, num_register_tokens=4, **PLAIN
    ),
    "dinov3": lambda: transformers.DINOv3ViTConfig(
        num_register_tokens=4, intermediate_size=96, layerscale_value=0.3, **PLAIN
    ),
    "dinov3_gated": lambda: transformers.DINOv3ViTConfig(
        num_register_tokens=4, intermediate_size=96, use_gated_mlp=True, hidden_act="silu",
        **PLAIN,
    ),
}  # fmt: skip
KEY_BIAS = "encoder.layer.1.attention.attention.key.bias"
OWN_SIZE_PX = {"dino": 32, "dino_without_bias": 32, "dinov2": 28, "dinov2_gated": 28}


def write_folder(folder: Path, name: str) -> Any:
    """Lay a tiny random network out as the hub does; every number in it differs from 0 and 1."""
    torch.manual_seed(3)
    network = transformers.AutoModel.from_config(CONFIGS[name]())  # type: ignore[no-untyped-call]
    network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(MEAN_STD))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A card\n")
    return network


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino-vitb8")
    write_folder(folder, "dino")
    return folder


def their_tokens(network: Any, picture: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in MEAN_STD.values())
    more = {"interpolate_pos_encoding": True} if network.config.model_type == "vit" else {}
    with torch.no_grad():
        given: Tensor = network((picture / 255 - mean) / std, **more).last_hidden_state
    return given


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("is_own_size", [True, False])
def test_tokens_are_those_of_transformers(tmp_path: Path, name: str, is_own_size: bool) -> None:
    network = write_folder(tmp_path, name)
    patch_px = network.config.patch_size
    size_px = (OWN_SIZE_PX.get(name, 5 * patch_px),) * 2
    if not is_own_size:
        size_px = (3 * patch_px, 4 * patch_px)
    picture = torch.rand(2, 3, *size_px) * 255
    vit = open_vit(tmp_path, size_px)
    expected = their_tokens(network, picture)
    torch.testing.assert_close(vit.tokens(picture), expected, rtol=1e-5, atol=1e-5)
    grid = (size_px[0] // patch_px, size_px[1] // patch_px)
    patches = expected[:, -grid[0] * grid[1] :].mT.reshape(2, 64, *grid)
    torch.testing.assert_close(vit(picture), patches, rtol=1e-5, atol=1e-5)
    assert (vit.channels, vit.patch_px) == (64, patch_px)
    assert not any(parameter.requires_grad for parameter in vit.parameters())


def test_the_origin_is_the_folders(dino: Path) -> None:
    origin = open_vit(dino, (32, 32)).origin
    assert origin is not None
    assert (origin.name, origin.licence) == (dino.name, "apache-2.0")
    content = (dino / "model.safetensors").read_bytes()
    assert origin.sha256 == hashlib.sha256(content).hexdigest()


def as_dino_wrote_it(folder: Path) -> dict[str, Tensor]:
    """Give a folder's weights under the names of DINO's own checkpoints."""
    state = load_file(folder / "model.safetensors")
    theirs = {
        "cls_token": state["embeddings.cls_token"],
        "pos_embed": state["embeddings.position_embeddings"],
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.projection.bias"],
    }
    names = {
        "attention.output.dense": "attn.proj", "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2", "layernorm_before": "norm1", "layernorm_after": "norm2",
    }  # fmt: skip
    for kind in ("weight", "bias"):
        theirs[f"norm.{kind}"] = state[f"layernorm.{kind}"]
        for block in range(2):
            layer = f"encoder.layer.{block}"
            for name, their in names.items():
                theirs[f"blocks.{block}.{their}.{kind}"] = state[f"{layer}.{name}.{kind}"]
            theirs[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(
                [
                    state[f"{layer}.attention.attention.{p}.{kind}"]
                    for p in ("query", "key", "value")
                ]
            )
    return theirs


@pytest.fixture
def one_head(tmp_path: Path) -> Path:
    """A folder with DINO's heads, of 64 channels, and its epsilon and its pictures."""
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, intermediate_size=96, layer_norm_eps=1e-6,
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
    )  # fmt: skip
    folder = tmp_path / "one"
    torch.manual_seed(5)
    transformers.ViTModel(config).save_pretrained(folder)
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(imagenet))
    return folder


def in_a_checkpoint(state: dict[str, Tensor]) -> object:
    """A training's: student and teacher with their heads, and its settings."""
    head = {"module.head.mlp.0.weight": torch.zeros(4, 4)}
    teacher = {f"module.backbone.{key}": value for key, value in state.items()} | head
    student = {f"module.backbone.{key}": torch.zeros_like(value) for key, value in state.items()}
    return {"student": student, "teacher": teacher, "epoch": 7, "args": Namespace(lr=0.1)}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {f"backbone.{key}": value for key, value in state.items()},
        lambda state: {"teacher": {f"backbone.{key}": v for key, v in state.items()}},
        in_a_checkpoint,
    ],
)
def test_dinos_own_file_gives_what_the_folder_gives(
    tmp_path: Path, one_head: Path, wrapped: Callable[[dict[str, Tensor]], object]
) -> None:
    file = tmp_path / "dino_vitbase8_pretrain.pth"
    torch.save(wrapped(as_dino_wrote_it(one_head)), file)
    picture = torch.rand(1, 3, 40, 32) * 255
    vit = open_vit(file, (40, 32))
    expected = open_vit(one_head, (40, 32), licence="Apache-2.0")
    torch.testing.assert_close(vit(picture), expected(picture), rtol=1e-5, atol=1e-5)
    assert vit.origin is not None
    assert vit.origin.name == "DINO ViT-B/8, dino_vitbase8_pretrain.pth"
    assert vit.origin.licence == "Apache-2.0"
    assert vit.origin.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_of_unknown_name_needs_a_licence(tmp_path: Path, one_head: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save(as_dino_wrote_it(one_head), file)
    with pytest.raises(WeightsError, match=r"not that of a published file.*licence=NAME"):
        open_vit(file)
    vit = open_vit(file, (32, 32), licence="MIT")
    assert vit.origin is not None
    assert (vit.origin.name, vit.origin.licence) == ("ViT, mine.pth", "MIT")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("weights/dino-vitb8", "hf download facebook/dino-vitb8 --local-dir weights/dino-vitb8"),
        ("w/dinov2-small", "hf download facebook/dinov2-small --local-dir w/dinov2-small"),
        (
            "w/dino_deitsmall8_pretrain.pth",
            "fbaipublicfiles.com/dino/dino_deitsmall8_pretrain/dino_deitsmall8_pretrain.pth "
            "(its publisher tells no sha256) to w/dino_deitsmall8_pretrain.pth",
        ),
    ],
)
def test_what_is_not_there_is_told_how_to_fetch(name: str, told: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(told)):
        open_vit(Path(name))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    file = folder / "model.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file)


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def configure(folder: Path, **told: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | told))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut_short, "not a whole safetensors file.*fetch it again"),
        (
            lambda f: change_weights(f, lambda s: s.pop("encoder.layer.1.layernorm_after.bias")),
            "it lacks blocks.1.norm2.bias",
        ),
        (
            lambda f: change_weights(f, lambda s: s.pop(KEY_BIAS)),
            "it lacks blocks.1.attention.qkv.bias",
        ),
        (
            lambda f: change_weights(f, lambda s: s["layernorm.bias"][:1].fill_(torch.nan)),
            "norm.bias holds numbers that are not finite",
        ),
        (
            lambda f: change_weights(f, lambda s: s.update({"strange.weight": torch.zeros(1)})),
            "it also has strange.weight",
        ),
        (lambda f: configure(f, hidden_size=128), r"class_token is \(1, 1, 64\)"),
        (lambda f: configure(f, num_hidden_layers=1), "it also has blocks.1"),
        (lambda f: configure(f, num_attention_heads=3), "do not divide into 3 heads"),
        (lambda f: configure(f, model_type="swin"), "model_type.*read are ViT"),
        (lambda f: configure(f, hidden_act="relu"), "hidden_act"),
        (lambda f: (f / "config.json").write_text("{"), "config.json"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
        (lambda f: (f / "README.md").unlink(), "tells no licence"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickled weights"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_refused_by_what_is_wrong(
    tmp_path: Path, dino: Path, damage: Callable[[Path], object], told: str
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in dino.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    damage(folder)
    with pytest.raises(WeightsError, match=told):
        open_vit(folder, (32, 32))


def test_a_size_that_is_no_multiple_of_the_patch_is_refused(dino: Path) -> None:
    with pytest.raises(WeightsError, match=r"36 x 32 pixels.*choose multiples of 8"):
        open_vit(dino, (36, 32))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"layer1.weight": torch.zeros(2)}, "it lacks patch.weight.*fetch"),
        ({"epoch": 3}, "holds no state dict"),
        ({"cls_token": torch.zeros(1, 1, 64), "patch_embed.proj.weight": torch.zeros(64, 3, 8, 8)},
         "it lacks blocks.0.mlp.up.weight"),
    ],
)  # fmt: skip
def test_another_networks_file_is_refused(tmp_path: Path, content: object, told: str) -> None:
    file = tmp_path / "dino_vitbase8_pretrain.pth"
    torch.save(content, file)
    with pytest.raises(WeightsError, match=told):
        open_vit(file)


def test_a_file_cut_short_is_refused(tmp_path: Path, one_head: Path) -> None:
    file = tmp_path / "dino_vitbase8_pretrain.pth"
    torch.save(as_dino_wrote_it(one_head), file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="fetch it again"):
        open_vit(file)
