"""OpenVINO on Intel and AMD processors of line PCs: an optional extra, chosen by the station."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import openvino as ov
from openvino import properties
from openvino.properties import hint

from loupe_edge.engines.tensors import HostEngine
from loupe_edge.errors import EngineError
from loupe_models.manifest import TensorSpec

DEVICE = "CPU"
BF16 = "BF16"

log = logging.getLogger(__name__)


class OpenVinoEngine(HostEngine):
    """One compiled graph.

    Args:
        graph: Of either precision.
        inputs: As the manifest names them.
        outputs: Likewise.
        threads: CPU threads of one inference.
        half: Whether convolutions and matrix products may be computed in bfloat16, where the
            processor has it. What comes before the first of them stays float32. The enlarging of
            the map counts as one of them to the runtime, so that a map is bfloat16 up to and with
            it, and only what follows (blanking, the maximum) is float32.

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
            super().__init__(inputs, outputs)
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

    def _run(self) -> None:
        try:
            self._request.infer(share_outputs=True)
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"OpenVINO failed: {_first(error)}") from error

    def _free(self) -> None:
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
