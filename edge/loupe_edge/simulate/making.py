"""From a ticket to a part on the belt: surface, defect, lamp, and what rays will meet."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from loupe_calibration.transform import Transform
from loupe_edge.simulate.defects import Defect, draw_defect
from loupe_edge.simulate.lighting import Light, Surface, draw_light, prepare_surface, shade
from loupe_edge.simulate.parts import KINDS, good_relief
from loupe_edge.simulate.raycast import Scene
from loupe_edge.simulate.relief import Relief
from loupe_edge.simulate.render import Placed, solid
from loupe_edge.simulate.scenario import DefectName, KindName, Scenario


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is decided about a part before it is made."""

    index: int
    kind: KindName
    defect: DefectName | None
    start_m: float
    y_m: float
    yaw_rad: float


@dataclass(frozen=True, slots=True)
class Riding:
    """A part on its way, with its lamp."""

    ticket: Ticket
    placed: Placed
    light: Light
    defect: Defect | None

    def at(self, position_m: float) -> Placed:
        """Place it where the belt has carried it."""
        ticket = self.ticket
        x_m = position_m - ticket.start_m
        cos, sin = math.cos(ticket.yaw_rad), math.sin(ticket.yaw_rad)
        pose = Transform(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)), (x_m, ticket.y_m, 0))
        return replace(self.placed, belt_from_part=pose)


def make_part(ticket: Ticket, scenario: Scenario) -> Riding:
    """Make a part; the same ticket without its defect gives the same part, sound."""
    rng = np.random.default_rng((scenario.seed, 1, ticket.index))
    kind = KINDS[ticket.kind]
    light = draw_light(scenario.light_variation, rng)
    grain_rng, defect_rng = rng.spawn(2)  # so that a defect leaves the grain as it was
    sound = _good_scene(ticket.kind)
    if ticket.defect is None:
        look = shade(_good_surface(ticket.kind), kind.finish, light, grain_rng)
        part = Placed(sound, sound, sound, look, None, Transform.identity())
        return Riding(ticket, part, light, None)
    defect = draw_defect(ticket.defect, ticket.kind, defect_rng)
    look = shade(_surface(defect.seen, ticket.kind), kind.finish, light, grain_rng)
    shape = _scene(defect.shape, ticket.kind)
    seen = shape if defect.seen is defect.shape else sound
    footprint = defect.footprint.astype(np.uint8) * np.uint8(255)
    part = Placed(seen, shape, sound, look, footprint, Transform.identity())
    return Riding(ticket, part, light, defect)


@lru_cache(maxsize=8)
def _good_scene(kind: KindName) -> Scene:
    return solid(good_relief(kind))


@lru_cache(maxsize=8)
def _good_surface(kind: KindName) -> Surface:
    return prepare_surface(good_relief(kind))


def _scene(relief: Relief, kind: KindName) -> Scene:
    """Build a scene only where the shape has changed."""
    same = relief.height_mm is good_relief(kind).height_mm
    return _good_scene(kind) if same else solid(relief)


def _surface(relief: Relief, kind: KindName) -> Surface:
    same = relief.height_mm is good_relief(kind).height_mm
    return replace(_good_surface(kind), relief=relief) if same else prepare_surface(relief)
