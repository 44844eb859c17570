"""Every method's FP16 graph: which nodes are float32, which are not, and that both graphs match."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from loupe_models.graph_lint import FLOAT32_OPS
from loupe_models.groups import group_points
from loupe_models.points import grid_points, sample_farthest
from loupe_models.preprocess import Tensors
from loupe_trainer.encoders.pdn_encoder import PdnEncoder
from loupe_trainer.encoders.point_encoder import PointEncoder
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import TINY
from loupe_trainer.encoders.relief import ReliefEncoder
from loupe_trainer.encoders.surface_encoder import SurfaceEncoder
from loupe_trainer.encoders.vit import Vit, initialise
from loupe_trainer.encoders.vit_spec import VitSpec
from loupe_trainer.export import Specs, export_onnx
from loupe_trainer.half import copies_of
from loupe_trainer.half_proof import stress_inputs
from loupe_trainer.half_range import MagnitudeProbe, match_tensors
from loupe_trainer.methods.base import Detector
from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.detector import (
    CmdiadDetector,
    DepthDetector,
    RgbdDetector,
    RgbDetector,
)
from loupe_trainer.methods.cmdiad.hallucination import (
    FeatureToFeature,
    FeatureToInput,
    FromFeatures,
    FromInput,
    Hallucination,
    InputToFeature,
    ThroughColour,
)
from loupe_trainer.methods.cmdiad.judge import Judge
from loupe_trainer.methods.efficientad.area import InspectedArea
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.methods.efficientad.front import Level, Mirror
from loupe_trainer.methods.efficientad.tiling import Tiling
from loupe_trainer.parity import run_torch
from loupe_trainer.scorer import Scorer
from loupe_trainer.teachers.normalise import ImageNetNormalise
from loupe_trainer.teachers.pdn import PdnShape, student_network, teacher_network
from loupe_trainer.teachers.pdn import initialise as initialise_pdn
from loupe_trainer.teachers.weights import Origin, Teacher

SIDE, N_CENTRES, GROUP = 32, 24, 8
WIDTH = 16
HALF, FULL = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
PRODUCTS = ("Conv", "MatMul", "Gemm")
GROUPED = ("groups", "centres", "nn_index", "nn_weight")


def frame() -> Tensors:
    """A bumpy part with a hole, all that preprocessing makes of it."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:SIDE, :SIDE]
    z_m = 0.02 + 0.002 * np.sin(u / 3) * np.cos(v / 4) + rng.normal(0, 1e-4, (SIDE, SIDE))
    xyz = np.stack((u * 1e-3, v * 1e-3, z_m), -1).astype(np.float32)
    valid = ((v > 4) & (np.hypot(u - 14, v - 14) > 4)).astype(np.uint8)
    xyz[valid == 0] = 0
    sampled = sample_farthest(grid_points(xyz, valid), N_CENTRES)
    made = {**group_points(xyz, valid, sampled, GROUP), "xyz": xyz, "valid": valid}
    rgb = rng.integers(60, 180, (SIDE, SIDE, 3), dtype=np.uint8)
    return {"rgb": rgb[None], **{name: array[None] for name, array in made.items()}}


def efficientad(*, is_large: bool) -> Detector:
    shape = PdnShape("S", 0.07)
    tiling = Tiling((160, 192), 128) if is_large else None
    networks = teacher_network(shape), student_network(shape), Autoencoder(shape, (128, 128))
    area = InspectedArea((128, 160), top_share=0.02, border=0) if is_large else None
    detector = EfficientAdDetector(*networks, area=area, tiling=tiling)
    if is_large:
        detector.front = nn.Sequential(Level(), Mirror((128, 160)))
    return detector


def vit() -> Vit:
    spec = VitSpec(
        channels=WIDTH, depth=2, n_heads=2, hidden=24, patch_px=8, input_hw_px=(SIDE, SIDE)
    )
    return initialise(Vit(spec), seed=1)


