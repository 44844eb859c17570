"""ONNX Runtime on the CPU: the reference engine, on every machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from loupe_edge.engines.tensors import take_tensors
from loupe_edge.errors import EngineError
from loupe_edge.protocols import Outputs
from loupe_models.manifest import TensorSpec
from loupe_models.preprocess import Tensors

DEFAULT_THREADS = 2
ERRORS_ONLY = 3  # ONNX Runtime's own log level

# The runtime's errors share no base class of their own, and a bound run raises plain ones.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    MemoryError,
    *(
        getattr(ort_errors, name)
        for name in (
            "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf",
            "ModelLoaded", "NoModel", "NoSuchFile", "NotImplemented", "RuntimeException",
        )
    ),
)  # fmt: skip

log = logging.getLogger(__name__)


class OnnxRuntimeEngine:
    """One graph in one session; inputs and outputs live in buffers that are bound once."""

    def __init__(
        self,
        graph: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        threads: int = DEFAULT_THREADS,
    ) -> None:
        try:
            self._inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in inputs}
            self._outputs = {spec.name: np.zeros(spec.shape, np.float32) for spec in outputs}
            self._session = ort.InferenceSession(
                str(graph), _options(threads), providers=["CPUExecutionProvider"]
            )
            self._binding = self._bind()
        except ORT_ERRORS as error:
            raise EngineError(f"{graph}: ONNX Runtime refuses the graph ({error})") from error
        log.info("%s on ONNX Runtime %s, %d threads", graph.name, ort.__version__, threads)

    def _bind(self) -> ort.IOBinding:
        binding = self._session.io_binding()
        for name, buffer in self._inputs.items():
            binding.bind_input(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
        for name, buffer in self._outputs.items():
            binding.bind_output(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
        return binding

    def infer(self, tensors: Tensors) -> Outputs:
        """Run one frame; the outputs are the caller's to keep.

        Raises:
            EngineError: A tensor does not fit the graph, or the runtime failed.
        """
        if self._session is None:
            raise EngineError("the engine is closed")
        take_tensors(self._inputs, tensors)
        try:
            self._session.run_with_iobinding(self._binding)
            return {name: buffer.copy() for name, buffer in self._outputs.items()}
        except ORT_ERRORS as error:
            raise EngineError(f"ONNX Runtime failed: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Free the session; safe to call twice."""
        self._binding = None
        self._session = None


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # Threads that spin between frames would take the cores that capture needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
