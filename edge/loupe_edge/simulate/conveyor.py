"""The belt in time: which part is where in which frame, and what is known of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from loupe_calibration.intrinsics import project
from loupe_edge.simulate.lighting import Light, draw_light
from loupe_edge.simulate.making import Riding, Ticket, make_part
from loupe_edge.simulate.optics import SLACK_M, Optics, gate_spec, optics
from loupe_edge.simulate.parts import good_relief
from loupe_edge.simulate.relief import Mask, grid_mm
from loupe_edge.simulate.render import render, truth_mask
from loupe_edge.simulate.scenario import KindName, Scenario
from loupe_edge.simulate.sensor import expose, measure
from loupe_models.frame import Label, Rect

STEP_M = 0.021  # the belt moves this far between exposures: 0.63 m/s at 30 frames a second
PITCH_M = 0.084 + SLACK_M + 0.006  # a part, its neighbour's distance, and the region's clear strips
GAP_SHARE = 0.04  # now and then a place on the belt stays empty
SIGHT_M = 0.34  # a part farther than this along the belt is in neither view
EMPTY_FRAMES = 3  # before the first part comes and after the last has gone
LATERAL_M = 0.004
YAW_RAD = math.radians(2.5)


@dataclass(frozen=True, slots=True)
class SimulatedFrame:
    """One exposure of the simulated belt.

    Attributes:
        rgb: (H, W, 3) uint8 of the colour viewpoint.
        depth: (H, W) uint16 of the depth viewpoint, not aligned, units of `DEPTH_SCALE_M`.
        label: `part_id` is None unless one part lies wholly inside the gate's region.
        mask: (H, W) truth of a defect in colour pixels; None where the label names no defect.
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.uint16]
    label: Label
    mask: Mask | None


def n_frames(scenario: Scenario) -> int:
    """Count the frames that a scenario gives."""
    last = tickets(scenario)[-1].start_m
    return math.ceil((last + PITCH_M) / STEP_M) + EMPTY_FRAMES


def frames(scenario: Scenario) -> Iterator[SimulatedFrame]:
    """Run the belt, one frame after the other; the same scenario gives the same frames."""
    view = optics(scenario.width_px, scenario.height_px)
    waiting = list(tickets(scenario))
    on_belt: list[Riding] = []
    for k in range(n_frames(scenario)):
        position_m = k * STEP_M
        while waiting and waiting[0].start_m - position_m < SIGHT_M:
            on_belt.append(make_part(waiting.pop(0), scenario))
        on_belt = [part for part in on_belt if position_m - part.ticket.start_m < SIGHT_M]
        yield _frame(view, scenario, on_belt, k)


def has_depth(scenario: Scenario, index: int) -> bool:
    """Whether the camera's depth is on in a frame, counted from 0."""
    if scenario.depth_off is None:
        return True
    starts_m = [ticket.start_m for ticket in tickets(scenario)]
    off_m, on_m = (
        starts_m[part] - PITCH_M / 2 if part < len(starts_m) else math.inf
        for part in scenario.depth_off
    )
    return not off_m <= index * STEP_M < on_m


@lru_cache(maxsize=4)
def tickets(scenario: Scenario) -> tuple[Ticket, ...]:
    """Decide on every part: kind, defect, place on the belt."""
    rng = np.random.default_rng((scenario.seed, 0))
    n_defects = round(scenario.n_parts * scenario.defect_share)
    bad = rng.permutation(scenario.n_parts)[:n_defects].tolist()
    names = {part: scenario.defects[k % len(scenario.defects)] for k, part in enumerate(bad)}
    start_m = PITCH_M / 2 + EMPTY_FRAMES * STEP_M
    made = []
    for index in range(scenario.n_parts):
        kind = scenario.kinds[int(rng.integers(len(scenario.kinds)))]
        y_m, yaw_rad = LATERAL_M * rng.uniform(-1, 1), YAW_RAD * rng.uniform(-1, 1)
        made.append(Ticket(index, kind, names.get(index), start_m, y_m, yaw_rad))
        start_m += PITCH_M * (2 if rng.random() < GAP_SHARE else 1) + 0.004 * rng.random()
    return tuple(made)


def _frame(view: Optics, scenario: Scenario, on_belt: list[Riding], index: int) -> SimulatedFrame:
    position_m = index * STEP_M
    rng = np.random.default_rng((scenario.seed, 2, index))
    parts = tuple(part.at(position_m) for part in on_belt)
    clean = render(view, parts, position_m)
    light = _light_now(on_belt, position_m, scenario, rng)
    inside = _wholly_inside(view, scenario, on_belt, position_m)
    label, mask = Label(source="simulated"), None
    if inside is not None:
        mask = truth_mask(view, inside.at(position_m))
        label = _label(inside)
    rgb = expose(clean.colour, light, rng)
    return SimulatedFrame(rgb, measure(clean, view.depth, rng), label, mask)


def _label(part: Riding) -> Label:
    defect = part.defect
    return Label(
        source="simulated",
        part_id=f"{part.ticket.kind}-{part.ticket.index:05d}",
        kind="good" if defect is None else "defect",
        defect=None if defect is None else defect.name,
        visible_in=() if defect is None else defect.visible_in,
    )


def _light_now(
    on_belt: list[Riding], position_m: float, scenario: Scenario, rng: np.random.Generator
) -> Light:
    """The lamp follows whichever part is nearest, and flickers."""
    flicker = 1 + 0.012 * scenario.light_variation * float(rng.standard_normal())
    if not on_belt:
        light = draw_light(0.0, rng)
        return replace(light, brightness=flicker)
    nearest = min(on_belt, key=lambda part: abs(position_m - part.ticket.start_m))
    return replace(nearest.light, brightness=nearest.light.brightness * flicker)


def _wholly_inside(
    view: Optics, scenario: Scenario, on_belt: list[Riding], position_m: float
) -> Riding | None:
    region = gate_spec(scenario.width_px, scenario.height_px).region_px
    for part in on_belt:
        if region is not None and _is_within(region, view, part, position_m):
            return part
    return None


def _is_within(region: Rect, view: Optics, part: Riding, position_m: float) -> bool:
    outline = _outline(part.ticket.kind)
    seen = view.belt_from_rgb.inverse().apply(part.at(position_m).belt_from_part.apply(outline))
    uv = project(seen, view.rgb)
    low, high = uv.min(axis=0), uv.max(axis=0)
    return bool(
        low[0] >= region.x_px
        and low[1] >= region.y_px
        and high[0] < region.x_px + region.width_px
        and high[1] < region.y_px + region.height_px
    )


@lru_cache(maxsize=8)
def _outline(kind: KindName) -> npt.NDArray[np.float32]:
    """Every fifth sample of a kind's surface, (n, 3) metres in the part's frame."""
    good = good_relief(kind)
    x, y = grid_mm()
    points = np.stack([x, y, good.height_mm], axis=-1)[good.is_part][::5]
    return np.asarray(points / 1000, np.float32)
