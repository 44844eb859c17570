"""ONNX Runtime on the CPU: the reference engine, on every machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from loupe_edge.engine_settings import DEFAULT_THREADS
from loupe_edge.engines.tensors import HostEngine
from loupe_edge.errors import EngineError
from loupe_models.manifest import TensorSpec

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


class OnnxRuntimeEngine(HostEngine):
    """One graph in one session."""

    def __init__(
        self,
        graph: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        threads: int = DEFAULT_THREADS,
    ) -> None:
        try:
            super().__init__(inputs, outputs)
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

    def _run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except ORT_ERRORS as error:
            raise EngineError(f"ONNX Runtime failed: {error or type(error).__name__}") from error

    def _free(self) -> None:
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
