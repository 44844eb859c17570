"""The part kinds: what each is made of, and where its fasteners and its printed mark belong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from loupe_edge.simulate.relief import (
    Relief,
    Rgb,
    Spot,
    Workpiece,
    bar,
    block,
    cover,
    disc,
    lettering,
)
from loupe_edge.simulate.scenario import KindName
from loupe_edge.simulate.texture import FieldName

FASTENER_RADIUS_MM = 3.4

ALUMINIUM: Rgb = (0.52, 0.53, 0.55)
MACHINED: Rgb = (0.61, 0.62, 0.63)
ZINC: Rgb = (0.60, 0.57, 0.49)
POLYMER: Rgb = (0.74, 0.36, 0.17)
BRASS: Rgb = (0.80, 0.64, 0.30)
SHADE: Rgb = (0.05, 0.05, 0.05)
INK: Rgb = (0.10, 0.10, 0.12)
WHITE_INK: Rgb = (0.88, 0.87, 0.82)


@dataclass(frozen=True, slots=True)
class Layout:
    """What is mounted and printed on a part, and where.

    Attributes:
        fasteners: Screws or inserts; their seats are part of the body and always there.
        mark: Centre of the second printed line, which belongs in a printed frame; None where it
            was forgotten.
    """

    fasteners: tuple[Spot, ...]
    mark: Spot | None


@dataclass(frozen=True, slots=True)
class Finish:
    """How the surface varies from part to part.

    Attributes:
        grain: Fine texture, and its deviation as a share of the albedo.
        bump: How much the grain tilts the surface for light.
        cloud: Deviation of large, soft blotches.
    """

    grain: FieldName
    grain_share: float
    bump: float
    cloud: float


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of part."""

    name: KindName
    layout: Layout
    finish: Finish
    draw: Callable[[Layout], Relief]


def _screw(piece: Workpiece, at: Spot) -> None:
    piece.add(disc(at, FASTENER_RADIUS_MM), 2.2, edge_mm=1.4)
    piece.paint(cover(disc(at, FASTENER_RADIUS_MM)), ZINC, 0.8)
    for angle in (0.6, 0.6 + math.pi / 2):
        dx, dy = 1.9 * math.cos(angle), 1.9 * math.sin(angle)
        cross = bar(Spot(at.x_mm - dx, at.y_mm - dy), Spot(at.x_mm + dx, at.y_mm + dy), 0.9)
        piece.paint(cover(cross, 0.6), (0.16, 0.15, 0.13), 0.2)


def _insert(piece: Workpiece, at: Spot) -> None:
    piece.add(disc(at, FASTENER_RADIUS_MM), 1.4, edge_mm=0.8)
    piece.paint(cover(disc(at, FASTENER_RADIUS_MM)), BRASS, 0.9)
    piece.add(disc(at, 1.6), -3.0, edge_mm=0.8)
    piece.paint(cover(disc(at, 1.6)), SHADE, 0.0)


def _field(piece: Workpiece, home: Spot, ink: Rgb) -> None:
    """Print the frame that the second line belongs in."""
    inner = block(home, 17.5, 6.2, 0.8)
    piece.paint(cover(abs(inner) - 0.25, 0.5), ink, 0.2)


def _seat(piece: Workpiece, at: Spot, colour: Rgb) -> None:
    """Draw what a fastener hides: a spot-faced ring with a tapped hole."""
    piece.add(disc(at, FASTENER_RADIUS_MM + 1.3), -0.8, edge_mm=0.7)
    piece.paint(cover(disc(at, FASTENER_RADIUS_MM + 1.3)), colour, 0.5)
    piece.add(disc(at, 2.0), -4.0, edge_mm=0.8)
    piece.paint(cover(disc(at, 2.0)), SHADE, 0.0)


