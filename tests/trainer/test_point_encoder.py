"""From groups to a map: both ways of spreading agree, and the graph says what torch says."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as nnf
from scipy.spatial import cKDTree
from torch import Tensor, nn

from loupe_models.graph_lint import ALLOWED_OPS
from loupe_trainer.encoders.point_encoder import PointEncoder
from loupe_trainer.encoders.point_groups import FrozenGroupNet
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import Norm, PointShape
from loupe_trainer.encoders.point_spread import CellSpread, PixelSpread
from loupe_trainer.encoders.surface_encoder import SurfaceEncoder
from loupe_trainer.export import export_onnx
from loupe_trainer.methods.base import Detector

GRID_HW = (40, 48)
SIDE = 10
N_CENTRES, N_POINTS = 40, 12

Tensors = dict[str, npt.NDArray[np.generic]]


def made_tensors(seed: int = 0) -> Tensors:
    """What preprocessing would make of a bumpy part with a hole in it, written out plainly."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[: GRID_HW[0], : GRID_HW[1]]
    z_m = 0.02 + 0.002 * np.sin(u / 5) * np.cos(v / 4) + rng.normal(0, 1e-4, GRID_HW)
    xyz = np.stack((u * 1e-3, v * 1e-3, z_m), -1)
    valid = (v > 6) & (np.hypot(u - 20, v - 20) > 7)
    xyz[~valid] = 0
    points = xyz[valid]
    centres = points[rng.choice(len(points), N_CENTRES, replace=False)]
    near = cKDTree(points).query(centres, N_POINTS)[1]
    distance, index = cKDTree(centres).query(points, 3)
    weight = 1 / (np.asarray(distance) ** 2 + 1e-8)
    nn_index = np.zeros((valid.size, 3), np.int32)
    nn_weight = np.zeros((valid.size, 3), np.float32)
    nn_index[valid.ravel()] = index
    nn_weight[valid.ravel()] = weight / weight.sum(1, keepdims=True)
    return {
        "xyz": xyz[None].astype(np.float32), "valid": valid[None].astype(np.uint8),
        "groups": (points[near] - centres[:, None])[None].astype(np.float32),
        "centres": centres[None].astype(np.float32),
        "nn_index": nn_index[None], "nn_weight": nn_weight[None],
    }  # fmt: skip


def as_arguments(encoder: PointEncoder | SurfaceEncoder, tensors: Tensors) -> list[Tensor]:
    return [torch.from_numpy(np.asarray(tensors[name])) for name in encoder.tensors]


