"""What CMDIAD's fronts of depth see of the simulated belt: Point-MAE, and what goes without groups.

Each front alone, without distillation: a bank of good parts, and the map's highest value for the
frames of an exam. Point-MAE with a quarter of its groups and of their points, its network small and
trained on the good parts, for no published weights are at hand; the surface front that is distilled
from it; and relief, which learns nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from cmdiad_gain import PLACE, QUIET, RELIEF, SEEDS, Trial, belt, compared
from harness import finish, say

from loupe_trainer.methods.cmdiad.method import open_cmdiad
from loupe_trainer.parity import run_torch
from loupe_trainer.run import RunFolder

GROUPS = {"n_points": 256, "group_size": 32}  # published: 1,024 of 128, sixteen times the work
FRONTS: Mapping[str, Mapping[str, object]] = {
    "point_mae": {"kind": "point_mae", **GROUPS},
    "surface": {"kind": "surface", **GROUPS},
    "relief": RELIEF,
}


def main() -> int:
    """Let each front learn and answer, with every seed that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    figures = {f"seed {seed}": with_seed(seed) for seed in parser.parse_args().seeds}
    return finish("depth_fronts", figures, [])


def with_seed(seed: int) -> dict[str, object]:
    """Give each front's AUROC by defect, with intervals over parts."""
    torch.set_num_threads(1)
    peaks, cost_ms = {}, {}
    for name, settings in FRONTS.items():
        one, fit = belt(seed, settings, "depth")
        peaks[name], cost_ms[name] = answers(one, fit, seed, RunFolder(PLACE / f"{name}-{seed}"))
        say(f"seed {seed}, {name}: {cost_ms[name]:.0f} ms a frame in torch, one thread")
    found = compared(one.exam.items, peaks)
    say(f"seed {seed}: {found}")
    return {"auroc": found, "torch_ms_a_frame": {k: round(v) for k, v in cost_ms.items()}}


def answers(
    one: Trial, fit: Mapping[str, object], seed: int, run: RunFolder
) -> tuple[dict[str, float], float]:
    """Give each frame's highest map value, and the network's p50 a frame in milliseconds."""
    alone = dict(fit) | {"distillation": {"kind": "none"}}
    method = open_cmdiad(alone, seed, Path(), ("depth",))
    detector = method.fit(one.good, [], run, QUIET)["depth"]
    peaks, times_ms = {}, []
    for item, tensors in zip(one.exam.items, one.exam, strict=True):
        began = time.perf_counter()
        _, anomaly_map = run_torch(detector, tensors)
        times_ms.append(1000 * (time.perf_counter() - began))
        peaks[item.key] = float(anomaly_map.max())
    return peaks, float(np.median(times_ms))


if __name__ == "__main__":
    sys.exit(main())
