"""A recipe: everything a training run is told, from one TOML file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from loupe_calibration.transform import Transform
from loupe_edge.camera_settings import Stream
from loupe_models.checked import Checked
from loupe_models.frame import Rect
from loupe_models.gate import ByHeight, GateSpec
from loupe_models.manifest import Mode
from loupe_models.preprocess import PreprocessSpec
from loupe_models.settings import plain_reason, read_settings
from loupe_models.threshold import rate_carried
from loupe_trainer.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ReaderName = Literal[
    "auto",
    "folder",
    "jsonl",
    "magnetic_tile",
    "mvtec_3d",
    "mvtec_loco",
    "pothole",
    "recording",
    "visa",
]
MAX_SEED = 2**32 - 1  # what every generator of random numbers takes
LEAST_RATE = 1e-6  # of false rejects: three million good parts would have to carry it
OF_MODE: Mapping[Mode, tuple[Stream, ...]] = {
    "rgb": ("rgb",),
    "depth": ("depth",),
    "rgbd": ("rgb", "depth"),
}
Role = Literal["fit", "quantiles", "threshold", "test", "final"]


class DataSettings(Checked):
    """Where the pictures are.

    Attributes:
        path: Absolute, or relative to the recipe; None asks for `--data` on the command line.
        reader: How the place is laid out; `auto` looks.
        part_pattern: For folders: a regular expression whose first group, found in a file's
            path, names the part. None takes every file for a part of its own.
    """

    path: Path | None = None
    reader: ReaderName = "auto"
    part_pattern: str | None = None


class SplitSettings(Checked):
    """Shares of the good parts; they are held against each other, so any scale will do.

    Attributes:
        keep_final: Whether half of the defective and two thirds of the good test parts are kept
            back, for one last evaluation once no more recipes are tried. Which ones depends on
            their ids alone, so that every recipe and seed keeps the same back.
        seed: Deals the parts instead of the recipe's seed, so that runs of several seeds learn
            from the same parts and can be tested on the same parts.
    """

    fit: float = Field(default=0.50, ge=1e-6, le=1e6)
    quantiles: float = Field(default=0.10, ge=1e-6, le=1e6)
    threshold: float = Field(default=0.25, ge=1e-6, le=1e6)
    test: float = Field(default=0.15, ge=0, le=1e6)
    keep_final: bool = False
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)


class ThresholdSettings(Checked):
    """The promise that the threshold carries.

    Attributes:
        at_worst: Where the parts are too few for `false_reject_rate`, the least rate that they
            carry is promised instead, if it is no higher than this. None refuses at once.
    """

    false_reject_rate: float = Field(default=0.05, ge=LEAST_RATE, lt=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    at_worst: float | None = Field(default=None, ge=LEAST_RATE, lt=1)

    @model_validator(mode="after")
    def _at_worst_is_no_better(self) -> ThresholdSettings:
        if self.at_worst is not None and self.at_worst < self.false_reject_rate:
            raise ValueError("at_worst must not be below false_reject_rate")
        return self

    @property
    def limit(self) -> float:
        """The highest false-reject rate that may be promised."""
        return self.false_reject_rate if self.at_worst is None else self.at_worst

    def promised(self, n_parts: int) -> float:
        """Give the false-reject rate to promise on so many good parts, at most `limit`."""
        carried = rate_carried(n_parts, self.confidence) if n_parts else 1.0
        return min(max(self.false_reject_rate, carried), self.limit)


class Recipe(Checked):
    """What to learn, from what, and what to promise.

    Attributes:
        name: Becomes the bundle's id.
        modes: What the bundle serves; a station's frame is judged in one of them.
        gate: Of every mode that has none of its own under `gates`. All look at one region.
        preprocess: None takes the method's own; only a recipe of one mode may name another.
        belt_from_camera: The belt's plane where gate or preprocessing needs it; a recording's
            own belt file serves where this is None.
        fit: The method's own settings; the method checks them.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    method: str
    modes: tuple[Mode, ...] = Field(default=("rgb",), min_length=1)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    gate: GateSpec = GateSpec()
    gates: dict[Mode, GateSpec] = Field(default_factory=dict)
    preprocess: PreprocessSpec | None = None
    belt_from_camera: Transform | None = None
    fit: dict[str, object] = Field(default_factory=dict)
    threshold: ThresholdSettings = ThresholdSettings()

    @model_validator(mode="after")
    def _modes_go_together(self) -> Recipe:
        if len(set(self.modes)) < len(self.modes):
            raise ValueError("modes: each mode may be named once")
        if unasked := sorted(set(self.gates) - set(self.modes)):
            raise ValueError(f"gates.{unasked[0]}: {unasked[0]!r} is not among modes; add it there")
        if len(self.modes) > 1 and self.preprocess is not None:
            raise ValueError("preprocess: several modes take the method's own; remove it")
        first = self.modes[0]
        for mode in self.modes[1:]:
            ours, theirs = self.gate_of(mode).region_px, self.gate_of(first).region_px
            if ours != theirs:
                raise ValueError(
                    f"the gate of {mode} looks at {_named(ours)}, that of {first} at "
                    f"{_named(theirs)}: give all modes one region_px"
                )
        return self

    @model_validator(mode="after")
    def _each_mode_does_without_the_others(self) -> Recipe:
        """One mode alone may borrow a stream for its gate; of several, each must stand alone."""
        for mode in self.modes if len(self.modes) > 1 else ():
            borrowed = set(self.streams_of(mode)) - set(OF_MODE[mode])
            if borrowed:
                raise ValueError(
                    f"the gate of {mode} looks at {borrowed.pop()}, which may be the stream that "
                    f"{mode} is to do without: give it a [gates.{mode}] of its own"
                )
        return self

    def gate_of(self, mode: Mode) -> GateSpec:
        """Give a mode's gate."""
        return self.gates.get(mode, self.gate)

    def streams_of(self, mode: Mode) -> tuple[Stream, ...]:
        """Which streams of a recording a mode and its gate need."""
        occupied = self.gate_of(mode).occupied
        needed = set(OF_MODE[mode])
        if occupied is not None:
            needed.add("depth" if isinstance(occupied, ByHeight) else "rgb")
        return tuple(stream for stream in OF_MODE["rgbd"] if stream in needed)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Which streams of a recording the modes and their gates need, together."""
        needed = {stream for mode in self.modes for stream in self.streams_of(mode)}
        return tuple(stream for stream in OF_MODE["rgbd"] if stream in needed)


def load_recipe(path: Path, settings: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: A TOML file.
        settings: Dotted keys and TOML values that win over the file, `fit.steps` = `100`.

    Raises:
        RecipeError: Missing, not TOML, an unknown key, or a value out of range.
    """
    document = _read(path)
    apply_settings(document, settings or {})
    return parse_recipe(document, str(path))


