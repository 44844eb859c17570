"""The exported graph, before there is a bundle: it scores the parts that the threshold rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_edge.inspector import read_outputs
from loupe_models.manifest import TensorSpec
from loupe_models.preprocess import Tensors


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network says of one frame.

    Attributes:
        anomaly_map: (H, W).
    """

    score: float
    anomaly_map: npt.NDArray[np.float32]


class Scorer:
    """The edge's reference engine on a graph file."""

    def __init__(
        self, graph: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self._engine = OnnxRuntimeEngine(graph, inputs, outputs)

    def answer(self, tensors: Tensors) -> Answer:
        """Run one frame.

        Raises:
            EngineError: The graph failed, or gave what is not a score.
        """
        return Answer(*read_outputs(self._engine.infer(tensors)))

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._engine.close()
