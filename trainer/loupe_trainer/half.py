"""A copy of a detector that computes in FP16, and where its rounding shows.

Torch's CPU rounds every FP16 result as a GPU does; ONNX Runtime's CPU keeps them in float32. So the
copy itself, run here, is what true rounding looks like before there is a device.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from loupe_models.preprocess import Tensors
from loupe_trainer.methods.base import Detector
from loupe_trainer.parity import run_torch
from loupe_trainer.scorer import Answer

SMALLEST_NORMAL: Final = 2.0**-14  # of FP16; a layer that says less than this says nothing
DIVERGED: Final = 0.01
"""A layer diverges where FP16 moves its answer by this share of its largest."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What FP16 did to one input.

    Attributes:
        reference: The float32 network's answer.
        half: The copy's, which need not be finite.
        layer: The first layer that diverges; where none does, the one that loses most.
        lost: What that layer loses, a share of its largest answer; infinite where the copy's is
            not finite.
    """

    reference: Answer
    half: Answer
    layer: str
    lost: float

    @property
    def said(self) -> str:
        """Name the layer, for messages."""
        if not math.isfinite(self.lost):
            return f"layer {self.layer} is the first to diverge: it is not finite"
        which = "is the first to diverge" if self.lost > DIVERGED else "loses most"
        return f"layer {self.layer} {which}, by {self.lost:.2g} of its largest answer"


@dataclass(frozen=True, slots=True)
class Copies:
    """A detector's copies in both precisions, layer for layer the same.

    Attributes:
        whole: In float32.
        half: In FP16, less what its modules keep in float32.
    """

    whole: Detector
    half: Detector


def copies_of(detector: Detector) -> Copies:
    """Copy a detector as it answers in evaluation, and once more into FP16.

    Batch norms behind convolutions are folded into them first: a running variance has few digits
    in FP16, and a weight over its root has lost them all.
    """
    whole = _folded(detector)
    return Copies(whole, copy.deepcopy(whole).half())


def trace_rounding(copies: Copies, tensors: Tensors) -> Rounding:
    """Run both copies, layer beside layer.

    A layer is a module that holds FP16 weights of its own.
    """
    layers = [name for name, module in copies.half.named_modules() if _is_half(module)]
    with _listening(copies.whole, layers) as expected:
        reference = _answer(copies.whole, tensors)
    with _listening(copies.half, layers) as found:
        answer = _answer(copies.half, tensors)
    return Rounding(reference, answer, *_first_diverged(expected, found))


def _folded(detector: Detector) -> Detector:
    made = copy.deepcopy(detector).eval()
    for module in list(made.modules()):
        if isinstance(module, nn.Sequential):
            _fold_norms(module)
    return made


def _fold_norms(layers: nn.Sequential) -> None:
    for i, (conv, norm) in enumerate(pairwise(layers)):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i] = fuse_conv_bn_eval(conv, norm)
            layers[i + 1] = nn.Identity()


def _is_half(module: nn.Module) -> bool:
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return any(values.dtype == torch.float16 for values in own)


def _answer(detector: Detector, tensors: Tensors) -> Answer:
    score, anomaly_map = run_torch(detector, tensors)
    return Answer(float(score[0]), anomaly_map[0, 0])


@contextmanager
def _listening(detector: Detector, layers: Sequence[str]) -> Iterator[list[tuple[str, Tensor]]]:
    """Keep what each layer says, in order; copied, for the next may work in place."""
    told: list[tuple[str, Tensor]] = []

    def keep(name: str, said: object) -> None:
        first = said[0] if isinstance(said, tuple) else said
        if isinstance(first, Tensor):
            told.append((name, first.detach().to(torch.float32, copy=True)))

    with ExitStack() as hooks:
        for name in layers:
            module = detector.get_submodule(name)
            handle = module.register_forward_hook(lambda _m, _g, said, at=name: keep(at, said))
            hooks.callback(handle.remove)
        yield told


def _first_diverged(
    expected: Sequence[tuple[str, Tensor]], found: Sequence[tuple[str, Tensor]]
) -> tuple[str, float]:
    worst = ("none", 0.0)
    for (name, want), (_, have) in zip(expected, found, strict=True):
        lost = _lost(want, have)
        if lost > DIVERGED:
            return name, lost
        if lost > worst[1]:
            worst = name, lost
    return worst


def _lost(want: Tensor, have: Tensor) -> float:
    if not bool(have.isfinite().all()):
        return math.inf
    largest = max(float(want.abs().max()), SMALLEST_NORMAL)
    return float((want - have).abs().max()) / largest
