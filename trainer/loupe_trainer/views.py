"""How frames are looked at: by one mode as at the station, by all modes of a recipe to learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from loupe_calibration.errors import LoupeError
from loupe_calibration.transform import Transform
from loupe_edge.inspector import refuse_units
from loupe_models.checked import Checked
from loupe_models.errors import FrameError
from loupe_models.frame import Frame, Rect
from loupe_models.gate import GateSpec, gate
from loupe_models.manifest import Mode
from loupe_models.preprocess import PreprocessSpec, Tensors, preprocess
from loupe_trainer.errors import DataError, RecipeError
from loupe_trainer.methods.base import Method
from loupe_trainer.recipe import Recipe


class View(Checked):
    """How a mode looks at a frame: the same three things at the station.

    Attributes:
        belt_from_camera: None where neither gate nor preprocessing needs the belt.
    """

    gate: GateSpec
    preprocess: PreprocessSpec
    belt_from_camera: Transform | None = None

    def region(self, frame: Frame) -> Rect | None:
        """Find the part; None where the gate sees no whole one."""
        return gate(frame, self.gate, self.belt_from_camera)

    def prepared(self, frame: Frame, region: Rect) -> Tensors:
        """Preprocess what lies in a region."""
        return preprocess(frame, region, self.preprocess, self.belt_from_camera).tensors

    def tensors(self, frame: Frame) -> Tensors | None:
        """Gate and preprocess; None where the gate sees no whole part."""
        region = self.region(frame)
        return None if region is None else self.prepared(frame, region)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of a frame that is learnt from.

    Attributes:
        tensors: Of the widest mode.
        modes: Those whose own gate sees the part.
    """

    tensors: Tensors
    modes: tuple[Mode, ...]


class Views(Checked):
    """How a recipe's modes look at a frame; all of them at one region.

    Attributes:
        modes: What goes into the manifest, mode by mode.
        widest: Makes the tensors of every mode in one go, and what else is learnt from; the gate
            in it is not asked.
    """

    modes: dict[Mode, View] = Field(min_length=1)
    widest: View

    @property
    def are_one(self) -> bool:
        """Whether what is learnt from is made as the only mode makes it."""
        return all(view.preprocess == self.widest.preprocess for view in self.modes.values())

    def seen(self, frame: Frame) -> Seen | None:
        """Gate in each mode and preprocess once; None where no gate sees a whole part."""
        regions = {mode: view.region(frame) for mode, view in self.modes.items()}
        seen = {mode: region for mode, region in regions.items() if region is not None}
        if not seen:
            return None
        region = next(iter(seen.values()))
        return Seen(self.widest.prepared(frame, region), tuple(seen))

    def require_equal(self, frame: Frame, seen: Seen) -> None:
        """Make sure that a mode's own preprocessing gives what the widest one gives it.

        Raises:
            RecipeError: It differs: the networks would learn from what the line never shows them.
        """
        for mode in seen.modes:
            own = self.modes[mode].tensors(frame) or {}
            for name, array in own.items():
                if not _same_bytes(array, seen.tensors.get(name)):
                    raise RecipeError(
                        f"mode {mode}: its preprocessing makes another {name} than that of all "
                        f"modes together: give the modes one size and the same steps"
                    )


def make_views(recipe: Recipe, method: Method, belt: Transform | None) -> Views:
    """Bring a recipe's gates together with its method's preprocessing.

    Args:
        recipe: Its own `[preprocess]` wins over the method's.
        method: Opened for the recipe's modes.
        belt: Where the data knows one; the recipe's wins.

    Raises:
        RecipeError: No mode of the method makes all tensors that the modes take.
    """
    belt = recipe.belt_from_camera or belt
    specs = {mode: recipe.preprocess or method.preprocess(mode) for mode in recipe.modes}
    modes = {
        mode: View(gate=recipe.gate_of(mode), preprocess=spec, belt_from_camera=belt)
        for mode, spec in specs.items()
    }
    spec = method.learnt_from() or _widest(specs, method)
    widest = View(gate=GateSpec(), preprocess=spec, belt_from_camera=belt)
    return Views(modes=modes, widest=widest)


@contextmanager
def naming(mode: Mode) -> Iterator[None]:
    """Put the mode's name before whatever is refused or fails inside."""
    try:
        yield
    except LoupeError as error:
        raise type(error)(f"mode {mode}: {error}") from error


def learnable(views: Views, frame: Frame, key: str, place: Path) -> Seen | None:
    """Look at a frame that is to be learnt from.

    Raises:
        DataError: It cannot be looked at; the message names it.
    """
    try:
        refuse_units(frame, Rect(0, 0, *frame.size_wh))  # as the line will
        return views.seen(frame)
    except FrameError as error:
        raise DataError(f"{place}, {key}: {error}; mend it or leave the frame out") from error


def _widest(specs: Mapping[Mode, PreprocessSpec], method: Method) -> PreprocessSpec:
    wanted = {name for spec in specs.values() for name in spec.tensors}
    others = (method.preprocess(mode) for mode in method.modes if mode not in specs)
    for spec in (*specs.values(), *others):
        if wanted <= set(spec.tensors):
            return spec
    raise RecipeError(
        f"modes: {method.name} serves no mode that takes {', '.join(sorted(wanted))} together; "
        f"train a bundle a mode"
    )


def _same_bytes(
    one: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    other: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None,
) -> bool:
    return (
        other is not None
        and one.dtype == other.dtype
        and one.shape == other.shape
        and one.tobytes() == other.tobytes()
    )
