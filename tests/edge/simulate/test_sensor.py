"""Noise and holes are a stereo camera's."""

import numpy as np
import pytest

from loupe_edge.simulate.lighting import Light
from loupe_edge.simulate.optics import DEPTH_SCALE_M, STEREO_BASELINE_M, optics
from loupe_edge.simulate.render import Rendered
from loupe_edge.simulate.sensor import DISPARITY_NOISE_PX, EDGE_WINDOW_HW, expose, measure

DEPTH = optics().depth
SHAPE = (480, 640)
STILL = Light((0.0, 0.0, 1.0), 1.0, (1.0, 1.0, 1.0), 0.3)


def seen(depth_m: np.ndarray, silence: int = 20) -> Rendered:
    everywhere = (slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    return Rendered(
        np.zeros((*SHAPE, 3), np.uint8), depth_m.astype(np.float32),
        np.full(SHAPE, silence, np.uint8), (everywhere,),
    )  # fmt: skip


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("z_m", [0.3, 0.6, 0.9])
def test_depth_noise_grows_with_the_square_of_the_distance(z_m: float) -> None:
    depth_m = measure(seen(np.full(SHAPE, z_m)), DEPTH, rng()) * DEPTH_SCALE_M
    expected_m = DISPARITY_NOISE_PX * z_m**2 / (DEPTH.fx_px * STEREO_BASELINE_M)
    assert depth_m.mean() == pytest.approx(z_m, abs=expected_m)
    assert depth_m.std() == pytest.approx(expected_m, rel=0.1)


def test_an_ordinary_surface_has_no_holes() -> None:
    assert (measure(seen(np.full(SHAPE, 0.3)), DEPTH, rng()) > 0).all()


def test_a_silent_surface_has_hardly_anything_else() -> None:
    depth = measure(seen(np.full(SHAPE, 0.3), silence=250), DEPTH, rng())
    assert (depth == 0).mean() > 0.9


def test_a_step_casts_a_shadow_on_one_side() -> None:
    depth_m = np.full(SHAPE, 0.32)
    depth_m[:, 300:400] = 0.28
    holes = (measure(seen(depth_m), DEPTH, rng()) == 0).mean(axis=0)
    n_hidden_px = DEPTH.fx_px * STEREO_BASELINE_M * (1 / 0.28 - 1 / 0.32)
    n_lost_px = n_hidden_px + EDGE_WINDOW_HW[1] - 1
    assert holes[280:304].sum() == pytest.approx(n_lost_px, abs=1.5)
    assert holes[304:].sum() == 0


@pytest.mark.parametrize("grey", [40, 160])
def test_colour_noise_grows_with_the_light(grey: int) -> None:
    frame = expose(np.full((*SHAPE, 3), grey, np.uint8), STILL, rng())
    assert frame.mean() == pytest.approx(grey, abs=0.3)
    assert frame.std() == pytest.approx(np.sqrt(1.4**2 + 0.16**2 * grey), rel=0.15)


def test_the_lamp_sets_brightness_and_tint() -> None:
    warm = Light((0.0, 0.0, 1.0), 1.2, (1.03, 1.0, 0.97), 0.3)
    frame = expose(np.full((*SHAPE, 3), 100, np.uint8), warm, rng())
    assert frame.mean(axis=(0, 1)) == pytest.approx((123.6, 120, 116.4), abs=1)
