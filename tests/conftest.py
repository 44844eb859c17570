"""Fixtures that more than one department's tests use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import hypothesis
import numpy as np
import onnx
import onnxruntime
import pytest

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.recorder import Recorder, Rig
from loupe_edge.station import Station
from loupe_edge.verdict import Verdict
from loupe_models.bundle import Bundle, write_bundle
from loupe_models.frame import CameraTime, Frame, Label, Rect, Sync
from loupe_models.gate import ByColour, GateSpec
from loupe_models.manifest import Golden, Manifest, ModeManifest, TensorSpec, Variant
from loupe_models.preprocess import Cloud, Crop, PreprocessSpec, Resize, preprocess
from loupe_models.threshold import choose_threshold, thin

# An example's time says more about who else uses the machine than about the code.
hypothesis.settings.register_profile("loupe", deadline=None)
hypothesis.settings.load_profile("loupe")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run from."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs and RGB-D frames, which is never part of the repository."""
    told = os.environ.get("LOUPE_DATA")
    folder = Path(told) if told else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set LOUPE_DATA to the folder that holds it")
    return folder


# --- A complete small bundle, for whoever needs a real one in a second ---------------------------
# A part fills the middle of the frame; its graph looks for spots that differ from their
# surroundings, in colour, in depth, or in both. Nothing is learnt.

TINY_WH = (96, 80)
TINY_REGION = Rect(16, 12, 64, 56)
TINY_MAP = 64
TINY_DEPTH_SCALE_M = 0.0001
TINY_INTRINSICS = Intrinsics(96, 80, 100.0, 100.0, 47.5, 39.5)
TINY_BELT = belt_from_camera((0.0, 0.0, -1.0), (0.0, 0.0, 0.52))
TINY_INPUTS = {
    "rgb": TensorSpec(name="rgb", dtype="uint8", shape=(1, TINY_MAP, TINY_MAP, 3)),
    "xyz": TensorSpec(name="xyz", dtype="float32", shape=(1, TINY_MAP, TINY_MAP, 3)),
    "valid": TensorSpec(name="valid", dtype="uint8", shape=(1, TINY_MAP, TINY_MAP)),
}
TINY_OUTPUTS = (
    TensorSpec(name="anomaly_map", dtype="float32", shape=(1, 1, TINY_MAP, TINY_MAP)),
    TensorSpec(name="image_score", dtype="float32", shape=(1,)),
)
TINY_TENSORS = {"rgb": ("rgb",), "depth": ("xyz", "valid"), "rgbd": ("rgb", "xyz", "valid")}


def tiny_frame(
    kind: str = "good",
    seed: int = 0,
    streams: tuple[str, ...] = ("rgb",),
    frame_id: int = 0,
    part_id: str | None = None,
) -> Frame:
    """A frame that the tiny bundle can judge: `good`, `defect` (bright and dented) or `empty`."""
    rng = np.random.default_rng(seed)
    width, height = TINY_WH
    rgb = np.full((height, width, 3), 20, np.uint8)
    depth = np.full((height, width), 5200, np.uint16)
    if kind != "empty":
        part = (slice(4, height - 4), slice(8, width - 8))
        shade = np.linspace(110, 140, width - 16)[None, :, None]
        rgb[part] = (shade + rng.normal(0, 3, (height - 8, width - 16, 3))).clip(0, 255)
        depth[part] = (5000 + rng.normal(0, 2, (height - 8, width - 16))).round()
    if kind == "defect":
        x, y = (int(v) for v in rng.integers((24, 20), (60, 50)))
        rgb[y : y + 7, x : x + 7] = 235
        depth[y : y + 7, x : x + 7] = 5050
    both = {"rgb", "depth"} <= set(streams)
    return Frame(
        frame_id=frame_id,
        captured_at_ns=time.time_ns(),
        camera_time=CameraTime(ns=frame_id * 33_333_333, domain="hardware"),
        rgb=rgb if "rgb" in streams else None,
        depth=depth if "depth" in streams else None,
        depth_scale_m=TINY_DEPTH_SCALE_M if "depth" in streams else None,
        intrinsics=TINY_INTRINSICS,
        sync=Sync(delta_us=120, domain="hardware") if both else None,
        label=None if part_id is None else Label(part_id=part_id),
    )


