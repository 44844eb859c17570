"""MobileNet from an npz of Keras' weights: complete, right way round, and useful."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.backbones import open_backbone
from loupe_trainer.backbones.mobilenet import BLOCKS, CENTRED, EPSILON, MobileNet, load_mobilenet
from loupe_trainer.errors import WeightsError
from loupe_trainer.published_weights import Whose

Arrays = dict[str, npt.NDArray[np.float32]]


def keras_arrays() -> Arrays:
    """Random weights under Keras' names, (H, W, in, out), batch normalisation beside them."""
    rng = np.random.default_rng(0)
    shapes = {"conv1/kernel": (3, 3, 3, 32)}
    for i, (channels, out, _) in enumerate(BLOCKS, start=1):
        shapes[f"conv_dw_{i}/depthwise_kernel"] = (3, 3, channels, 1)
        shapes[f"conv_pw_{i}/kernel"] = (1, 1, channels, out)
    arrays: Arrays = {}
    for name, shape in shapes.items():
        scale = 1.5 / np.sqrt(np.prod(shape[:3]) if shape[3] > 1 else 9)
        arrays[name] = rng.normal(0, scale, shape).astype(np.float32)
        n_out = shape[2] if shape[3] == 1 else shape[3]
        for part, values in (
            ("gamma", rng.uniform(0.8, 1.2, n_out)), ("beta", rng.normal(0.5, 0.2, n_out)),
            ("moving_mean", rng.normal(0, 0.1, n_out)),
            ("moving_variance", rng.uniform(0.5, 1.5, n_out)),
        ):  # fmt: skip
            arrays[f"{name.split('/')[0]}_bn/{part}"] = values.astype(np.float32)
    return arrays


def keras_layer(x: Tensor, arrays: Arrays, name: str, stride: int) -> Tensor:
    """Convolve, normalise and cut off, each by itself, with TensorFlow's `same` padding."""
    is_depthwise = "_dw_" in name
    taps = torch.from_numpy(arrays[f"{name}/{'depthwise_' * is_depthwise}kernel"])
    weight = taps.permute(2, 3, 0, 1) if is_depthwise else taps.permute(3, 2, 0, 1)
    before, after = (0, 1) if stride == 2 else (taps.shape[0] // 2,) * 2
    x = nnf.pad(x, (before, after, before, after))
    x = nnf.conv2d(x, weight, stride=stride, groups=x.shape[1] if is_depthwise else 1)
    said = ("moving_mean", "moving_variance", "gamma", "beta")
    mean, variance, gamma, beta = (torch.from_numpy(arrays[f"{name}_bn/{s}"]) for s in said)
    return nnf.batch_norm(x, mean, variance, gamma, beta, eps=EPSILON).clamp(0, 6)


def test_maps_are_kerass_at_exact_strides(tmp_path: Path) -> None:
    arrays = keras_arrays()
    np.savez(tmp_path / "weights.npz", **arrays)  # type: ignore[arg-type]
    backbone = open_backbone("mobilenet", tmp_path / "weights.npz", "Apache-2.0")
    picture = torch.rand(2, 3, 128, 160) * 255
    x = keras_layer(nnf.pad(picture / 127.5 - 1, CENTRED), arrays, "conv1", 2)
    expected = []
    for i, (_, _, stride) in enumerate(BLOCKS, start=1):
        x = keras_layer(x, arrays, f"conv_dw_{i}", stride)
        x = keras_layer(x, arrays, f"conv_pw_{i}", 1)
        expected.append(x)
    with torch.no_grad():
        at_8, at_16 = backbone.features(picture)
    assert at_8.shape == (2, 256, 16, 20)
    assert at_16.shape == (2, 512, 8, 10)
    torch.testing.assert_close(at_8, expected[4], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(at_16, expected[10], rtol=1e-4, atol=1e-4)


def test_cells_describe_what_lies_around_their_middle() -> None:
    """The gradient of a cell, with even weights, is centred within 3 px of the cell."""
    network = MobileNet(Whose("even", "MIT", None))
    for values in network.parameters():
        nn.init.constant_(values, 1e-3 if values.ndim > 1 else 0.1)
    picture = torch.full((1, 3, 512, 512), 200.0, requires_grad=True)
    for stride_px, features in zip(network.strides_px, network.features(picture), strict=True):
        cell = 256 // stride_px
        (seen,) = torch.autograd.grad(features[0, :, cell, cell].sum(), picture, retain_graph=True)
        rows = seen[0].sum((0, 2))
        centre = float((rows * torch.arange(512)).sum() / rows.sum())
        assert abs(centre - (256 + stride_px / 2 - 0.5)) <= 3


def write_bad(file: Path, name: str, value: object) -> None:
    np.savez(file, **{**keras_arrays(), name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("conv1_bn/gamma", np.ones(31, np.float16), r"is \(31,\), expected \(32,\)"),
        ("conv1_bn/gamma", np.ones((32, 1), np.float16), r"is \(32, 1\), expected \(32,\)"),
        ("conv1/kernel", np.float16(1), r"is \(\), expected \(3, 3, 3, 32\)"),
        ("conv1/kernel", np.ones((3, 3, 32), np.float16), r"is \(3, 3, 32\)"),
        ("conv1/kernel", np.ones((32, 3, 3, 3), np.float16), r"is \(32, 3, 3, 3\)"),
        ("conv1/kernel", np.full((3, 3, 3, 32), np.nan), "has values that are not finite"),
        ("conv1/kernel", np.full((3, 3, 3, 32), 1e300), "has values that are not finite"),
        ("conv1/kernel", np.ones((3, 3, 3, 32), complex), "holds complex128, not floating"),
        ("conv1/kernel", np.array(["a"]), "holds <U1, not floating"),
        ("conv1/kernel", np.array([{}, 1], object), "is not a whole array of numbers"),
        ("more", np.zeros(3, [("a", "f4"), ("b", "i4")]), r"holds \[.*, not floating"),
        ("conv1_bn/moving_variance", np.full(32, -0.1), "has negative values"),
    ],
)
def test_an_odd_array_is_refused_by_its_name(
    tmp_path: Path, name: str, value: object, says: str
) -> None:
    write_bad(tmp_path / "odd.npz", name, value)
    with pytest.raises(WeightsError, match=f"{name} {says}") as told:
        load_mobilenet(tmp_path / "odd.npz", "MIT")
    assert "pickle" not in str(told.value)


def header(shape: str) -> bytes:
    told = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00v\x00" + told.encode().ljust(117) + b"\n"


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("conv1/kernel.npy", header("(3, 3, 3, 3200000000)")),
        ("conv1/kernel.npy", header("(3, 3, 3, 32000000000000000000000)")),
        ("conv1/kernel.npy", header("(3, 3, 3, 32)")),
        ("conv1/kernel.npy", b"hi"),
        ("conv1/kernel", b"hi"),
    ],
)
def test_what_is_no_array_in_an_npz_is_refused(tmp_path: Path, member: str, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as odd:
        odd.writestr(member, content)
    with pytest.raises(WeightsError, match=r"MobileNet 1\.0's weights: conv1/kernel "):
        load_mobilenet(tmp_path / "odd.npz", "MIT")


def test_an_npz_that_unpacks_to_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loupe_trainer.backbones.npz_file.MAX_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("conv1/kernel.npy", bytes(2_000_000))
    with pytest.raises(WeightsError, match="it holds 2 MB"):
        load_mobilenet(tmp_path / "bomb.npz", "MIT")


def test_a_plain_array_under_the_name_of_an_npz_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "plain.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(WeightsError, match="no readable npz"):
        load_mobilenet(tmp_path / "plain.npz", "MIT")


@pytest.mark.parametrize("at", [0, 100])
def test_an_npz_that_was_overwritten_is_refused_in_our_own_words(tmp_path: Path, at: int) -> None:
    """At its head, and in the middle of an array's."""
    np.savez(tmp_path / "odd.npz", weight=np.ones(1000, np.float32))
    with (tmp_path / "odd.npz").open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * (4 if at == 0 else 50))
    with pytest.raises(WeightsError, match=r"weights: .*; fetch it again\)?$") as told:
        load_mobilenet(tmp_path / "odd.npz", "MIT")
    assert "pickle" not in str(told.value)


