"""One step of gradient descent, the same for every network that is trained here."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

DECAY_FROM, DECAY = 0.95, 0.1


def adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Adam:
    """Give Adam, as the papers do: AdamW's decoupled decay is another, worse method here."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def learning_rate(lr: float, step: int, n_steps: int, decay_from: float = DECAY_FROM) -> float:
    """Give the rate of a step: a tenth in the last part of the schedule."""
    return lr * (DECAY if step >= int(decay_from * n_steps) else 1.0)


def descend(loss: Tensor, optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Take one step down."""
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
