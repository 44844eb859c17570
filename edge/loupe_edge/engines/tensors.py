"""What engines ask of tensors and of their proof, and what those share that run in this memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from loupe_edge.errors import EngineError
from loupe_edge.protocols import Engine, Outputs, Preprocess, Proof
from loupe_models.manifest import TensorSpec
from loupe_models.preprocess import Tensors, preprocess

AnyEngine = TypeVar("AnyEngine", bound=Engine)


class HostEngine(ABC):
    """A graph whose inputs and outputs live in buffers of this memory that are bound once.

    Args:
        inputs: As the manifest names them.
        outputs: Likewise.

    Raises:
        MemoryError: There is no room for them.
    """

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self._inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in inputs}
        self._outputs = {spec.name: np.zeros(spec.shape, np.float32) for spec in outputs}
        self._is_open = True

    @property
    def preprocess(self) -> Preprocess:
        """The reference itself, in this memory."""
        return preprocess

    def infer(self, tensors: Tensors) -> Outputs:
        """Run one frame; the outputs are the caller's to keep.

        Raises:
            EngineError: A tensor does not fit the graph, the runtime failed, or the engine is
                closed.
        """
        if not self._is_open:
            raise EngineError("the engine is closed")
        take_tensors(self._inputs, tensors)
        self._run()
        return {name: buffer.copy() for name, buffer in self._outputs.items()}

    def close(self) -> None:
        """Free what the runtime holds; safe to call twice."""
        self._is_open = False
        self._free()

    @abstractmethod
    def _run(self) -> None:
        """Compute the outputs' buffers from the inputs'; EngineError where it fails."""

    @abstractmethod
    def _free(self) -> None:
        """Let go of the runtime; may be called twice."""


def take_tensors(buffers: Mapping[str, npt.NDArray[Any]], given: Tensors) -> None:
    """Copy a frame's tensors into the buffers that a graph reads, and convert nothing.

    Raises:
        EngineError: A name, shape or type differs.
    """
    if set(given) != set(buffers):
        raise EngineError(f"tensors {sorted(given)}, the graph takes {sorted(buffers)}")
    for name, buffer in buffers.items():
        tensor = given[name]
        if tensor.shape != buffer.shape or tensor.dtype != buffer.dtype:
            raise EngineError(
                f"tensor {name} is {tensor.dtype} {tensor.shape}, "
                f"the graph takes {buffer.dtype} {buffer.shape}"
            )
        np.copyto(buffer, tensor)


def passed(engine: AnyEngine, proof: Proof | None) -> AnyEngine:
    """Give an engine that passes; one that does not is closed.

    Raises:
        LoupeError: As the proof raises.
    """
    with ExitStack() as stack:
        stack.enter_context(closing(engine))
        if proof is not None:
            proof(engine)
        stack.pop_all()
    return engine
