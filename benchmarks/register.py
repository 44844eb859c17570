"""Depth moved to the colour grid at 640 x 480: ours and librealsense's `align`, side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import stand_in
from harness import Budget, TimesUs, finish, paired_ratio, take_turns

from loupe_calibration.registration import Registration
from loupe_edge.bench import quantiles_ms
from loupe_edge.realsense import SdkObject, load_sdk

N_ROUNDS, N_WARM_UP = 200, 20
MOST_OF_ALIGN = 0.75


def main() -> int:
    """Measure both on one exposure, in turns, so that they share the machine's moods."""
    sdk = load_sdk()
    with stand_in.exposure() as frameset:
        times_us, figures = compare(frameset, sdk.align(sdk.stream.color))
    ratio = paired_ratio(times_us, "ours", "librealsense")
    budget = Budget("ours over librealsense's align, p50", ratio, MOST_OF_ALIGN, "")
    return finish("register", {**figures, "ours_over_align": round(ratio, 3)}, [budget])


def compare(frameset: SdkObject, align: SdkObject) -> tuple[TimesUs, dict[str, dict[str, float]]]:
    """Time both on the same pixels, and look at what each makes of the flat part."""
    registration = Registration(
        stand_in.DEPTH, stand_in.RGB, stand_in.RGB_FROM_DEPTH, stand_in.DEPTH_SCALE_M
    )
    depth = np.array(frameset.get_depth_frame().get_data(), np.uint16)

    def aligned() -> npt.NDArray[np.uint16]:
        return np.asarray(align.process(frameset).get_depth_frame().get_data(), np.uint16)

    contenders: dict[str, Callable[[], npt.NDArray[np.uint16]]] = {
        "ours": lambda: registration.apply(depth),
        "librealsense": aligned,
    }
    times_us = take_turns(contenders, N_ROUNDS, N_WARM_UP)
    return times_us, {
        name: {**quantiles_ms(times_us[name]), **_quality(run()[180:300, 240:400])}
        for name, run in contenders.items()
    }


def _quality(part: npt.NDArray[np.uint16]) -> dict[str, float]:
    """Tell how far the surface is pulled up, of 5 units of noise, and how much of it is a hole."""
    known = part[part > 0].astype(float)
    return {
        "above_part_units": round(stand_in.PART_DEPTH - float(known.mean()), 2),
        "holes_fraction": round(float((part == 0).mean()), 4),
    }


if __name__ == "__main__":
    sys.exit(main())