def points() -> PointEncoder:
    shape = TINY.model_copy(update={"depth": 2, "taps": (0, 1), "width": WIDTH // 2, "n_heads": 2})
    return PointEncoder(PointMae(shape), None, (SIDE, SIDE), 4, N_CENTRES)


def judge(*channels: int) -> Judge:
    """A bank for each kind of token, of so many channels."""
    generator = torch.Generator().manual_seed(3)
    return Judge([MemoryBank(torch.randn(40, n, generator=generator)) for n in channels], SIDE)


def plain() -> Detector:
    """What a station without published weights has."""
    network = initialise_pdn(teacher_network(PdnShape("S", 0.07)))
    teacher = Teacher(network, Origin(name="none", licence="none", corpus="none"), "0" * 64)
    colour, relief = PdnEncoder(teacher, (SIDE, SIDE)), ReliefEncoder(10.0, (SIDE, SIDE), SIDE // 4)
    return RgbdDetector(colour, relief, judge(colour.channels, relief.channels))


def hallucination(kind: str, picture: nn.Module | None) -> Hallucination:
    if kind == "f2f":
        return FromFeatures(FeatureToFeature(WIDTH, WIDTH))
    if kind == "i2f":
        return FromInput(InputToFeature(WIDTH), picture)
    return ThroughColour(FeatureToInput(WIDTH, SIDE), vit())


def cmdiad(name: str) -> tuple[Detector, tuple[str, ...]]:
    mode, _, kind = name.partition(" ")
    if kind == "plain":
        return plain(), ("rgb", "xyz", "valid")
    if mode == "rgbd":
        return RgbdDetector(vit(), points(), judge(WIDTH, WIDTH)), ("rgb", *GROUPED)
    if mode == "rgb":
        imagined = None if kind == "none" else hallucination(kind, ImageNetNormalise())
        return RgbDetector(vit(), imagined, judge(*[WIDTH] * (1 + (kind != "none")))), ("rgb",)
    if kind == "surface":
        takes: tuple[str, ...] = ("xyz", "valid")
        return DepthDetector(
            SurfaceEncoder(WIDTH, (SIDE, SIDE), 4), None, judge(WIDTH), takes
        ), takes
    takes = (*GROUPED, "xyz") if kind == "i2f" else GROUPED
    return DepthDetector(points(), hallucination(kind, None), judge(WIDTH, WIDTH), takes), takes


# The products that stay in float32, by what their ONNX names hold: the Gaussian of each bank's map,
# what sees metres, shares of centres in cells, coverage of cells, tiles put together, and the first
# layer of a patch description network.
FULL_PRODUCTS: Mapping[str, Mapping[str, int]] = {
    "efficientad": {"stem.0": 2},
    "efficientad, tiled": {"stem.0": 2, "stitched": 4},  # of these, two a map, constant weights
    "rgb none": {"distance_map": 2},
    "rgb f2f": {"distance_map": 4},
    "rgb i2f": {"distance_map": 4, "hallucination/network/first": 1},
    "depth f2f": {"distance_map": 4, "groups": 1, "pos_embed": 2, "spread": 2},
    "depth i2f": {"distance_map": 4, "groups": 1, "pos_embed": 2, "spread": 2,
                  "hallucination/network/first": 1},
    "depth f2i": {"distance_map": 4, "groups": 1, "pos_embed": 2, "spread": 2},
    "depth surface": {"distance_map": 2, "encoder": 4},
    "rgbd plain": {"distance_map": 4, "depth_encoder": 24, "stem.0": 1},
    "rgbd": {"distance_map": 4, "groups": 1, "pos_embed": 2, "spread": 2},
}  # fmt: skip
NAMES = sorted(FULL_PRODUCTS)


@dataclass(frozen=True)
class Pair:
    """A detector's two graphs."""

    detector: Detector
    tensors: Tensors
    files: tuple[Path, Path]
    specs: tuple[Specs, Specs]

    def typed(self) -> tuple[onnx.GraphProto, dict[str, int]]:
        """Give the FP16 graph and the type of each of its tensors."""
        model = onnx.load(self.files[1])
        onnx.checker.check_model(model, full_check=True)
        graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
        values = (*graph.value_info, *graph.input, *graph.output)
        kinds = {value.name: value.type.tensor_type.elem_type for value in values}
        return graph, kinds | {tensor.name: tensor.data_type for tensor in graph.initializer}


def islands(name: str) -> set[str]:
    """Which of the operations that stay in float32 a graph has."""
    if name.startswith("efficientad"):
        return {"ReduceMean"}
    has_transformer = name not in ("depth surface", "rgbd plain")
    return {"Sqrt", "Softmax"} if has_transformer else {"Sqrt"}


@cache
def pair(name: str) -> Pair:
    torch.manual_seed(4)
    whole = frame()
    if name.startswith("efficientad"):
        size_hw = (128, 160) if "tiled" in name else (128, 128)
        detector: Detector = efficientad(is_large="tiled" in name)
        rgb = np.random.default_rng(1).integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
        tensors: Tensors = {"rgb": rgb}
    else:
        detector, takes = cmdiad(name)
        tensors = {n: whole[n] for n in takes}
    folder = Path(mkdtemp())
    files = folder / "m.fp32.onnx", folder / "m.fp16.onnx"
    specs = export_onnx(detector, tensors, files[0])  # lints, and infers every shape
    assert export_onnx(copies_of(detector).half, tensors, files[1]) == specs
    return Pair(detector, tensors, files, specs)


@pytest.mark.parametrize("name", NAMES)
def test_products_are_fp16_but_for_those_that_are_named(name: str) -> None:
    graph, kinds = pair(name).typed()
    found: dict[str, int] = defaultdict(int)
    n_half = 0
    for node in graph.node:
        if node.op_type not in PRODUCTS:
            continue
        if kinds[node.input[0]] == HALF:
            n_half += 1
            assert kinds[node.output[0]] == HALF, node.name
            continue
        assert kinds[node.input[0]] == FULL, node.name
        where = next((part for part in FULL_PRODUCTS[name] if part in node.name), "stitched")
        found[where] += 1
    assert found == FULL_PRODUCTS[name]
    assert n_half >= 5


@pytest.mark.parametrize("name", NAMES)
def test_islands_are_float32_and_so_are_inputs_and_outputs(name: str) -> None:
    graph, kinds = pair(name).typed()
    seen = {node.op_type for node in graph.node}
    for node in graph.node:
        if node.op_type in FLOAT32_OPS:
            assert kinds[node.input[0]] == FULL, node.name
    assert islands(name) <= seen
    assert {kinds[value.name] for value in graph.output} == {FULL}
    assert HALF not in {kinds[value.name] for value in graph.input}
    # what takes pictures to zero mean: the first subtraction and division behind the cast
    for node in graph.node:
        if "normalise" in node.name and node.op_type in ("Sub", "Div"):
            assert kinds[node.output[0]] == FULL, node.name


@pytest.mark.parametrize("name", NAMES)
def test_both_graphs_match_and_nothing_is_too_large(name: str) -> None:
    one = pair(name)
    matched = match_tensors(*(onnx.load(file) for file in one.files))
    assert len(matched) >= 10
    assert len(set(matched.values())) == len(matched)
    with MagnitudeProbe(*one.files, *one.specs) as probe:
        told = probe.largest(one.tensors)
        assert list(told) == list(matched)
        assert max(told.values()) > 0
        for what, tensors in stress_inputs(one.tensors):
            for tensor, largest in probe.largest(tensors).items():
                assert largest <= 16_000, (what, tensor)
    with Scorer(one.files[1], *one.specs) as scorer:
        found = scorer.answer(one.tensors)
    _, expected = run_torch(one.detector, one.tensors)
    spread = float(np.abs(expected).max())
    assert float(np.abs(found.anomaly_map - expected[0, 0]).max()) < 0.02 * spread


@pytest.mark.parametrize("name", [name for name in NAMES if "tiled" not in name])
def test_amplified_features_are_a_hundred_times_as_large(name: str) -> None:
    one = pair(name)
    tensors = [torch.from_numpy(np.array(array)) for array in one.tensors.values()]
    louder = copy.deepcopy(one.detector).eval()
    louder.amplify(100)

    def features(detector: Detector) -> torch.Tensor:
        with torch.no_grad():
            if isinstance(detector, EfficientAdDetector):
                return detector.raw_maps(*tensors)[0].sqrt()  # a distance between features
            assert isinstance(detector, CmdiadDetector)
            return detector.kinds(*tensors)[0]

    torch.testing.assert_close(features(louder), 100 * features(one.detector), rtol=1e-3, atol=1e-4)