@pytest.mark.parametrize(
    ("grid_hw", "side", "n_centres"), [((224, 224), 56, 64), ((37, 50), 9, 17)]
)
def test_both_ways_of_spreading_are_torchs_pooling(
    grid_hw: tuple[int, int], side: int, n_centres: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    n_px = grid_hw[0] * grid_hw[1]
    features = torch.randn(1, n_centres, 5, generator=generator)
    nn_index = torch.randint(n_centres, (1, n_px, 3), generator=generator, dtype=torch.int32)
    nn_weight = torch.rand(1, n_px, 3, generator=generator)
    nn_weight[:, ::7] = 0
    near = (features[0][nn_index[0].long()] * nn_weight[0, :, :, None]).sum(1)
    pixels = near.T.reshape(1, 5, *grid_hw)
    expected = nnf.adaptive_avg_pool2d(nnf.avg_pool2d(pixels, 3, 1), side)
    for spread in (CellSpread(grid_hw, side, n_centres), PixelSpread(grid_hw, side)):
        said = spread(features, nn_index, nn_weight)
        torch.testing.assert_close(said, expected, rtol=1e-5, atol=1e-6)


class Watched(Detector):
    """The least that keeps the graph contract: how large features are."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        said = self.encoder(*tensors)
        return said.square().mean(1, keepdim=True), said.amax((1, 2, 3))


def encoders() -> dict[str, PointEncoder | SurfaceEncoder]:
    """Both encoders at random, every weight of which matters."""
    made: dict[str, PointEncoder | SurfaceEncoder] = {}
    norms: tuple[Norm, ...] = ("running", "frame")
    for norm in norms:
        torch.manual_seed(2)
        shape = PointShape(
            depth=2, width=24, n_heads=3, taps=(0, 1), hidden=8, local=16, unit_m=0.02, norm=norm
        )
        network = PointMae(shape)
        for key, value in network.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 2)
        made[norm] = PointEncoder(network, None, GRID_HW, SIDE, N_CENTRES)
    made["surface"] = SurfaceEncoder(48, GRID_HW, SIDE, 16)
    made["surface, between cells"] = SurfaceEncoder(48, GRID_HW, 9, 16)
    return made


@pytest.mark.parametrize("name", ["running", "frame", "surface", "surface, between cells"])
def test_the_exported_graph_says_what_torch_says_and_keeps_the_contract(
    tmp_path: Path, name: str
) -> None:
    encoder = encoders()[name].eval()
    detector = Watched(encoder)
    names = encoder.tensors
    tensors: Tensors = {n: made_tensors()[n] for n in names}
    inputs, outputs = export_onnx(detector, tensors, tmp_path / "graph.onnx")  # lints
    assert {spec.name for spec in inputs} == set(names)
    assert outputs[0].shape[2:] == encoder.patches_hw
    assert {n.op_type for n in onnx.load(tmp_path / "graph.onnx").graph.node} <= ALLOWED_OPS
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx")
    for seed in (0, 1):
        frame: Tensors = {n: made_tensors(seed)[n] for n in names}
        anomaly_map, score = session.run(None, frame)
        with torch.no_grad():
            expected = detector(*as_arguments(encoder, frame))
        np.testing.assert_allclose(anomaly_map, expected[0].numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(score, expected[1].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["running", "frame", "surface", "surface, between cells"])
def test_a_half_precision_copy_takes_the_same_tensors_and_says_the_same(name: str) -> None:
    encoder = encoders()[name].eval().requires_grad_(requires_grad=False)
    encoder.mean.fill_(7.123456)  # FP16 would hold 7.125
    arguments = as_arguments(encoder, made_tensors())
    described, half = encoder(*arguments), copy.deepcopy(encoder).half()
    in_float32 = {n for n, p in half.named_parameters() if p.dtype == torch.float32}
    positions = {n for n, _ in half.named_parameters() if "pos_embed" in n}
    assert in_float32 == positions  # which see metres
    assert torch.equal(half.mean, encoder.mean)
    found = half(*arguments)
    assert found.dtype == torch.float32
    assert (found - described).abs().max() < 0.01 * float(described.std())


@pytest.mark.parametrize("name", ["running", "surface"])
def test_a_map_has_the_promised_shape_and_nothing_at_holes(name: str) -> None:
    encoder = encoders()[name].eval()
    tensors = made_tensors()
    with torch.no_grad():
        said = encoder(*as_arguments(encoder, tensors))
    assert said.shape == (1, encoder.channels, SIDE, SIDE)
    assert said.dtype == torch.float32
    assert said.isfinite().all()
    assert (said[0, :, 5, 4] == 0).all()  # in the middle of the hole
    assert (said[0, :, 0] == 0).all()  # above the part
    assert (said[0, :, 8, 8] != 0).any()


def test_without_a_single_point_everything_is_zero_and_nothing_is_nan() -> None:
    nothing = {name: np.zeros_like(array) for name, array in made_tensors().items()}
    for encoder in encoders().values():
        with torch.no_grad():
            said = encoder.eval()(*as_arguments(encoder, nothing))
        assert (said == 0).all()


def test_several_frames_at_once_are_each_described_alone() -> None:
    one, other = made_tensors(0), made_tensors(1)
    for encoder in encoders().values():
        encoder.eval()
        both = [torch.cat(p) for p in zip(as_arguments(encoder, one), as_arguments(encoder, other),
                                          strict=True)]  # fmt: skip
        with torch.no_grad():
            said = encoder(*both)
            for row, frame in enumerate((one, other)):
                alone = encoder(*as_arguments(encoder, frame))[0]
                torch.testing.assert_close(said[row], alone, rtol=1e-4, atol=1e-5)


def test_groups_that_hardly_differ_keep_their_differences_in_half_precision() -> None:
    """Points a hundredth of what the biases are; about the centre, FP16 has digits for them."""
    encoder = encoders()["running"]
    assert isinstance(encoder, PointEncoder)
    for conv in encoder.network.plain.encoder.modules():
        if isinstance(conv, nn.Conv1d) and conv.bias is not None:
            conv.bias.data.uniform_(1, 3)
    groups = FrozenGroupNet(encoder.network.plain.encoder.eval(), "running")
    points = 0.01 * torch.randn(1, 30, 8, 3)
    with torch.no_grad():
        expected, found = groups(points), copy.deepcopy(groups).half()(points)
        plain = encoder.network.plain.encoder(points)
    torch.testing.assert_close(expected, plain, rtol=1e-5, atol=1e-5)
    varies = (expected - expected.mean(1, keepdim=True)).abs().max()
    assert varies < 0.05 * expected.abs().max()
    assert (found - expected).abs().max() < 2e-3 * varies
