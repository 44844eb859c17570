"""EfficientAD-S at 256 x 256: Loupe from frame to verdict beside a well-known library's inference.

The peer is built from its public architecture with random weights: three networks that each
normalise their picture, the teacher's statistics in the graph, padded and enlarged maps. Its graph
takes a float picture that is ready. Loupe's side starts from a 640 x 480 frame and ends with a
verdict: gate, cutting out, resize, inference, regions, decision. Both run on the same two threads,
in turns, in ONNX Runtime and in OpenVINO.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import stand_in
import torch
from harness import Budget, finish, paired_ratio, take_turns
from openvino import properties
from openvino.properties import hint
from peer import PeerEfficientAd, random_networks
from start_engine import THREADS, open_engine

from loupe_edge.inspector import Inspector
from loupe_models.bundle import Bundle
from loupe_models.frame import CameraTime, Frame
from loupe_trainer.export import export_onnx
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector

SIDE_PX, SEED = 256, 0
N_ROUNDS, N_WARM_UP = 60, 3
# ONNX Runtime's threads, left as they come, spin on for a while and slow the next side.
REST_S = 0.1
GFLOP = 75.9
LIMITS = {"onnxruntime fp32": 1.03, "openvino bf16": 1.0}


def main() -> int:
    """Time everything in turns, then start-up and memory, each in a process of its own."""
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer_file, bundle = make_peer(folder / "peer.onnx"), make_ours(folder)
        peak = peak_gflops()
        sides = open_sides(peer_file, bundle)
        times_us = take_turns(sides, N_ROUNDS, N_WARM_UP, REST_S)
        started = {kind: start_up(bundle.file("rgb.fp32.onnx"), kind) for kind in KINDS}
    times_ms = {side: np.divide(times, 1000) for side, times in times_us.items()}
    p50 = {side: round(float(np.median(times)), 2) for side, times in times_ms.items()}
    ratios = {kind: paired_ratio(times_us, f"loupe, {kind}", f"peer, {kind}") for kind in KINDS}
    floor_ms = GFLOP / peak * 1000
    figures = {
        "threads": THREADS,
        "rounds": N_ROUNDS,
        "p50_ms": p50,
        "p90_ms": {side: round(float(np.quantile(t, 0.9)), 2) for side, t in times_ms.items()},
        "loupe_frame_to_verdict_over_peer_inference": {k: round(r, 3) for k, r in ratios.items()},
        "float32_gflops_of_a_matrix_product_at_best": round(peak, 1),
        "floor_ms_at_that_rate": round(floor_ms, 1),
        "share_of_the_floor": round(floor_ms / p50["loupe infer, onnxruntime fp32"], 3),
        "start_up": started,
    }
    budgets = [
        Budget(f"frame to verdict over the peer's inference, {kind}, p50", ratios[kind], most, "")
        for kind, most in LIMITS.items()
    ]
    return finish("engines", figures, budgets)


def make_peer(path: Path) -> Path:
    """Export the peer's graph."""
    network = PeerEfficientAd(*random_networks(SIDE_PX)).eval()
    torch.onnx.export(
        network, (torch.rand(1, 3, SIDE_PX, SIDE_PX),), path, dynamo=False, opset_version=17,
        input_names=["input"], output_names=["anomaly_map", "pred_score"],
    )  # fmt: skip
    return path


def make_ours(folder: Path) -> Bundle:
    """Export our graph with weights as random, into a bundle that gates 640 x 480 frames."""
    teacher, student, autoencoder = random_networks(SIDE_PX)
    detector = EfficientAdDetector(teacher, student, autoencoder).eval()
    picture = np.random.default_rng(SEED).integers(0, 255, (1, SIDE_PX, SIDE_PX, 3), np.uint8)
    with torch.inference_mode():
        for scale, raw in zip(
            (detector.local_scale, detector.global_scale),
            detector.raw_maps(torch.from_numpy(picture)), strict=True,
        ):  # fmt: skip
            scale.fit([raw.numpy()], "random")
    file = folder / "ours.onnx"
    export_onnx(detector, {"rgb": picture}, file)
    return stand_in.write(folder / "bundle", {"rgb": onnx.load(file)})


KINDS = ("onnxruntime fp32", "openvino fp32", "openvino bf16")


def open_sides(peer_file: Path, bundle: Bundle) -> dict[str, Callable[[], object]]:
    """Give everything that is timed, ready to be called."""
    frame = _frame()
    graph = bundle.file("rgb.fp32.onnx")
    sides: dict[str, Callable[[], object]] = {}
    for kind in KINDS:
        sides[f"peer, {kind}"] = open_peer(peer_file, kind)
        engine = open_engine(graph, kind)
        sides[f"loupe, {kind}"] = partial(Inspector(bundle, "rgb", engine).inspect, frame)
        tensors = {"rgb": np.zeros((1, SIDE_PX, SIDE_PX, 3), np.uint8)}
        sides[f"loupe infer, {kind}"] = partial(engine.infer, tensors)
    return sides


def open_peer(file: Path, kind: str) -> Callable[[], object]:
    """Open the peer's graph as its library does: default settings but for the threads."""
    picture = np.random.default_rng(SEED).random((1, 3, SIDE_PX, SIDE_PX), np.float32)
    if kind == "onnxruntime fp32":
        options = ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return partial(session.run, None, {"input": picture})
    compiled = ov.Core().compile_model(str(file), "CPU", {
        properties.inference_num_threads: THREADS,
        hint.performance_mode: hint.PerformanceMode.LATENCY,
        hint.inference_precision: ov.Type.bf16 if kind.endswith("bf16") else ov.Type.f32,
    })  # fmt: skip
    return partial(compiled, {"input": picture})


def peak_gflops() -> float:
    """Measure the most that a float32 matrix product reaches on these threads."""
    torch.set_num_threads(THREADS)
    best = 0.0
    for n in (512, 1024, 2048):
        a, b = torch.rand(n, n), torch.rand(n, n)
        for _ in range(20):
            began = time.perf_counter()
            a @ b
            best = max(best, 2 * n**3 / (time.perf_counter() - began) / 1e9)
    return best


def start_up(graph: Path, kind: str) -> dict[str, float]:
    """Open an engine in a fresh process; give seconds to the first answer and resident memory."""
    told = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("start_engine.py")), str(graph), kind],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, resident_mb = (float(word) for word in told.stdout.split())
    return {"to_first_answer_s": seconds, "resident_mb": resident_mb}


def _frame() -> Frame:
    rng = np.random.default_rng(SEED)
    rgb = np.full((480, 640, 3), 30, np.uint8)
    rgb[30:450, 100:540] = rng.integers(100, 180, (420, 440, 3), np.uint8)
    return Frame(
        frame_id=0, captured_at_ns=0, camera_time=CameraTime(0, "system"), rgb=rgb, depth=None,
        depth_scale_m=None, intrinsics=stand_in.RGB,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