def parse_recipe(document: Mapping[str, object], where: str) -> Recipe:
    """Make a recipe of what a TOML or JSON file holds.

    Args:
        document: The parsed file.
        where: Named in errors.

    Raises:
        RecipeError: An unknown key, or a value out of range.
    """
    if "mode" in document:
        raise RecipeError(
            f"{where}: mode: write modes = {json.dumps([document['mode']])} instead, a list, for a "
            f"bundle may serve several"
        )
    try:
        return read_settings(Recipe, document)
    except ValidationError as error:
        raise RecipeError(first_reason(error, where)) from error


def _named(region: Rect | None) -> str:
    return "the whole picture" if region is None else f"{tuple(region)}"


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(
            f"{path}: no such recipe; copy trainer/recipes/folder.toml and adapt it"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a readable recipe ({error}); give a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error


def apply_settings(document: dict[str, object], settings: Mapping[str, str]) -> None:
    """Put settings from the command line into a parsed TOML document.

    Args:
        document: Changed in place.
        settings: Dotted keys and TOML values; a bare word is a string.

    Raises:
        RecipeError: A key leads through a value.
    """
    for key, value in settings.items():
        _set(document, key, value)


def _set(document: dict[str, object], key: str, value: str) -> None:
    *sections, name = key.split(".")
    target = document
    for section in sections:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {key}: {section} is a value, not a section")
        target = inner
    try:
        target[name] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        target[name] = value  # a bare word is meant as a string


def first_reason(error: ValidationError, where: str) -> str:
    """Say what is wrong first: file, key, reason."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    more = f" ({error.error_count()} errors in all)" if error.error_count() > 1 else ""
    return f"{where}: {key}: {plain_reason(first)}{more}"
