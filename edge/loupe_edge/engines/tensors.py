"""What every engine asks of the tensors it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loupe_edge.errors import EngineError
from loupe_models.preprocess import Tensors


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