def tiny_graph(mode: str, poison: float = 0.0) -> onnx.ModelProto:
    """The mode's graph: distance of each pixel from the mean of its 15 x 15 neighbourhood.

    `poison` times zero is added to the score: NaN or infinity make the score NaN.
    """
    make = onnx.helper.make_node
    nodes, terms = [], []

    def constant(name: str, value: list[float] | list[int], dtype: int) -> None:
        tensor = onnx.helper.make_tensor(name, dtype, [len(value)] if value else [], value)
        nodes.append(make("Constant", [], [name], value=tensor))

    def distance_from_surroundings(name: str, plane: str, scale: float) -> None:
        window: dict[str, Any] = {"kernel_shape": [15, 15], "pads": [7, 7, 7, 7]}
        constant(f"{name}_scale", [scale], onnx.TensorProto.FLOAT)
        nodes.extend([
            make("AveragePool", [plane], [f"{name}_mean"], **window),
            make("Sub", [plane, f"{name}_mean"], [f"{name}_difference"]),
            make("Abs", [f"{name}_difference"], [f"{name}_distance"]),
            make("Mul", [f"{name}_distance", f"{name}_scale"], [f"{name}_term"]),
        ])  # fmt: skip
        terms.append(f"{name}_term")

    if "rgb" in TINY_TENSORS[mode]:
        nodes.append(make("Cast", ["rgb"], ["rgb_float"], to=onnx.TensorProto.FLOAT))
        nodes.append(make("Transpose", ["rgb_float"], ["rgb_planes"], perm=[0, 3, 1, 2]))
        nodes.append(make("ReduceMean", ["rgb_planes"], ["grey"], axes=[1], keepdims=1))
        distance_from_surroundings("colour", "grey", 0.1)
    if "xyz" in TINY_TENSORS[mode]:
        constant("z_index", [2], onnx.TensorProto.INT64)
        constant("plane_axis", [1], onnx.TensorProto.INT64)
        nodes.append(make("Transpose", ["xyz"], ["xyz_planes"], perm=[0, 3, 1, 2]))
        nodes.append(make("Gather", ["xyz_planes", "z_index"], ["height"], axis=1))
        distance_from_surroundings("relief", "height", 1000.0)
        nodes.append(make("Cast", ["valid"], ["valid_float"], to=onnx.TensorProto.FLOAT))
        nodes.append(make("Unsqueeze", ["valid_float", "plane_axis"], ["valid_plane"]))
        nodes.append(make("Mul", [terms.pop(), "valid_plane"], ["known_relief"]))
        terms.append("known_relief")
    constant("one_score", [1], onnx.TensorProto.INT64)
    constant("poison", [poison], onnx.TensorProto.FLOAT)
    constant("zero", [0.0], onnx.TensorProto.FLOAT)
    nodes.extend([
        make("Sum", terms, ["anomaly_map"]),
        make("ReduceMax", ["anomaly_map"], ["highest"], keepdims=0),
        make("Reshape", ["highest", "one_score"], ["score"]),
        make("Mul", ["poison", "zero"], ["nothing"]),
        make("Add", ["score", "nothing"], ["image_score"]),
    ])  # fmt: skip
    return _tiny_model(mode, nodes)


def _tiny_model(mode: str, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    types = {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(s.name, types[s.dtype], s.shape) for s in specs]
        for specs in ([TINY_INPUTS[name] for name in TINY_TENSORS[mode]], TINY_OUTPUTS)
    )
    graph = onnx.helper.make_graph(nodes, f"tiny_{mode}", inputs, outputs)
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def tiny_preprocess(mode: str) -> PreprocessSpec:
    """The tiny bundle's preprocessing of one mode."""
    cloud: tuple[Cloud, ...] = (Cloud(),) if "xyz" in TINY_TENSORS[mode] else ()
    return PreprocessSpec.model_validate({
        "steps": (Crop(), Resize(width_px=TINY_MAP, height_px=TINY_MAP), *cloud),
        "tensors": TINY_TENSORS[mode],
    })  # fmt: skip


def tiny_streams(mode: str) -> tuple[str, ...]:
    """The streams that the tiny bundle's gate and graph need."""
    return ("rgb",) if mode == "rgb" else ("rgb", "depth") if mode == "rgbd" else ("depth",)


