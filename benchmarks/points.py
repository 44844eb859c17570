"""Sampling 1,024 of 16,384 points and grouping 128 around each: ours, and Open3D's sampling."""

from __future__ import annotations

import sys

import numpy as np
import open3d
from harness import Budget, finish, paired_ratio, take_turns

from loupe_edge.bench import quantiles_ms
from loupe_models.groups import group_points
from loupe_models.points import grid_points, sample_farthest

SIDE_PX, N_CENTRES, SIZE = 128, 1024, 128
N_ROUNDS, N_WARM_UP = 30, 3
LIMIT_MS = 60.0


def main() -> int:
    """Measure on one uneven surface, in turns, so that all share the machine's moods."""
    v, u = np.mgrid[:SIDE_PX, :SIDE_PX]
    uneven = np.random.default_rng(0).normal(0, 0.0003, u.shape)
    surface = np.stack([u * 0.001, v * 0.001, 0.03 + 0.01 * np.sin(u / 9) + uneven], axis=-1)
    xyz, valid = surface.astype(np.float32), np.ones(u.shape, np.uint8)
    chosen = sample_farthest(grid_points(xyz, valid), N_CENTRES)
    peer = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(surface.reshape(-1, 3)))
    sides = {
        "sample": lambda: sample_farthest(grid_points(xyz, valid), N_CENTRES),
        "group": lambda: group_points(xyz, valid, chosen, SIZE),
        "open3d_sample": lambda: peer.farthest_point_down_sample(N_CENTRES),
    }
    times_us = take_turns(sides, N_ROUNDS, N_WARM_UP)
    figures = {name: quantiles_ms(spent_us) for name, spent_us in times_us.items()}
    both_ms = figures["sample"]["p50_ms"] + figures["group"]["p50_ms"]
    ratio = round(paired_ratio(times_us, "open3d_sample", "sample"), 2)
    budget = Budget("sample 1,024 of 16,384 and group 128, p50", both_ms, LIMIT_MS, "ms")
    return finish("points", {**figures, "open3d_over_our_sampling": ratio}, [budget])


if __name__ == "__main__":
    sys.exit(main())
