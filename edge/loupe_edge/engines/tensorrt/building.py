"""A plan from a graph: typed as the graph is typed, with one code path for TensorRT 10.3 to 11."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tensorrt as trt

from loupe_edge.engines.tensorrt.log import TENSORRT_LOG
from loupe_edge.engines.tensorrt.monitor import BuildMonitor
from loupe_edge.errors import PlanError
from loupe_edge.progress import Report

WORKSPACE_BYTES: Final = 1 << 30  # the smallest Jetson has 8 GB for everything
FLAGS: Final = f"strongly typed, no TF32, workspace {WORKSPACE_BYTES}"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gives.

    Attributes:
        plan: For this very device and TensorRT.
        timing: What TensorRT measured, for the next build on this device.
    """

    plan: bytes
    timing: bytes


def build_plan(graph: Path, timing: bytes, report: Report) -> Built:
    """Build a plan; minutes on a small device. An interrupt stops it after its present step.

    Args:
        graph: ONNX, with explicit types.
        timing: What TensorRT measured on this device before; empty for nothing.
        report: Called with steps done and steps known so far.

    Raises:
        PlanError: TensorRT refuses the graph, or cannot build it.
    """
    stopped = threading.Event()
    monitor = BuildMonitor(report, stopped)
    # Signals reach Python in the main thread alone, which must not be deep in TensorRT then.
    with ThreadPoolExecutor(1, "tensorrt-build") as worker:
        try:
            return worker.submit(_build, graph, timing, monitor).result()
        finally:
            stopped.set()


def _build(graph: Path, timing: bytes, monitor: BuildMonitor) -> Built:
    builder = trt.Builder(TENSORRT_LOG)
    network = builder.create_network(_network_flags())
    _parse(graph, network)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # what the graph keeps in FP32, it keeps for a reason
    config.progress_monitor = monitor
    measured = config.create_timing_cache(timing)
    if not config.set_timing_cache(measured, ignore_mismatch=False):  # of another TensorRT
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise PlanError(f"{graph}: TensorRT built no plan ({TENSORRT_LOG.last_error})")
    return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def _network_flags() -> int:
    """Ask for types as the graph says; 10.x must be asked, 11 knows nothing else.

    The flag's number differs between the two, and BuilderFlag.FP16 would be refused by both.
    """
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(graph: Path, network: trt.INetworkDefinition) -> None:
    parser = trt.OnnxParser(network, TENSORRT_LOG)
    if parser.parse_from_file(str(graph)):
        return
    said = [parser.get_error(i).desc() for i in range(parser.num_errors)]
    why = "; ".join(said) or TENSORRT_LOG.last_error
    raise PlanError(f"{graph}: TensorRT {trt.__version__} refuses the graph ({why})")
