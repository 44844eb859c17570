"""PyTorch files of others: a state dict is read from them, and nothing in them ever runs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError  # only the name of the error: nothing is unpickled with it
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from loupe_trainer.errors import WeightsError

COUNTER: Final = "num_batches_tracked"  # of batch normalisation; older files lack it
# What `torch.load` was seen to raise on files that were cut short, overwritten or something else.
DAMAGED: Final = (
    RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError,
    SafetensorError,  # `torch.load` reads these files too, by their name
)  # fmt: skip
# A number as NumPy 1 and 2 pickle it: that is how checkpoints keep their accuracy.
_SCALAR: Final[Callable[..., Any]] = np.float64(0).__reduce__()[0]
NUMBERS: Final[list[Callable[..., Any] | tuple[Callable[..., Any], str]]] = [
    (_SCALAR, "numpy.core.multiarray.scalar"), (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)), type(np.dtype(np.int64)),
]  # fmt: skip


def read_state_dict(file: Path, within: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read a state dict, in either of PyTorch's formats, into float32.

    Args:
        file: A state dict, or a training's checkpoint that holds one.
        within: Under which name a checkpoint holds it; the first one that is there is taken.

    Raises:
        WeightsError: Missing, damaged, or more than a state dict.
    """
    try:
        # A training's settings, names, plain values and accuracies often lie beside its weights.
        with torch.serialization.safe_globals([Namespace, *NUMBERS]):
            state = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"{file}: not a state dict. If it is a whole pickled network, that is code, and never "
            f"loaded here: fetch its state dict instead, or, where you trust the file, write one "
            f"with `torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW)`"
        ) from error
    except DAMAGED as error:
        reason = (str(error).splitlines() or ["it ends too early"])[0]
        raise WeightsError(
            f"{file}: not a whole PyTorch file ({reason}); fetch it again"
        ) from error
    if isinstance(state, Mapping):
        state = next((state[name] for name in within if name in state), state)
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise WeightsError(f"{file}: holds no state dict, that is, tensors by name")
    return {key: value.float() for key, value in state.items()}


def fill(network: nn.Module, state: Mapping[str, Tensor], file: Path, what: str) -> None:
    """Put weights into a network that must have the same ones.

    Args:
        network: Changed in place.
        state: Every parameter and buffer by name; counters of batches may be missing.
        file: Where they come from, and
        what: what they should be: named in errors.

    Raises:
        WeightsError: One is missing, superfluous, of another shape, or not finite.
    """
    own = network.state_dict()
    for key, value in own.items():
        if key not in state:
            if key.endswith(COUNTER):
                continue
            raise WeightsError(f"{file}: not {what}: it lacks {key}")
        if state[key].shape != value.shape:
            raise WeightsError(
                f"{file}: not {what}: {key} is {tuple(state[key].shape)}, "
                f"expected {tuple(value.shape)}"
            )
        if not state[key].isfinite().all():
            raise WeightsError(f"{file}: not {what}: {key} has values that are not finite")
    more = next((key for key in state if key not in own), None)
    if more is not None:
        raise WeightsError(f"{file}: not {what}: it also has {more}")
    network.load_state_dict(state, strict=False)
