"""WideResNet-101-2: torchvision's layout to the last key, and the arithmetic of a ResNet."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from loupe_trainer.backbones import wide_resnet
from loupe_trainer.backbones.wide_resnet import WideResNet, layer, load_wide_resnet
from loupe_trainer.errors import WeightsError
from loupe_trainer.published_weights import PublishedFile, Whose
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.torch_file import read_state_dict

NOBODY = Whose("random", "MIT", None)
# What torchvision tells of wide_resnet101_2: parameters in all, classifier included.
N_PARAMETERS = 126_886_696


def random_tiny(widening: int = 2) -> WideResNet:
    """A small member of the family whose every weight and statistic matters."""
    network = WideResNet(NOBODY, (1, 2, 2), 8, widening)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                value.copy_(torch.rand(value.shape, generator=generator) - 0.3)
            if key.endswith("running_var"):
                value.add_(0.5)
    return network.eval()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> WideResNet:
    """Have the loader expect the small member, and give one."""
    monkeypatch.setattr(wide_resnet.WideResNet.__init__, "__defaults__", ((1, 2, 2), 8, 2))
    return random_tiny()


def torchvision_state(network: WideResNet) -> dict[str, Tensor]:
    """The state dict with what the file also holds and the backbone does not use."""
    more = {"layer4.0.conv1.weight": torch.zeros(3), "fc.weight": torch.zeros(4, 2)}
    return dict(network.state_dict()) | more


def test_the_full_size_has_torchvisions_keys_shapes_and_number_of_parameters() -> None:
    with torch.device("meta"):
        network = WideResNet(NOBODY)
        layer4 = layer(1024, 2048, 2, 3, stride=2)
    n_used = sum(p.numel() for p in network.parameters())
    n_unused = sum(p.numel() for p in layer4.parameters()) + 2048 * 1000 + 1000
    assert n_used + n_unused == N_PARAMETERS
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes.items() >= expected_shapes().items()
    assert len(shapes) == len(expected_shapes())


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Write out, without the class, what torchvision's file holds up to layer 3."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64)
    channels = 64
    for index, depth, middle, out in ((1, 3, 128, 256), (2, 4, 256, 512), (3, 23, 512, 1024)):
        for block in range(depth):
            at = f"layer{index}.{block}"
            shapes[f"{at}.conv1.weight"] = (middle, channels, 1, 1)
            shapes[f"{at}.conv2.weight"] = (middle, middle, 3, 3)
            shapes[f"{at}.conv3.weight"] = (out, middle, 1, 1)
            shapes |= norm(f"{at}.bn1", middle) | norm(f"{at}.bn2", middle) | norm(f"{at}.bn3", out)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (out, channels, 1, 1)
                shapes |= norm(f"{at}.downsample.1", out)
            channels = out
    return shapes


def norm(at: str, channels: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{at}.{name}": (channels,) for name in names} | {f"{at}.num_batches_tracked": ()}


def test_the_arithmetic_is_that_of_transformers_resnet() -> None:
    """Against an independent ResNet of the same shape, which knows no widening."""
    ours = random_tiny(widening=1)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[32, 64, 128], depths=[1, 2, 2], layer_type="bottleneck"
    )
    theirs: Any = transformers.ResNetModel(config)
    theirs.eval()
    copy_into(theirs, ours)
    picture = torch.rand(2, 3, 64, 96) * 255
    with torch.no_grad():
        expected = theirs(imagenet_normalise(picture), output_hidden_states=True).hidden_states
        maps = ours.features(picture)
    for features, same in zip(maps, expected[-2:], strict=True):
        torch.testing.assert_close(features, same)


def copy_into(theirs: nn.Module, ours: WideResNet) -> None:
    """Give transformers' ResNet our weights, in the order in which both use them."""
    given = [v for k, v in ours.state_dict().items() if "downsample" not in k]
    shortcuts = [v for k, v in ours.state_dict().items() if "downsample" in k]
    state = {}
    for key in theirs.state_dict():
        state[key] = (shortcuts if "shortcut" in key else given).pop(0)
    assert not given
    assert not shortcuts
    theirs.load_state_dict(state)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_in_either_format_and_in_half_precision_is_read(
    tmp_path: Path, tiny: WideResNet, zipped: bool
) -> None:
    file = tmp_path / "wide_resnet.pth"
    state = {key: value.half() for key, value in torchvision_state(tiny).items()}
    del state["bn1.num_batches_tracked"]  # older files lack it
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    loaded = load_wide_resnet(file, "BSD-3-Clause")
    expected = state["layer3.1.bn2.running_var"].float()
    assert torch.equal(loaded.state_dict()["layer3.1.bn2.running_var"], expected)
    assert loaded.conv1.weight.dtype == torch.float32
    assert not any(p.requires_grad for p in loaded.parameters())
    assert loaded.whose == Whose(
        "WideResNet-101-2, wide_resnet.pth",
        "BSD-3-Clause",
        hashlib.sha256(file.read_bytes()).hexdigest(),
    )


