"""A bundle that has learnt nothing but runs for real, and frames for it: 640 x 480 RGB-D.

Its graph is the distance of each pixel from the mean of its surroundings, in colour or in height.
What is measured with it is everything around `infer`; its scores mean nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.realsense import SdkObject, load_sdk
from loupe_edge.recorder import Recorder, Rig
from loupe_models.bundle import Bundle, write_bundle
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.gate import ByColour, ByHeight, GateSpec
from loupe_models.manifest import Golden, Manifest, ModeManifest, TensorSpec, Variant
from loupe_models.preprocess import Cloud, Crop, PreprocessSpec, RemoveBelt, Resize, preprocess
from loupe_models.threshold import choose_threshold

MAP_PX: Final = 256
REGION: Final = Rect(140, 60, 360, 360)
SPECK_EVERY: Final = 10
BELT_DEPTH, PART_DEPTH, DEPTH_SCALE_M = 6000, 5800, 0.0001
RGB: Final = Intrinsics(640, 480, 610.0, 610.0, 319.5, 239.5)
DEPTH: Final = Intrinsics(640, 480, 480.0, 480.0, 321.0, 238.0)
RGB_FROM_DEPTH: Final = Transform(
    rotation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    translation_m=(-0.015, 0.0, 0.0),
)
BELT: Final = belt_from_camera((0.0, 0.0, -1.0), (0.0, 0.0, BELT_DEPTH * DEPTH_SCALE_M))
OUTPUTS: Final = (
    TensorSpec(name="anomaly_map", dtype="float32", shape=(1, 1, MAP_PX, MAP_PX)),
    TensorSpec(name="image_score", dtype="float32", shape=(1,)),
)
INPUTS: Final = {
    "rgb": (TensorSpec(name="rgb", dtype="uint8", shape=(1, MAP_PX, MAP_PX, 3)),),
    "depth": (
        TensorSpec(name="xyz", dtype="float32", shape=(1, MAP_PX, MAP_PX, 3)),
        TensorSpec(name="valid", dtype="uint8", shape=(1, MAP_PX, MAP_PX)),
    ),
}


def record(path: Path, n_frames: int) -> None:
    """Write a recording: a part with noise and holes, and a speck on every tenth of them."""
    rng = np.random.default_rng(0)
    noises = [rng.normal(0, 2.5, (480, 640)).astype(np.float32) for _ in range(8)]
    rig = Rig(rgb=RGB, depth=DEPTH, depth_scale_m=DEPTH_SCALE_M, rgb_from_depth=RGB_FROM_DEPTH)
    with Recorder(path, rig) as recorder:
        for n in range(n_frames):
            recorder.write(*_exposure(n, noises[n % 8]))


@contextmanager
def exposure() -> Iterator[SdkObject]:
    """Give one set of images as the SDK hands it out."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "frames.db3"
        record(recording, 5)
        sdk = load_sdk()
        pipeline, config = sdk.pipeline(), sdk.config()
        config.enable_device_from_file(str(recording), repeat_playback=False)
        pipeline.start(config)
        try:
            yield pipeline.wait_for_frames(5000)
        finally:
            pipeline.stop()