def _bracket(layout: Layout) -> Relief:
    """A brushed aluminium bracket: two bores, a slot, two pressed ribs, four screws, a mark."""
    piece = Workpiece()
    body = block(Spot(0, 0), 76, 112, 11)
    piece.add(body, 6.0, edge_mm=1.8)
    piece.paint(cover(body - 3, 0.1), ALUMINIUM, 0.7)
    for x in (-22.0, 22.0):
        rib = bar(Spot(x, -14), Spot(x, 14), 5.5)
        piece.add(rib, 2.2, edge_mm=2.6)
    pad = block(Spot(0, 0), 31, 27, 2.5)
    piece.add(pad, -0.8, edge_mm=0.7)
    piece.paint(cover(pad), MACHINED, 0.55)
    for y in (-36.0, 36.0):
        ring = disc(Spot(0, y), 11.5)
        piece.add(ring, 1.5, edge_mm=1.0)
        piece.paint(cover(ring), MACHINED, 0.75)
    piece.cut_through(disc(Spot(0, 36), 7.5))
    piece.cut_through(block(Spot(0, -36), 13, 8, 3.9))
    piece.paint(lettering("LP 204", Spot(0, 5.5), 5.2), INK, 0.2)
    _field(piece, Spot(0, -5.5), INK)
    for home in BRACKET.fasteners:
        _seat(piece, home, MACHINED)
    if layout.mark is not None:
        piece.paint(lettering("A7-13", layout.mark, 3.2), INK, 0.2)
    for at in layout.fasteners:
        _screw(piece, at)
    return piece.finish()


def _cover(layout: Layout) -> Relief:
    """A moulded cover: flange, dome with a ring, six ribs, vents, three inserts, white print."""
    piece = Workpiece()
    flange = block(Spot(0, 0), 72, 108, 26)
    piece.add(flange, 4.5, edge_mm=1.8)
    piece.paint(cover(flange - 3, 0.1), POLYMER, 0.35)
    dome = disc(Spot(0, 10), 25)
    piece.add(dome, 3.5, edge_mm=3.0)
    for k in range(6):
        angle = math.pi / 6 + k * math.pi / 3
        inner = Spot(12.5 * math.cos(angle), 10 + 12.5 * math.sin(angle))
        outer = Spot(23 * math.cos(angle), 10 + 23 * math.sin(angle))
        piece.add(bar(inner, outer, 2.6), 1.8, edge_mm=1.4)
    piece.add(disc(Spot(0, 10), 11.5), 2.2, edge_mm=1.6)
    piece.add(disc(Spot(0, 10), 8.0), -1.6, edge_mm=1.2)
    piece.cut_through(disc(Spot(0, 10), 4.2))
    for x in (-9.0, 0.0, 9.0):
        piece.cut_through(block(Spot(x, -40.5), 5.2, 11, 2.5))
    for home in COVER.fasteners:
        piece.add(disc(home, FASTENER_RADIUS_MM + 2.9), 1.6, edge_mm=1.2)
        _seat(piece, home, (0.62, 0.31, 0.16))
    _field(piece, Spot(0, -29.7), WHITE_INK)
    piece.paint(lettering("LOUPE", Spot(0, -22.5), 5.0), WHITE_INK, 0.2)
    if layout.mark is not None:
        piece.paint(lettering("B2 07", layout.mark, 3.0), WHITE_INK, 0.2)
    for at in layout.fasteners:
        _insert(piece, at)
    return piece.finish()


BRACKET = Layout(
    fasteners=(Spot(-27, 44), Spot(27, 44), Spot(-27, -44), Spot(27, -44)), mark=Spot(0, -5.5)
)
COVER = Layout(fasteners=(Spot(-25, -25), Spot(25, -25), Spot(0, 44)), mark=Spot(0, -29.7))

KINDS: dict[KindName, Kind] = {
    "bracket": Kind("bracket", BRACKET, Finish("brushed", 0.014, 0.008, 0.018), _bracket),
    "cover": Kind("cover", COVER, Finish("grain", 0.022, 0.03, 0.03), _cover),
}


@lru_cache(maxsize=8)
def good_relief(name: KindName) -> Relief:
    """Draw a kind as it should be; drawn once."""
    kind = KINDS[name]
    return kind.draw(kind.layout)
