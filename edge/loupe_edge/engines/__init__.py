"""Loaded graphs behind one seam: `open_engine` gives whichever runtime this machine serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from loupe_edge.engine_settings import REFERENCE, TYPED_VARIANT, EngineKind, EngineSettings
from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_edge.engines.tensors import passed
from loupe_edge.errors import NoRuntimeError
from loupe_edge.protocols import Engine, Proof
from loupe_models.bundle import Bundle

__all__ = ["open_engine", "require_tensorrt"]

Opener = Callable[[Bundle, str, EngineSettings, Proof | None], Engine]


def open_engine(
    bundle: Bundle, mode: str, settings: EngineSettings = REFERENCE, proof: Proof | None = None
) -> Engine:
    """Load one graph of a bundle.

    Args:
        bundle: Verified.
        mode: One of those it serves.
        settings: Which of the mode's graphs, and what runs it.
        proof: Called once with the engine, before it is given and before a plan that was built for
            it is kept; without one, a new plan is not kept.

    Raises:
        BundleError: The bundle lacks the mode or the variant.
        EngineError: The runtime refuses the graph, or the device the kernels.
        NoRuntimeError: The runtime is not installed.
        BadInputError: NVRTC is not installed, or the plans' folder cannot be used.
        LoupeError: As the proof raises; the engine is closed then.
    """
    return OPENERS[settings.kind](bundle, mode, settings, proof)


def require_tensorrt() -> None:
    """Ask for what TensorRT's engine imports, before anything else is tried.

    Raises:
        NoRuntimeError: It is not installed.
    """
    try:
        from loupe_edge.engines.tensorrt import opening  # noqa: F401
    except ImportError as error:
        raise NoRuntimeError(
            f"TensorRT cannot be used here ({error}); `loupe-edge doctor` says what to do"
        ) from error


def _open_onnxruntime(
    bundle: Bundle, mode: str, settings: EngineSettings, proof: Proof | None
) -> Engine:
    contract, graph = bundle.mode(mode), bundle.variant(mode, settings.variant)
    engine = OnnxRuntimeEngine(graph, contract.inputs, contract.outputs, settings.threads)
    return passed(engine, proof)


def _open_openvino(
    bundle: Bundle, mode: str, settings: EngineSettings, proof: Proof | None
) -> Engine:
    try:
        from loupe_edge.engines.openvino import OpenVinoEngine
    except ImportError as error:
        raise NoRuntimeError(
            f"OpenVINO cannot be used here ({error}); `pip install 'loupe[openvino]'`"
        ) from error
    contract, graph = bundle.mode(mode), bundle.variant(mode, settings.variant)
    engine = OpenVinoEngine(
        graph,
        contract.inputs,
        contract.outputs,
        settings.threads,
        half=settings.variant == TYPED_VARIANT,
    )
    return passed(engine, proof)


def _open_tensorrt(
    bundle: Bundle, mode: str, settings: EngineSettings, proof: Proof | None
) -> Engine:
    require_tensorrt()
    from loupe_edge.engines.tensorrt.opening import open_planned

    return open_planned(bundle, mode, settings, proof).engine


OPENERS: Final[Mapping[EngineKind, Opener]] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
    "tensorrt": _open_tensorrt,
}
