"""The authors' checkpoint, laid out as it is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from loupe_models.bundle import file_sha256
from loupe_trainer.cli import app
from loupe_trainer.encoders import point_weights
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import PointShape
from loupe_trainer.encoders.point_weights import open_point_mae, read_point_mae
from loupe_trainer.errors import WeightsError

SMALL = PointShape(depth=4, width=24, n_heads=3, taps=(1, 3), hidden=8, local=16)


def random_mae(shape: PointShape = SMALL) -> PointMae:
    torch.manual_seed(1)
    return PointMae(shape).eval()


def published(network: PointMae, prefix: str = "") -> dict[str, object]:
    """Lay out `pretrain.pth`: encoder, decoder and optimiser, and a NumPy number as the metric."""
    own = {f"{prefix}MAE_encoder.{key}": value for key, value in network.state_dict().items()}
    decoder = {f"{prefix}MAE_decoder.norm.weight": torch.ones(24), f"{prefix}mask_token":
               torch.zeros(1, 1, 24), f"{prefix}increase_dim.0.bias": torch.zeros(96)}  # fmt: skip
    return {
        "base_model": own | decoder, "optimizer": {"state": {}, "param_groups": []}, "epoch": 300,
        "metrics": {"acc": np.float64(91.5)}, "best_metrics": {"acc": 92.0},
    }  # fmt: skip


def assert_same(one: PointMae, other: PointMae) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_the_full_size_has_the_published_keys_and_shapes() -> None:
    with torch.device("meta"):
        network = PointMae(PointShape())
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == expected_shapes()


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Write out, without the classes, what the file holds under `MAE_encoder.`."""
    shapes: dict[str, tuple[int, ...]] = {}
    convs = {"first_conv.0": (3, 128), "first_conv.3": (128, 256),
             "second_conv.0": (512, 512), "second_conv.3": (512, 384)}  # fmt: skip
    for name, (n_in, n_out) in convs.items():
        shapes |= {f"encoder.{name}.weight": (n_out, n_in, 1), f"encoder.{name}.bias": (n_out,)}
    for name, n in (("first_conv.1", 128), ("second_conv.1", 512)):
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"encoder.{name}.{key}"] = (n,)
        shapes[f"encoder.{name}.num_batches_tracked"] = ()
    linear = {"pos_embed.0": (3, 128), "pos_embed.2": (128, 384)}
    for block in range(12):
        at = f"blocks.blocks.{block}"
        shapes[f"{at}.attn.qkv.weight"] = (1152, 384)
        linear |= {f"{at}.attn.proj": (384, 384), f"{at}.mlp.fc1": (384, 1536),
                   f"{at}.mlp.fc2": (1536, 384)}  # fmt: skip
        for norm in (f"{at}.norm1", f"{at}.norm2"):
            shapes |= {f"{norm}.weight": (384,), f"{norm}.bias": (384,)}
    for name, (n_in, n_out) in linear.items():
        shapes |= {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    return shapes | {"norm.weight": (384,), "norm.bias": (384,)}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_encoder_is_read_out_of_the_authors_checkpoint(tmp_path: Path, prefix: str) -> None:
    network, file = random_mae(), tmp_path / "pretrain.pth"
    torch.save(published(network, prefix), file)
    read, origin = read_point_mae(file, shape=SMALL)
    assert_same(read, network)
    assert not read.training
    assert origin.sha256 == file_sha256(file)
    assert (origin.name, origin.licence) == ("Point-MAE, pretrain.pth", "NOASSERTION")
    assert read_point_mae(file, "MIT", SMALL)[1].licence == "MIT"


def test_a_bare_state_dict_is_read(tmp_path: Path) -> None:
    network, file = random_mae(), tmp_path / "bare.pth"
    torch.save(network.state_dict(), file)
    assert_same(read_point_mae(file, shape=SMALL)[0], network)


def test_opening_gives_the_encoder_with_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(point_weights, "PUBLISHED_SHAPE", SMALL)
    file = tmp_path / "pretrain.pth"
    torch.save(published(random_mae()), file)
    encoder = open_point_mae(file)
    assert encoder.channels == 48
    assert encoder.shape.norm == "frame"
    assert encoder.origin is not None
    assert encoder.tensors == ("groups", "centres", "nn_index", "nn_weight")


def test_a_missing_file_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    file = tmp_path / "pretrain.pth"
    with pytest.raises(WeightsError, match="fetch https://github") as told:
        open_point_mae(file)
    assert str(told.value).endswith(f"to {file}")


def lacking(state: dict[str, Tensor]) -> None:
    del state["MAE_encoder.norm.weight"]


def reshaped(state: dict[str, Tensor]) -> None:
    state["MAE_encoder.pos_embed.0.weight"] = torch.zeros(128, 4)


def superfluous(state: dict[str, Tensor]) -> None:
    state["MAE_encoder.cls_token"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "says"),
    [(lacking, "lacks norm.weight"), (reshaped, r"\(128, 4\), expected \(128, 3\)"),
     (superfluous, "also has cls_token")],
)  # fmt: skip
def test_another_networks_weights_are_refused(tmp_path: Path, change, says: str) -> None:  # type: ignore[no-untyped-def]
    checkpoint, file = published(random_mae()), tmp_path / "pretrain.pth"
    change(checkpoint["base_model"])
    torch.save(checkpoint, file)
    with pytest.raises(WeightsError, match=says):
        read_point_mae(file, shape=SMALL)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    checkpoint = published(random_mae()) | {"epoch": Path(tmp_path)}
    torch.save(checkpoint, tmp_path / "pretrain.pth")
    with pytest.raises(WeightsError, match="never loaded here"):
        read_point_mae(tmp_path / "pretrain.pth", shape=SMALL)


def test_the_command_line_says_where_to_fetch_it() -> None:
    told = CliRunner().invoke(app, ["backbones"])
    assert told.exit_code == 0
    assert "Pang-Yatian/Point-MAE/releases" in told.stdout
