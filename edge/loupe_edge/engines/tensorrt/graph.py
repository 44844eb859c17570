"""One frame's work as a CUDA graph: queued with one call instead of one for every kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from loupe_edge.errors import EngineError

try:  # NVIDIA's cuda-python, since PyCUDA has no graphs; without it the same work is queued as is
    from cuda.bindings import runtime as cudart
except ImportError:
    cudart = None

log = logging.getLogger(__name__)


class CudaGraph:
    """Captured work, ready to be launched again; close it in the thread that captured it."""

    def __init__(self, graph: object) -> None:
        self._graph = graph
        try:
            self._executable = _checked(cudart.cudaGraphInstantiate(graph, 0))
        except EngineError:
            cudart.cudaGraphDestroy(graph)
            raise

    def launch(self, stream: int) -> None:
        """Queue the work on a stream.

        Raises:
            EngineError: The driver refuses.
        """
        _checked(cudart.cudaGraphLaunch(self._executable, stream))

    def close(self) -> None:
        """Free it; it may not be running any more."""
        cudart.cudaGraphExecDestroy(self._executable)
        cudart.cudaGraphDestroy(self._graph)


def captured(stream: int, queue: Callable[[], None]) -> CudaGraph | None:
    """Capture what is queued on a stream.

    Args:
        stream: Handle; it must be idle, and the same work must have run on it before.
        queue: Queues the work.

    Returns:
        None where cuda-python is not installed, or the work cannot be captured.
    """
    if cudart is None:
        log.info("no CUDA graph: NVIDIA's cuda-python is not installed")
        return None
    mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    try:
        _checked(cudart.cudaStreamBeginCapture(stream, mode))
        try:
            queue()
        finally:  # whatever happens, the stream must leave capture
            ended = cudart.cudaStreamEndCapture(stream)
        return CudaGraph(_checked(ended))
    except EngineError as error:
        log.warning("no CUDA graph: %s", error)
        return None


def _checked(result: tuple[Any, ...]) -> Any:  # noqa: ANN401  (a handle; cuda-python's types are its own)
    """Give the value of a call, whose first result is its status.

    Raises:
        EngineError: The status is not success.
    """
    status, *values = result
    if status != cudart.cudaError_t.cudaSuccess:
        raise EngineError(f"CUDA: {status.name}")
    return values[0] if values else None
