"""Loaded graphs behind one seam: `open_engine` gives whichever runtime this machine serves."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from loupe_calibration.errors import BadInputError
from loupe_edge.engines.graphs import graph_of
from loupe_edge.engines.onnxruntime import DEFAULT_THREADS, OnnxRuntimeEngine
from loupe_edge.inspector import Preprocess
from loupe_edge.protocols import Engine
from loupe_models.bundle import Bundle
from loupe_models.manifest import ModeManifest

__all__ = [
    "DEFAULT_THREADS",
    "NEEDS_TENSORRT",
    "EngineKind",
    "FrontKind",
    "open_engine",
    "open_front",
    "require_tensorrt",
]

EngineKind = Literal["onnxruntime", "openvino", "tensorrt"]
FrontKind = Literal["cpu", "gpu"]

NEEDS_TENSORRT: Final = (
    'front = "gpu" works in TensorRT\'s context: choose kind = "tensorrt", or front = "cpu"'
)


def open_engine(
    bundle: Bundle,
    mode: str,
    variant: str = "fp32",
    threads: int = DEFAULT_THREADS,
    kind: EngineKind = "onnxruntime",
    cache: Path | None = None,
) -> Engine:
    """Load one graph of a bundle.

    Args:
        bundle: Verified.
        mode: One of those it serves.
        variant: Precision of the graph; `fp32` is the reference.
        threads: CPU threads one inference may use, stated rather than guessed by the runtime.
        kind: The runtime. OpenVINO computes the variant `fp16` in bfloat16 where the processor has
            it. TensorRT builds a plan first where none is kept, which takes minutes.
        cache: Where TensorRT's plans are kept; the user's or service's own place by default.

    Raises:
        BundleError: The bundle lacks the mode or the variant.
        EngineError: The runtime refuses the graph.
        BadInputError: The runtime is not installed, or the plans' folder cannot be used.
        ProofError: A plan was built, and does not answer as the trainer did.
    """
    if kind == "tensorrt":
        return _open_tensorrt(bundle, mode, variant, cache)
    contract = bundle.mode(mode)
    graph = graph_of(bundle, mode, variant)
    if kind == "openvino":
        return _open_openvino(graph, contract, threads, half=variant == "fp16")
    return OnnxRuntimeEngine(graph, contract.inputs, contract.outputs, threads)


def open_front(engine: Engine, cache: Path | None = None) -> Preprocess:
    """Let the GPU that an engine runs on make its tensors too, until the engine is closed.

    Args:
        engine: TensorRT's, in the thread that opened it.
        cache: Where compiled kernels are kept: with TensorRT's plans.

    Raises:
        BadInputError: The engine is another, or NVRTC is not installed.
        EngineError: The kernels do not compile or load.
    """
    require_tensorrt()
    from loupe_edge.engines.tensorrt.cache import PlanCache, default_cache
    from loupe_edge.engines.tensorrt.engine import TensorRtEngine

    if not isinstance(engine, TensorRtEngine):
        raise BadInputError(NEEDS_TENSORRT)
    engine.open_front(PlanCache(cache or default_cache()).kernels)
    return engine.preprocess


def _open_openvino(graph: Path, contract: ModeManifest, threads: int, *, half: bool) -> Engine:
    try:
        from loupe_edge.engines.openvino import OpenVinoEngine
    except ImportError as error:
        raise BadInputError(
            f"OpenVINO cannot be used here ({error}): `pip install 'loupe[openvino]'`, or choose "
            f'[engine] kind = "onnxruntime"'
        ) from error
    return OpenVinoEngine(graph, contract.inputs, contract.outputs, threads, half=half)


def require_tensorrt() -> None:
    """Ask for what TensorRT's engine imports, before anything else is tried.

    Raises:
        BadInputError: It is not installed.
    """
    try:
        from loupe_edge.engines.tensorrt import opening  # noqa: F401
    except ImportError as error:
        raise BadInputError(
            f"TensorRT cannot be used here ({error}); `loupe-edge doctor` says what to do, or "
            f'choose [engine] kind = "onnxruntime"'
        ) from error


def _open_tensorrt(bundle: Bundle, mode: str, variant: str, cache: Path | None) -> Engine:
    require_tensorrt()
    from loupe_edge.engines.tensorrt.cache import PlanCache, default_cache
    from loupe_edge.engines.tensorrt.opening import open_planned

    return open_planned(bundle, mode, variant, PlanCache(cache or default_cache())).engine
