"""Search of a memory bank: its curve of size against time, megabytes and distance error.

The peer is the published search: every distance from 3,136 patches of 768 channels to 65,856 rows
(10 % of the patches of 210 parts), by `torch.cdist` in float32 and its minimum. It is timed on an
eighth of the patches and multiplied. Ours are the exported graphs in ONNX Runtime, each with as
many rows as its share of the same patches; features are drawn, since times do not depend on them.
The error of distances is measured on banks selected from 32,768 drawn features that lie in 32
directions and noise, as an encoder's do: it says how the curve runs, not where another encoder is.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from harness import Budget, finish, say
from torch import Tensor, nn

from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.coreset import select_coreset
from loupe_trainer.methods.cmdiad.search import NearestRow
from loupe_trainer.progress import SilentProgress

SIDE, N_CHANNELS, N_PATCHES = 56, 768, 56 * 56
N_CANDIDATES = 658_560  # patches of 210 parts
SHARES = (0.10, 0.05, 0.02, 0.01)
DIMENSIONS = (None, 128)
DEFAULT = (0.02, 128)
MOST_OF_PUBLISHED = 0.15
PEER_FRACTION = 8
N_COMPARED, N_COMPARED_PATCHES = 32_768, 784
N_TIMES, SEED = 2, 0


@dataclass(frozen=True, slots=True)
class Place:
    """One point of the curve."""

    share: float
    n_dimensions: int | None

    @property
    def name(self) -> str:
        """Say it in the results."""
        return f"{self.share:.0%} x {self.n_dimensions or N_CHANNELS}"

    @property
    def n_rows(self) -> int:
        """Of the published bank's candidates."""
        return round(self.share * N_CANDIDATES)

    @property
    def gflop(self) -> float:
        """Of the ranking product and the projection."""
        searched = self.n_rows * (self.n_dimensions or N_CHANNELS)
        projected = N_CHANNELS * (self.n_dimensions or 0)
        return 2 * N_PATCHES * (searched + projected) / 1e9


def main() -> int:
    """Time the published search and each point of the curve, then measure distances."""
    torch.manual_seed(SEED)
    places = [Place(share, n) for n in DIMENSIONS for share in SHARES]
    tokens = _features(N_PATCHES).T.reshape(1, N_CHANNELS, SIDE, SIDE).contiguous()
    say("the published search")
    published_ms = _published_ms(tokens)
    errors = _errors()
    curve = {}
    for place in places:
        say(place.name)
        told = _measure(place, tokens)
        curve[place.name] = {
            **told,
            "gflop": round(place.gflop, 2),
            "of_published_ms": round(told["fp32_ms"] / published_ms, 4),
            "distance_error": errors[place.name],
        }
    return _report(published_ms, curve)


def _report(published_ms: float, curve: dict[str, dict[str, float]]) -> int:
    published = Place(0.10, None)
    default = Place(*DEFAULT)
    of_ms = curve[default.name]["of_published_ms"]
    figures = {
        "patches": N_PATCHES,
        "threads": torch.get_num_threads(),
        "published": {
            "rows": published.n_rows,
            "gflop": round(published.gflop, 1),
            "ms": round(published_ms, 1),
            "timed_on": f"1/{PEER_FRACTION} of the patches, and multiplied",
        },
        "default": default.name,
        "curve": curve,
    }
    budgets = [
        Budget("default search over the published, time", of_ms, MOST_OF_PUBLISHED, ""),
        Budget(
            "default search over the published, FLOPs",
            default.gflop / published.gflop,
            MOST_OF_PUBLISHED,
            "",
        ),
    ]
    return finish("bank", figures, budgets)


def _features(n: int) -> Tensor:
    basis = torch.randn(32, N_CHANNELS, generator=torch.Generator().manual_seed(SEED))
    return torch.randn(n, 32) @ basis / 6 + 0.5 * torch.randn(n, N_CHANNELS)


def _published_ms(tokens: Tensor) -> float:
    bank = torch.randn(Place(0.10, None).n_rows, N_CHANNELS)
    patches = tokens.flatten(2)[0].T[::PEER_FRACTION].contiguous()
    return PEER_FRACTION * _best_ms(lambda: torch.cdist(patches, bank).amin(dim=1))


def _measure(place: Place, tokens: Tensor) -> dict[str, float]:
    bank = _BareBank(_features(place.n_rows), place.n_dimensions)
    with tempfile.TemporaryDirectory() as folder:
        sizes, times_ms = {}, {}
        for variant in ("fp32", "fp16"):
            file = Path(folder) / f"{variant}.onnx"
            _export(bank.half() if variant == "fp16" else bank, tokens, file)
            sizes[variant] = file.stat().st_size / 1e6
            session = _open(file)
            feed = {"tokens": tokens.numpy()}
            times_ms[variant] = _best_ms(partial(session.run, None, feed))
    return {
        "rows": place.n_rows,
        "fp32_ms": round(times_ms["fp32"], 1),
        "fp16_on_cpu_ms": round(times_ms["fp16"], 1),
        "fp32_mb": round(sizes["fp32"], 1),
        "fp16_mb": round(sizes["fp16"], 1),
    }


class _BareBank(nn.Module):
    """A bank whose neighbours nobody searched for: their search is not timed, and takes minutes."""

    def __init__(self, features: Tensor, n_dimensions: int | None) -> None:
        super().__init__()
        self.bank = MemoryBank(features[: 4 * N_CHANNELS], n_dimensions)
        few = self.bank.search
        n_times = -(-len(features) // few.n_rows)
        table = few.table.repeat(n_times, 1)[: len(features)].contiguous()
        self.bank.search = NearestRow(table, few.unit)
        self.bank.neighbours = torch.zeros(len(features), 2, dtype=torch.int64)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.bank(tokens)
        return found


def _export(bank: nn.Module, tokens: Tensor, file: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            bank, (tokens,), file, dynamo=False, opset_version=17,
            input_names=["tokens"], output_names=["distances", "score"],
        )  # fmt: skip


def _open(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _best_ms(search: Callable[[], object]) -> float:
    """Time the fastest of a few: what the machine's other work does not explain."""
    times_s = []
    for _ in range(N_TIMES):
        began = time.perf_counter()
        search()
        times_s.append(time.perf_counter() - began)
    return 1e3 * min(times_s)


def _errors() -> dict[str, float]:
    """Give the mean of |d / d_all - 1|, d_all from all candidates in all channels."""
    candidates, patches = _features(N_COMPARED), _features(N_COMPARED_PATCHES)
    order = select_coreset(candidates.numpy(), max(SHARES), SEED, SilentProgress())
    tokens = patches.T.reshape(1, N_CHANNELS, 28, 28)
    true = torch.cdist(patches, candidates).amin(dim=1)
    errors = {}
    for n_dimensions in DIMENSIONS:
        for share in SHARES:
            rows = torch.from_numpy(_first(order, share))
            bank = MemoryBank(candidates[rows], n_dimensions)
            found = bank(tokens)[0].flatten() * bank.deviation
            error = float((found / true - 1).abs().mean())
            errors[Place(share, n_dimensions).name] = round(error, 4)
    return errors


def _first(order: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    return order[: round(share * N_COMPARED)]


if __name__ == "__main__":
    sys.exit(main())
