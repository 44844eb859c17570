"""Loaded graphs behind one seam: `open_engine` gives whichever runtime this machine serves."""

from __future__ import annotations

from loupe_edge.engines.onnxruntime import DEFAULT_THREADS, OnnxRuntimeEngine
from loupe_edge.protocols import Engine
from loupe_models.bundle import Bundle
from loupe_models.errors import BundleError

__all__ = ["DEFAULT_THREADS", "open_engine"]


def open_engine(
    bundle: Bundle, mode: str, variant: str = "fp32", threads: int = DEFAULT_THREADS
) -> Engine:
    """Load one graph of a bundle.

    Args:
        bundle: Verified.
        mode: One of those it serves.
        variant: Precision of the graph; `fp32` is the reference.
        threads: CPU threads one inference may use, stated rather than guessed by the runtime.

    Raises:
        BundleError: The bundle lacks the mode or the variant.
        EngineError: The runtime refuses the graph.
    """
    contract = bundle.mode(mode)
    offered = {str(name): spec for name, spec in contract.variants.items()}
    if variant not in offered:
        raise BundleError(
            f"{bundle.path}: mode {mode} has variants {', '.join(offered)}, not {variant!r}"
        )
    graph = bundle.file(offered[variant].file)
    return OnnxRuntimeEngine(graph, contract.inputs, contract.outputs, threads)
