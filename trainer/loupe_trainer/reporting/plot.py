"""A small drawing surface: two linear axes with ticks, and lines, dots and bars on it, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import numpy.typing as npt

LEFT, RIGHT, TOP, BOTTOM = 56, 26, 14, 44
INK, FAINT = "#1a1a1a", "#dddddd"


@dataclass(slots=True)
class Plot:
    """A plot of a given size in SVG units, about a pixel each.

    Attributes:
        x_range: Values at the left and the right end; the right is above the left.
        y_range: Values at the bottom and the top.
        marks: What has been drawn.
    """

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    marks: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        """Give a value's place from the left."""
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Give a value's place from the top."""
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)

    def axes(
        self, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]],
        x_name: str, y_name: str,
    ) -> None:  # fmt: skip
        """Draw the grid with its labels.

        Args:
            x_ticks: Values and what stands below them.
            y_ticks: Values and what stands beside them.
            x_name: What goes to the right.
            y_name: What goes up.
        """
        left, right = LEFT, self.width - RIGHT
        bottom = self.height - BOTTOM
        for value, name in x_ticks:
            self.marks.append(_line(self.x(value), TOP, self.x(value), bottom, FAINT))
            self.marks.append(_text(self.x(value), bottom + 17, name, "middle"))
        for value, name in y_ticks:
            self.marks.append(_line(left, self.y(value), right, self.y(value), FAINT))
            self.marks.append(_text(left - 7, self.y(value) + 4, name, "end"))
        self.marks.append(_line(left, bottom, right, bottom, INK))
        self.marks.append(_line(left, TOP, left, bottom, INK))
        self.marks.append(_text((left + right) / 2, self.height - 6, x_name, "middle"))
        middle = (TOP + bottom) / 2
        turned = f'transform="rotate(-90 14 {middle:.1f})"'
        self.marks.append(_text(14, middle, y_name, "middle", turned))

    def line(self, xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64], colour: str) -> None:
        """Draw a line through points."""
        points = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in zip(xs, ys, strict=True))
        self.marks.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        )

    def upright(self, value: float, name: str, is_left: bool) -> None:
        """Draw a dashed upright line with its name at the top, on its left or its right."""
        at = self.x(value)
        dashed = 'stroke-width="2" stroke-dasharray="6 4"'
        self.marks.append(_line(at, TOP, at, self.height - BOTTOM, INK, dashed))
        self.marks.append(
            _text(at - 5 if is_left else at + 5, TOP + 11, name, "end" if is_left else "start")
        )

    def dot(self, x: float, y: float, name: str) -> None:
        """Mark a point, and name it on the side that has room."""
        at_x, at_y = self.x(x), self.y(y)
        is_right = at_x < self.width * 0.55
        below = at_y + 22 if at_y < self.height * 0.5 else at_y - 14
        self.marks.append(
            f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="6" fill="#fff" stroke="{INK}" '
            f'stroke-width="2.5"/>'
        )
        self.marks.append(
            _text(at_x + 8 if is_right else at_x - 8, below, name, "start" if is_right else "end")
        )

    def bar(self, left: float, right: float, y: float, colour: str) -> None:
        """Draw a bar from zero to `y`."""
        top, bottom = sorted((self.y(y), self.y(0)))
        width = max(0.5, self.x(right) - self.x(left) - 1)
        self.marks.append(
            f'<rect x="{self.x(left):.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{bottom - top:.1f}" fill="{colour}"/>'
        )

    def svg(self, title: str) -> str:
        """Give the drawing, named for those who cannot see it."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(title)}">{"".join(self.marks)}</svg>'
        )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'
    )


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'