def test_real_weights_find_real_photographs_as_their_training_did(real_data: Path) -> None:
    """What each depthwise layer says of photographs has the mean and spread that its batch
    normalisation remembers: proof that channel order, scale and padding are right."""
    file = real_data / "weights" / "mobilenet_v1_1.0_224_blocks1-12_fp16.npz"
    photographs = sorted((real_data / "natural" / "imagenet_sample").glob("*.jpg"))[::25]
    backbone = load_mobilenet(file)
    pictures = []
    for path in photographs:
        photograph = cv2.imread(str(path))
        assert photograph is not None
        pictures.append(cv2.resize(photograph, (224, 224), interpolation=cv2.INTER_AREA))
    rgb = torch.from_numpy(np.stack(pictures)[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    assert backbone.whose.licence == "Apache-2.0"
    right, swapped = (_strangeness(backbone, p, np.load(file)) for p in (rgb, rgb.flip(1)))
    assert right < 0.15
    assert right < 0.8 * swapped, (right, swapped)


def _strangeness(backbone: MobileNet, rgb: Tensor, arrays: Arrays) -> float:
    """Give how far the layers' means are off, in remembered deviations, root mean square."""
    off: list[Tensor] = []
    with torch.no_grad():
        x = backbone.stem(nnf.pad(rgb / 127.5 - 1, CENTRED))
        for i, block in enumerate(backbone.blocks, start=1):
            layer = block[0]  # type: ignore[index]
            said = layer.conv(nnf.pad(x, layer._padding))
            gamma, beta = (
                torch.from_numpy(arrays[f"conv_dw_{i}_bn/{n}"]) for n in ("gamma", "beta")
            )
            mean = said.mean((0, 2, 3))
            off.append(((mean - beta) / gamma.abs().clamp(min=0.1)).square().mean())
            x = block(x)
    return float(torch.stack(off).mean().sqrt())
