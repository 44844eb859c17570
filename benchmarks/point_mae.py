"""Point-MAE in its published sizes: published form beside ours, and the cheap front, one thread."""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path

import onnxruntime as ort
import torch
from harness import Budget, finish
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from loupe_models.graph_lint import OPSET
from loupe_trainer.encoders.point_blocks import initialise
from loupe_trainer.encoders.point_groups import FrozenGroupNet
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import PointShape
from loupe_trainer.encoders.point_spread import CellSpread, PixelSpread
from loupe_trainer.encoders.surface_encoder import SurfaceEncoder

N_ROUNDS = 3
GRID_HW, SIDE, N_CENTRES, N_POINTS = (224, 224), 56, 1024, 128
N_PX = GRID_HW[0] * GRID_HW[1]
MOST_OF_PUBLISHED_SPREAD = 0.6
MOST_OF_PUBLISHED_GROUPS = 0.8

Contender = tuple[nn.Module, dict[str, Tensor]]


def main() -> int:
    """Measure each on the same tensors, in turns."""
    figures = measure(contenders())
    spread, groups = (
        figures[f"{what}, ours"]["ms"] / figures[f"{what}, published"]["ms"]
        for what in ("spreading", "groups")
    )
    budgets = [
        Budget("spreading, ours over the published form", spread, MOST_OF_PUBLISHED_SPREAD, ""),
        Budget("mini-PointNet, ours over the published form", groups, MOST_OF_PUBLISHED_GROUPS, ""),
    ]
    return finish("point_mae", figures, budgets)


def contenders() -> dict[str, Contender]:
    """Make networks at random and tensors of the right size: time does not hang on values."""
    torch.manual_seed(0)
    network = PointMae(PointShape()).eval()
    initialise(network)
    near = {
        "features": torch.randn(1, N_CENTRES, network.shape.channels),
        "nn_index": torch.randint(N_CENTRES, (1, N_PX, 3), dtype=torch.int32),
        "nn_weight": torch.rand(1, N_PX, 3),
    }
    groups = {"groups": torch.randn(1, N_CENTRES, N_POINTS, 3) * 0.003}
    cloud = {
        "xyz": torch.rand(1, *GRID_HW, 3) * 0.01,
        "valid": (torch.rand(1, *GRID_HW) > 0.1).to(torch.uint8),
    }
    return {
        "spreading, published": (PixelSpread(GRID_HW, SIDE), near),
        "spreading, ours": (CellSpread(GRID_HW, SIDE, N_CENTRES), near),
        "groups, published": (network.encoder, groups),
        "groups, ours": (FrozenGroupNet(network.encoder, "running"), groups),
        "groups, ours, per frame": (FrozenGroupNet(network.encoder, "frame"), groups),
        "cheap front": (SurfaceEncoder(network.shape.channels, GRID_HW, SIDE), cloud),
    }


def measure(all_of_them: dict[str, Contender]) -> dict[str, dict[str, float]]:
    """Give each one's best time in milliseconds, and its products in GFLOP."""
    best_ms: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        sessions = {
            name: _session(*contender, Path(folder) / "graph.onnx")
            for name, contender in all_of_them.items()
        }
        for _ in range(N_ROUNDS):
            for name, session in sessions.items():
                fed = {k: v.numpy() for k, v in all_of_them[name][1].items()}
                began = time.perf_counter()
                session.run(None, fed)
                took_ms = (time.perf_counter() - began) * 1e3
                best_ms[name] = min(best_ms.get(name, took_ms), took_ms)
    return {
        name: {"ms": round(best_ms[name], 1), "gflop": round(_gflop(*contender), 2)}
        for name, contender in all_of_them.items()
    }


def _session(network: nn.Module, tensors: dict[str, Tensor], file: Path) -> ort.InferenceSession:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the older exporter is deprecated, and says so
        torch.onnx.export(
            network.eval(), tuple(tensors.values()), file, dynamo=False, opset_version=OPSET,
            input_names=list(tensors),
        )  # fmt: skip
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(file, options)


def _gflop(network: nn.Module, tensors: dict[str, Tensor]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta")(*(tensor.to("meta") for tensor in tensors.values()))
    return float(counter.get_total_flops()) / 1e9


if __name__ == "__main__":
    sys.exit(main())
