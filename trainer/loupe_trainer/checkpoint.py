"""Resumable state of a training loop: modules and one Adam, in safetensors, written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from loupe_models.atomic import write_bytes
from loupe_trainer.errors import RunError


def save_checkpoint(
    path: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    settings: Mapping[str, object],
    rng: np.random.Generator | None = None,
) -> None:
    """Write what a loop needs to go on after `step` steps as if it had never stopped.

    Args:
        path: Replaced in one move; an interruption leaves the one before.
        step: Number of steps done.
        modules: Whatever is trained, by name.
        optimiser: Over the parameters of all of them.
        settings: A checkpoint serves only a loop with the same ones.
        rng: What the loop draws from, where it draws one step after the other.
    """
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": value for key, value in state.items()}
    # A plain copy each: channels-last and shared storage are no business of the file's.
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    metadata = {"step": str(step), "settings": _canonical(settings)}
    if rng is not None:
        metadata["rng"] = _canonical(rng.bit_generator.state)
    write_bytes(path, save(plain, metadata))


def load_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    settings: Mapping[str, object],
    rng: np.random.Generator | None = None,
) -> int:
    """Put a saved state back in place, in `rng` too where there is one.

    Returns:
        The number of steps done; 0 where there is no checkpoint yet.

    Raises:
        RunError: The checkpoint is damaged, or of a loop with other settings.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if metadata.get("settings") != _canonical(settings):
            raise RunError(f"{path} was written under other settings; delete it, or use a new run")
        for name, module in modules.items():
            module.load_state_dict(_under(tensors, f"{name}."))
        _restore(optimiser, _under(tensors, "optimiser."))
        if rng is not None:
            rng.bit_generator.state = json.loads(metadata["rng"])
        return int(metadata["step"])
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise RunError(f"{path} is not a whole checkpoint ({error}); delete it") from error


def _restore(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    for parameter, moments in optimiser.state.items():
        # Fused Adam walks parameter and moments side by side in memory: same layout, or nonsense.
        for name, value in moments.items():
            if value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _canonical(settings: Mapping[str, object]) -> str:
    return json.dumps(dict(settings), sort_keys=True)
