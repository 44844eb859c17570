"""OpenVINO on Intel and AMD processors of line PCs: an optional extra, chosen by the station."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import properties
from openvino.properties import hint

from loupe_edge.engines.tensors import take_tensors
from loupe_edge.errors import EngineError
from loupe_edge.protocols import Outputs
from loupe_models.manifest import TensorSpec
from loupe_models.preprocess import Tensors

DEVICE = "CPU"
BF16 = "BF16"

log = logging.getLogger(__name__)


class OpenVinoEngine:
    """One compiled graph; inputs and outputs live in buffers that are bound once.

    Args:
        graph: Of either precision.
        inputs: As the manifest names them.
        outputs: Likewise.
        threads: CPU threads of one inference.
        half: Whether convolutions and matrix products may be computed in bfloat16, where the
            processor has it. What comes before the first and after the last of them stays
            float32: the runtime sees to that.

    Raises:
        EngineError: The runtime refuses the graph.
    """

    def __init__(
        self,
        graph: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        threads: int,
        *,
        half: bool = False,
    ) -> None:
        try:
            self._inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in inputs}
            self._outputs = {spec.name: np.zeros(spec.shape, np.float32) for spec in outputs}
            core = ov.Core()
            offered = core.get_property(DEVICE, properties.device.capabilities)
            bf16 = half and BF16 in offered
            settings = _settings(threads, bf16=bf16)
            self._compiled = core.compile_model(core.read_model(graph), DEVICE, settings)
            self._request = self._bind()
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"{graph}: OpenVINO refuses the graph ({_first(error)})") from error
        said = "bfloat16" if bf16 else "float32"
        log.info("%s on OpenVINO %s, %s, %d threads", graph.name, ov.__version__, said, threads)

    def _bind(self) -> ov.InferRequest:
        request = self._compiled.create_infer_request()
        for name, buffer in (*self._inputs.items(), *self._outputs.items()):
            request.set_tensor(name, ov.Tensor(buffer, shared_memory=True))
        return request

    def infer(self, tensors: Tensors) -> Outputs:
        """Run one frame; the outputs are the caller's to keep.

        Raises:
            EngineError: A tensor does not fit the graph, or the runtime failed.
        """
        if self._request is None:
            raise EngineError("the engine is closed")
        take_tensors(self._inputs, tensors)
        try:
            self._request.infer(share_outputs=True)
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"OpenVINO failed: {_first(error)}") from error
        return {name: buffer.copy() for name, buffer in self._outputs.items()}

    def close(self) -> None:
        """Free the graph; safe to call twice."""
        self._request = None
        self._compiled = None


def _settings(threads: int, *, bf16: bool) -> dict[str, object]:
    return {
        properties.inference_num_threads: threads,
        properties.num_streams: 1,
        hint.performance_mode: hint.PerformanceMode.LATENCY,
        hint.inference_precision: ov.Type.bf16 if bf16 else ov.Type.f32,
    }


def _first(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
