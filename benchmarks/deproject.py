"""Depth map to organized point cloud at 640 x 480: ours, librealsense's, Open3D's, side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import open3d
import stand_in
from harness import Budget, TimesUs, finish, paired_ratio, take_turns

from loupe_calibration.deproject import deproject
from loupe_edge.bench import quantiles_ms
from loupe_edge.realsense import SdkObject, load_sdk

N_ROUNDS, N_WARM_UP = 300, 20
LIMIT_MS = 0.5


def main() -> int:
    """Measure the three on one depth map, in turns, so that they share the machine's moods."""
    with stand_in.exposure() as frameset:
        times_us = compare(frameset.get_depth_frame(), load_sdk().pointcloud())
    figures = {name: quantiles_ms(spent_us) for name, spent_us in times_us.items()}
    ratios = {
        f"{name}_over_ours": round(paired_ratio(times_us, name, "ours"), 2)
        for name in times_us
        if name != "ours"
    }
    budget = Budget("deproject, 640x480, p50", figures["ours"]["p50_ms"], LIMIT_MS, "ms")
    return finish("deproject", {**figures, **ratios, "size": "640x480"}, [budget])


def compare(image: SdkObject, cloud: SdkObject) -> TimesUs:
    """Time each on the same pixels and check that they agree."""
    depth = np.array(image.get_data(), np.uint16)
    lens = stand_in.DEPTH
    picture = open3d.geometry.Image(depth)  # type: ignore[call-overload]  # takes any buffer
    pinhole = open3d.camera.PinholeCameraIntrinsic(
        lens.width_px, lens.height_px, lens.fx_px, lens.fy_px, lens.cx_px, lens.cy_px
    )
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: deproject(depth, lens, stand_in.DEPTH_SCALE_M),
        "librealsense": lambda: np.asarray(cloud.calculate(image).get_vertices()),
        "open3d": lambda: open3d.geometry.PointCloud.create_from_depth_image(
            picture,
            pinhole,
            depth_scale=1 / stand_in.DEPTH_SCALE_M,
            depth_trunc=100.0,
            project_valid_depth_only=False,
        ),
    }
    check_agreement(contenders)
    return take_turns(contenders, N_ROUNDS, N_WARM_UP)


def check_agreement(contenders: dict[str, Callable[[], object]]) -> None:
    """A faster wrong answer is not faster: librealsense's points must be ours, to 0.1 mm."""
    ours = np.nan_to_num(np.asarray(contenders["ours"]())).reshape(-1, 3)
    theirs = np.asarray(contenders["librealsense"]()).view(np.float32).reshape(-1, 3)
    worst_m = float(np.abs(ours - theirs).max())
    if not worst_m < 1e-4:
        sys.exit(f"ours and librealsense's points differ by {worst_m:.2g} m")


if __name__ == "__main__":
    sys.exit(main())