def tiny_scores(mode: str, graph: Path, frames: list[Frame]) -> list[float]:
    """What the graph says of frames, without the code under test."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    scores = []
    for frame in frames:
        prepared = preprocess(frame, TINY_REGION, tiny_preprocess(mode), TINY_BELT)
        scores.append(float(session.run(["image_score"], dict(prepared.tensors))[0][0]))
    return scores


def tiny_golden(mode: str, folder: Path, kind: str, seed: int) -> Golden:
    """Write one golden frame's pictures, and say what the graph answers."""
    frame = tiny_frame(kind, seed, tiny_streams(mode))
    (folder / "golden").mkdir(exist_ok=True)
    names: dict[str, str] = {}
    pictures = {"rgb": None if frame.rgb is None else frame.rgb[..., ::-1], "depth": frame.depth}
    for stream, picture in pictures.items():
        if picture is not None:
            names[stream] = f"golden/{mode}_{kind}_{stream}.png"
            cv2.imwrite(str(folder / names[stream]), picture)
    return Golden.model_validate({
        **names,
        "depth_scale_m": frame.depth_scale_m,
        "intrinsics": frame.intrinsics,
        "belt_from_camera": TINY_BELT,
        "rect_px": TINY_REGION,
        "image_score": tiny_scores(mode, folder / f"{mode}.fp32.onnx", [frame])[0],
        "decision": kind,
    })  # fmt: skip


def tiny_mode(mode: str, folder: Path) -> ModeManifest:
    """Write one mode's files, calibrate it, and say what is in it."""
    graph = folder / f"{mode}.fp32.onnx"
    onnx.save(tiny_graph(mode), graph)
    frames = [tiny_frame("good", 1000 + i, tiny_streams(mode)) for i in range(40)]
    scores = tiny_scores(mode, graph, frames)
    colour = ByColour(belt_rgb=(20, 20, 20))
    return ModeManifest(
        gate=GateSpec(region_px=TINY_REGION, occupied=None if mode == "depth" else colour),
        preprocess=tiny_preprocess(mode),
        inputs=tuple(TINY_INPUTS[name] for name in TINY_TENSORS[mode]),
        outputs=TINY_OUTPUTS,
        threshold=choose_threshold(scores, 0.1),
        calibration_scores=tuple(thin(scores)),
        variants={"fp32": Variant(file=graph.name, precision="fp32", tolerance=1e-3)},
        golden=(tiny_golden(mode, folder, "good", 7), tiny_golden(mode, folder, "defect", 8)),
    )


def write_tiny_bundle(path: Path) -> Bundle:
    """Write the tiny bundle, serving all three modes."""
    modes: dict[str, ModeManifest] = {}

    def fill(folder: Path) -> None:
        modes.update({mode: tiny_mode(mode, folder) for mode in TINY_TENSORS})

    def manifest(files: Mapping[str, str]) -> Manifest:
        provenance = {
            "created_at": "2026-01-01T00:00:00Z",
            "code_version": "0",
            "data_sha256": "0" * 64,
            "config": {},
            "seed": 0,
        }
        return Manifest.model_validate({
            "id": "tiny",
            "method": "none",
            "modes": modes,
            "files": dict(files),
            "provenance": provenance,
        })  # fmt: skip

    return write_bundle(path, fill, manifest)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real bundle without learning, for all three modes; do not alter its files."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., Frame]:
    """`make_frame(kind, seed, streams, frame_id, part_id)`: see `tiny_frame`."""
    return tiny_frame


@pytest.fixture(scope="session")
def make_graph() -> Callable[..., onnx.ModelProto]:
    """`make_graph(mode, poison)`: see `tiny_graph`."""
    return tiny_graph


@pytest.fixture(scope="session")
def tiny_belt() -> Transform:
    """The belt under the tiny bundle's parts."""
    return TINY_BELT