def _exposure(
    n: int, noise: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    grey = np.full((480, 640), 30, np.float32)
    depth = np.full((480, 640), BELT_DEPTH, np.float32)
    grey[30:450, 100:540], depth[30:450, 100:540] = 140, PART_DEPTH
    if n % SPECK_EVERY == 0:
        x, y = 180 + 37 * n % 260, 100 + 23 * n % 260
        grey[y : y + 9, x : x + 9], depth[y : y + 9, x : x + 9] = 240, PART_DEPTH - 60
    rgb = np.repeat((grey + noise).clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    depth = depth + 2 * noise
    depth[noise > 6] = 0
    return rgb, depth.astype(np.uint16)


def write(path: Path, graphs: Mapping[str, onnx.ModelProto] | None = None) -> Bundle:
    """Write the bundle: mode `rgb`, and `depth` as a plain cloud with the belt removed.

    Args:
        path: Where it will be.
        graphs: Others to take instead, by mode; only these modes are written then.
    """
    modes: dict[str, ModeManifest] = {}
    taken = graphs or {mode: _graph(mode) for mode in INPUTS}
    return write_bundle(path, partial(_fill, modes, taken), partial(_manifest, modes))


def _manifest(modes: Mapping[str, ModeManifest], files: Mapping[str, str]) -> Manifest:
    provenance = {
        "created_at": "1970-01-01T00:00:00Z",
        "code_version": "0",
        "data_sha256": "0" * 64,
        "config": {},
        "seed": 0,
    }
    document = {"id": "stand-in", "method": "none", "modes": modes, "files": dict(files)}
    return Manifest.model_validate({**document, "provenance": provenance})


def _fill(
    modes: dict[str, ModeManifest], graphs: Mapping[str, onnx.ModelProto], folder: Path
) -> None:
    rgb, depth = _exposure(0, np.zeros((480, 640), np.float32))
    for mode, graph in graphs.items():
        onnx.save(graph, folder / f"{mode}.fp32.onnx")
        modes[mode] = _mode(mode, folder, rgb if mode == "rgb" else depth)


def _mode(mode: str, folder: Path, picture: npt.NDArray[np.unsignedinteger]) -> ModeManifest:
    is_rgb = mode == "rgb"
    scores = np.linspace(0.1, 0.4, 60)
    return ModeManifest(
        gate=GateSpec(
            region_px=REGION, occupied=ByColour(belt_rgb=(30, 30, 30)) if is_rgb else ByHeight()
        ),
        preprocess=_preprocess(mode),
        inputs=INPUTS[mode],
        outputs=OUTPUTS,
        threshold=choose_threshold(scores, 0.1),
        calibration_scores=tuple(float(s) for s in scores),
        variants={"fp32": Variant(file=f"{mode}.fp32.onnx", precision="fp32", tolerance=1e-3)},
        golden=(_golden(mode, folder, picture),),
    )


def _golden(mode: str, folder: Path, picture: npt.NDArray[np.unsignedinteger]) -> Golden:
    name = f"{mode}.png"
    is_rgb = mode == "rgb"
    cv2.imwrite(str(folder / name), picture[..., ::-1] if is_rgb else picture)
    asked = {
        "rgb" if is_rgb else "depth": name,
        "depth_scale_m": None if is_rgb else DEPTH_SCALE_M,
        "intrinsics": None if is_rgb else RGB,
        "belt_from_camera": BELT,
        "rect_px": REGION,
        "image_score": 0.0,
        "decision": "defect",
    }
    frame = Frame(
        frame_id=0,
        captured_at_ns=0,
        camera_time=CameraTime(0, "system"),
        rgb=picture.astype(np.uint8) if is_rgb else None,
        depth=None if is_rgb else picture.astype(np.uint16),
        depth_scale_m=None if is_rgb else DEPTH_SCALE_M,
        intrinsics=RGB,
    )
    tensors = preprocess(frame, REGION, _preprocess(mode), BELT).tensors
    session = onnxruntime.InferenceSession(
        str(folder / f"{mode}.fp32.onnx"), providers=["CPUExecutionProvider"]
    )
    score = float(session.run(["image_score"], dict(tensors))[0][0])
    return Golden.model_validate({**asked, "image_score": score})


def _preprocess(mode: str) -> PreprocessSpec:
    square = (Crop(), Resize(width_px=MAP_PX, height_px=MAP_PX))
    if mode == "rgb":
        return PreprocessSpec(steps=square, tensors=("rgb",))
    return PreprocessSpec(steps=(*square, Cloud(), RemoveBelt()), tensors=("xyz", "valid"))


def _graph(mode: str) -> onnx.ModelProto:
    """Build the distance of each pixel from the mean of its 15 x 15 surroundings, and its peak."""
    make = helper.make_node
    is_rgb = mode == "rgb"
    planes = [0, 1, 2] if is_rgb else [2]
    initial = [
        helper.make_tensor("planes", onnx.TensorProto.INT64, [len(planes)], planes),
        helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [1]),
        helper.make_tensor("scale", onnx.TensorProto.FLOAT, [1], [0.01 if is_rgb else 100.0]),
    ]
    nodes = [
        make("Cast", [INPUTS[mode][0].name], ["cast"], to=onnx.TensorProto.FLOAT),
        make("Transpose", ["cast"], ["all_planes"], perm=[0, 3, 1, 2]),
        make("Gather", ["all_planes", "planes"], ["taken"], axis=1),
        make("ReduceMean", ["taken"], ["plane"], axes=[1], keepdims=1),
        make("AveragePool", ["plane"], ["mean"], kernel_shape=[15, 15], pads=[7] * 4),
        make("Sub", ["plane", "mean"], ["difference"]),
        make("Abs", ["difference"], ["distance"]),
        make("Mul", ["distance", "scale"], ["anomaly_map" if is_rgb else "everywhere"]),
    ]
    if not is_rgb:
        nodes += [
            make("Cast", ["valid"], ["known"], to=onnx.TensorProto.FLOAT),
            make("Unsqueeze", ["known", "axis"], ["known_plane"]),
            make("Mul", ["everywhere", "known_plane"], ["anomaly_map"]),
        ]
    nodes += [
        make("ReduceMax", ["anomaly_map"], ["peak"], keepdims=0),
        make("Reshape", ["peak", "axis"], ["image_score"]),
    ]
    types = {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}
    inputs, outputs = (
        [helper.make_tensor_value_info(s.name, types[s.dtype], s.shape) for s in specs]
        for specs in (INPUTS[mode], OUTPUTS)
    )
    graph = helper.make_graph(nodes, f"stand_in_{mode}", inputs, outputs, initial)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)
