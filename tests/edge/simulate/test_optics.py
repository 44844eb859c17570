"""The camera over the belt, and the gate that others copy from it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from loupe_calibration.intrinsics import project
from loupe_edge.simulate import gate_spec
from loupe_edge.simulate.optics import CAMERA_HEIGHT_M, optics
from loupe_models.gate import GateSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_the_belt_lies_below_the_camera() -> None:
    belt_from_rgb = optics().belt_from_rgb
    assert belt_from_rgb.apply(np.array((0.0, 0.0, CAMERA_HEIGHT_M))) == pytest.approx(0, abs=1e-6)
    assert belt_from_rgb.translation_m[2] == pytest.approx(CAMERA_HEIGHT_M, rel=1e-3)


def test_depth_sees_from_fifteen_millimetres_away() -> None:
    view = optics()
    assert np.linalg.norm(view.rgb_from_depth.translation_m) == pytest.approx(0.015, abs=5e-4)
    assert view.depth != view.rgb


@pytest.mark.parametrize("size", [(640, 480), (320, 240), (1280, 960)])
def test_every_size_sees_the_same(size: tuple[int, int]) -> None:
    # The top left corner of the picture is half a pixel up and left of the first pixel's centre.
    corner = np.array((-0.14, -0.1, CAMERA_HEIGHT_M))
    there = (project(corner, optics(*size).rgb) + 0.5) / size
    assert there == pytest.approx((project(corner, optics().rgb) + 0.5) / (640, 480))


def test_the_demo_recipe_gates_as_the_simulator_says(repository: Path) -> None:
    recipe = tomllib.loads((repository / "trainer/recipes/demo.toml").read_text())
    assert GateSpec.model_validate(recipe["gate"]) == gate_spec()
