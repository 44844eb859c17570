"""Each defect changes what it says, where it says, and nothing else."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from loupe_edge.simulate.defects import AREA_SHARE, area_share, draw_defect
from loupe_edge.simulate.making import Riding, Ticket, make_part
from loupe_edge.simulate.optics import optics
from loupe_edge.simulate.parts import good_relief
from loupe_edge.simulate.render import Rendered, render, truth_mask
from loupe_edge.simulate.scenario import DEFECT_NAMES, KIND_NAMES, DefectName, KindName, Scenario

VIEW = optics()
SCENARIO = Scenario(n_parts=1, seed=12)
IN_COLOUR = tuple(name for name in DEFECT_NAMES if name != "dent")


@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize("name", DEFECT_NAMES)
def test_area_and_streams(name: DefectName, kind: KindName) -> None:
    good = good_relief(kind)
    for seed in range(6):
        defect = draw_defect(name, kind, np.random.default_rng(seed))
        assert AREA_SHARE[0] <= area_share(defect.footprint, kind) <= AREA_SHARE[1]
        in_colour = not np.array_equal(defect.seen.albedo, good.albedo)
        assert in_colour == ("rgb" in defect.visible_in)
        in_depth = np.abs(defect.shape.height_mm - good.height_mm).max() > 0.15
        assert in_depth or "depth" not in defect.visible_in


def test_area_bounds_are_the_promised_ones() -> None:
    assert AREA_SHARE == (0.0005, 0.01)


def test_strength_reaches_from_plain_to_faint() -> None:
    rng = np.random.default_rng(0)
    strengths = [draw_defect("stain", "cover", rng).strength for _ in range(150)]
    assert min(strengths) < 0.35
    assert np.median(strengths) > 0.6
    assert max(strengths) > 0.95


def ride(name: DefectName | None, kind: KindName, index: int) -> Riding:
    return make_part(Ticket(index, kind, name, 0.0, 0.002, 0.03), SCENARIO)


def sound_and_damaged(
    name: DefectName, kind: KindName, min_strength: float = 0.0
) -> tuple[Riding, Rendered, Rendered]:
    """Render one part with and without its defect, free of noise."""
    for index in range(100):
        damaged = ride(name, kind, index)
        if damaged.defect is not None and damaged.defect.strength >= min_strength:
            break
    sound = make_part(replace(damaged.ticket, defect=None), SCENARIO)
    views = [render(VIEW, (part.at(0.0),), 0.0) for part in (sound, damaged)]
    return damaged, views[0], views[1]


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_dent_is_in_depth_only(kind: KindName) -> None:
    part, sound, damaged = sound_and_damaged("dent", kind, min_strength=0.5)
    assert np.array_equal(sound.colour, damaged.colour)
    deeper = damaged.depth_m - sound.depth_m
    assert deeper.max() > 0.001
    assert deeper.min() > -0.0005
    assert part.defect is not None
    assert part.defect.visible_in == ("depth",)


@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize("name", ["stain", "scratch"])
def test_a_stain_and_a_scratch_are_in_colour_only(name: DefectName, kind: KindName) -> None:
    part, sound, damaged = sound_and_damaged(name, kind, min_strength=0.5)
    assert np.array_equal(sound.depth_m, damaged.depth_m)
    assert not np.array_equal(sound.colour, damaged.colour)
    assert part.defect is not None
    assert part.defect.visible_in == ("rgb",)


@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize("name", IN_COLOUR)
def test_the_mask_lies_on_the_change(name: DefectName, kind: KindName) -> None:
    part, sound, damaged = sound_and_damaged(name, kind, min_strength=0.6)
    mask = truth_mask(VIEW, part.at(0.0))
    assert mask is not None
    away = cv2.absdiff(sound.colour, damaged.colour).max(axis=-1)
    assert (away[mask] > 4).mean() > 0.5
    # A feature's shadow, and the lens, reach a little beyond it.
    assert away[~grown(mask, 9)].max() <= 8
    assert (away > 25)[~grown(mask, 3)].sum() <= 0.25 * mask.sum()


def test_the_mask_of_a_dent_lies_on_its_place() -> None:
    part, sound, damaged = sound_and_damaged("dent", "bracket", min_strength=0.7)
    mask = truth_mask(VIEW, part.at(0.0))
    assert mask is not None
    rows, columns = np.nonzero(damaged.depth_m - sound.depth_m > 0.0005)
    depth_px = np.stack([columns, rows], axis=-1).mean(axis=0)
    z_m = float(sound.depth_m[rows, columns].mean())
    direction = ((depth_px[0] - VIEW.depth.cx_px) / VIEW.depth.fx_px,
                 (depth_px[1] - VIEW.depth.cy_px) / VIEW.depth.fy_px, 1.0)  # fmt: skip
    x, y, z = VIEW.rgb_from_depth.apply(np.array(direction) * z_m)
    seen_at = (VIEW.rgb.fx_px * x / z + VIEW.rgb.cx_px, VIEW.rgb.fy_px * y / z + VIEW.rgb.cy_px)
    centre = np.argwhere(mask).mean(axis=0)[::-1]
    assert np.hypot(*(centre - seen_at)) < 3


def test_a_good_part_has_no_mask() -> None:
    assert truth_mask(VIEW, ride(None, "cover", 0).at(0.0)) is None


def grown(mask: npt.NDArray[np.bool_], by_px: int) -> npt.NDArray[np.bool_]:
    kernel = np.ones((2 * by_px + 1, 2 * by_px + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)