@pytest.fixture
def make_station(tiny_bundle: Bundle, tmp_path: Path) -> Callable[..., Station]:
    """`make_station(mode, **sections)`: a station on the tiny bundle, its files in `tmp_path`.

    Its camera is named but absent: tests give their own, or set the section.
    """

    def make(mode: str = "rgb", **sections: object) -> Station:
        belt = {"normal": (0.0, 0.0, -1.0), "point_m": (0.0, 0.0, 0.52)}
        settings: dict[str, object] = {
            "station": "line-1",
            "bundle": tiny_bundle.path,
            "mode": mode,
            "camera": {"recording": tmp_path / "absent.db3", "streams": tiny_streams(mode)},
            "belt": None if mode == "rgb" else belt,
            "publish": {"endpoint": f"ipc://{tmp_path}/verdicts"},
        }
        return Station.model_validate(settings | sections)

    return make


@pytest.fixture
def make_verdict(tiny_bundle: Bundle) -> Callable[..., Verdict]:
    """`make_verdict(**fields)`: a verdict as the wire carries it, with some fields of one's own."""

    def make(**fields: object) -> Verdict:
        usual: dict[str, object] = {
            "station": "line-1",
            "epoch": 1,
            "seq": 0,
            "part_id": None,
            "frame_id": 0,
            "captured_at_ns": 1_000_000_000,
            "published_at_ns": 1_010_000_000,
            "expires_at_ns": 2_000_000_000,
            "camera_time": {"ns": 5, "domain": "hardware"},
            "decision": "good",
            "reason": "",
            "score": 0.1,
            "threshold": 1.0,
            "p_value": 0.4,
            "mode": "rgb",
            "regions": (),
            "sync": None,
            "depth_valid_fraction": None,
            "stage_us": {"gate": 10, "infer": 900},
            "dropped_frames": 0,
            "bundle": {"id": tiny_bundle.manifest.id, "sha256": tiny_bundle.sha256},
            "calibration_id": None,
        }
        own: dict[str, dict[str, object]] = {
            "defect": {"score": 2.0},
            "unknown": {"reason": "no score", "score": None},
        }
        return Verdict.model_validate(usual | own.get(str(fields.get("decision")), {}) | fields)

    return make


G, D, E = "good", "defect", "empty"
TINY_PARTS = (G, G, D, E, G, D, G, E, D, G)


@pytest.fixture(scope="session")
def tiny_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of the tiny bundle's parts, colour and depth, made by the SDK's recorder."""
    pytest.importorskip("pyrealsense2", reason="needs loupe[camera]")
    path = tmp_path_factory.mktemp("recording") / "tiny.db3"
    rig = Rig(rgb=TINY_INTRINSICS, depth=TINY_INTRINSICS, depth_scale_m=TINY_DEPTH_SCALE_M)
    with Recorder(path, rig) as recorder:
        for i, kind in enumerate(TINY_PARTS):
            frame = tiny_frame(kind, 50 + i, ("rgb", "depth"))
            truth: Literal["good", "defect"] = "defect" if kind == "defect" else "good"
            recorder.write(frame.rgb, frame.depth, Label(part_id=f"part-{i}", kind=truth))
    return path


@pytest.fixture(scope="session")
def make_exposure() -> Callable[..., tuple[Any, Any]]:
    """`make_exposure(n, size_wh)`: colour and depth that no other `n` shares, with holes."""

    def make(n: int, size_wh: tuple[int, int] = (64, 48)) -> tuple[Any, Any]:
        rng = np.random.default_rng(n)
        rgb = rng.integers(0, 256, (*size_wh[::-1], 3), dtype=np.uint8)
        depth = rng.integers(400, 600, size_wh[::-1]).astype(np.uint16)
        return rgb, depth * (rng.random(depth.shape) > 0.2)

    return make


@pytest.fixture
def make_recording(tmp_path: Path, make_exposure: Callable[..., Any]) -> Callable[..., Path]:
    """`make_recording(told, rig, label)`: a letter an exposure, `b`oth, `c`olour, `d`epth, `-`."""
    lens = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)

    def make(told: str, rig: Rig | None = None, label: Callable[[int], Any] | None = None) -> Path:
        with Recorder(tmp_path / "line.db3", rig or Rig(lens, lens)) as recorder:
            for n, letter in enumerate(told, 1):
                rgb, depth = make_exposure(n)
                rgb, depth = rgb if letter in "bc" else None, depth if letter in "bd" else None
                recorder.write(rgb, depth, label(n) if label else None)
        return tmp_path / "line.db3"

    return make


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden answers are rewritten on request only; say why in the commit."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden verdicts")