def test_maps_lie_at_exact_strides_and_looking_changes_nothing(
    tmp_path: Path, tiny: WideResNet
) -> None:
    file = tmp_path / "wide_resnet.pth"
    torch.save(torchvision_state(tiny), file)
    loaded = load_wide_resnet(file, "MIT")
    first, again = (loaded.features(torch.full((2, 3, 64, 96), 90.0)) for _ in range(2))
    assert [tuple(m.shape) for m in first] == [(2, 64, 8, 12), (2, 128, 4, 6)]
    assert loaded.channels == (64, 128)
    assert torch.equal(first[1], again[1])
    for key, value in tiny.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_a_known_hash_says_whose_it_is(
    tmp_path: Path, tiny: WideResNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "any-name.pth"
    torch.save(torchvision_state(tiny), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    known = PublishedFile("V1", "w.pth", "https://example.org/w.pth", sha256[:8], "BSD-3-Clause")
    monkeypatch.setattr(wide_resnet, "PUBLISHED", (known,))
    assert load_wide_resnet(file).whose == Whose("V1", "BSD-3-Clause", sha256)
    monkeypatch.setattr(wide_resnet, "PUBLISHED", ())
    with pytest.raises(WeightsError, match="say their licence"):
        load_wide_resnet(file)


def test_foreign_files_are_refused_by_the_first_key_that_differs(
    tmp_path: Path, tiny: WideResNet
) -> None:
    file = tmp_path / "wide_resnet.pth"
    whole = torchvision_state(tiny)
    changes: dict[str, tuple[dict[str, Tensor], str]] = {
        "missing": (
            {k: v for k, v in whole.items() if not k.startswith("layer2.1.")},
            "it lacks layer2.1.conv1.weight",
        ),
        "narrow": (
            whole | {"layer1.0.conv2.weight": torch.zeros(8, 8, 3, 3)},
            r"layer1.0.conv2.weight is \(8, 8, 3, 3\), expected \(16, 16, 3, 3\)",
        ),
        "deeper": (whole | {"layer3.2.conv1.weight": torch.zeros(1)}, "it also has layer3.2.conv1"),
    }
    for state, says in changes.values():
        torch.save(state, file)
        with pytest.raises(WeightsError, match=f"not WideResNet-101-2: {says}"):
            load_wide_resnet(file, "MIT")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_no_state_dict_is_never_unpickled(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "file.pth"
    torch.save(nn.Conv2d(3, 8, 3), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="whole pickled network, that is code, and never"):
        read_state_dict(file)
    for content in (torch.zeros(3), {"epoch": 3}, {1: torch.zeros(3)}):
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match="holds no state dict"):
            read_state_dict(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_refused(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "file.pth"
    torch.save(random_tiny().state_dict(), file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 20):
        file.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match="fetch it again"):
            read_state_dict(file)
    for junk in (b"junk" * 20, b"<!DOCTYPE html><html>", b"\x80\x02}q\x00."):
        file.write_bytes(junk)
        with pytest.raises(WeightsError):
            read_state_dict(file)


@pytest.mark.parametrize("content", [b"", b"junk" * 20])
def test_a_damaged_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.safetensors"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="fetch it again"):
        read_state_dict(file)
