"""One inspector a mode, and the rule that picks one for each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from loupe_edge.inspector import Inspection, Inspector
from loupe_edge.mode_choice import Choice, ModeChoice
from loupe_edge.sensor_health import SensorRule, sensor_health
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame, Rect


class FailoverInspector:
    """Answers like an `Inspector`, in the best mode that the frame's streams can serve.

    Args:
        inspectors: By mode, the preferred one first, then those to fall back to.
        rule: When a stream is not worth looking at.
        return_after: Good frames in a row before a better mode is taken up again.
    """

    def __init__(
        self, inspectors: Mapping[str, Inspector], rule: SensorRule, return_after: int
    ) -> None:
        self._inspectors = dict(inspectors)
        self._rule = rule
        streams = {mode: inspector.streams for mode, inspector in inspectors.items()}
        self._modes = ModeChoice(streams, return_after)
        self._why = ""

    @property
    def bundle(self) -> Bundle:
        """The bundle of all the modes."""
        return self._in_force.bundle

    @property
    def mode(self) -> str:
        """The mode in force."""
        return self._modes.mode

    @property
    def cut(self) -> float:
        """The threshold in force."""
        return self._in_force.cut

    @property
    def ailment(self) -> str:
        """Why the last frame was not looked at in the preferred mode; empty where it was."""
        return self._why

    @property
    def n_engine_errors(self) -> int:
        """Frames in a row, up to the last one inspected in the mode in force, that it failed."""
        return self._in_force.n_engine_errors

    @property
    def is_engine_lost(self) -> bool:
        """Whether no frame will ever get an answer in this process, in whichever mode."""
        return any(inspector.is_engine_lost for inspector in self._inspectors.values())

    def inspect(self, frame: Frame) -> Inspection | None:
        """Answer for one frame; None where the gate sees no whole part to inspect."""
        choice = self._choose(frame)
        self._why = choice.why
        if not choice.is_served:
            return self._in_force.unknown(frame, choice.why)
        found = self._in_force.inspect(frame)
        if found is None or not choice.why:
            return found
        told = f"{found.reason}; {choice.why}" if found.reason else choice.why
        return replace(found, reason=told)

    def _choose(self, frame: Frame) -> Choice:
        looks = {mode: _looked_at(one, frame) for mode, one in self._inspectors.items()}
        told = {region: sensor_health(frame, region, self._rule) for region in set(looks.values())}
        return self._modes.choose({mode: told[region] for mode, region in looks.items()})

    @property
    def _in_force(self) -> Inspector:
        return self._inspectors[self._modes.mode]


def _looked_at(inspector: Inspector, frame: Frame) -> Rect:
    """Give the region that a mode would look at: the label's, the gate's, or the whole frame."""
    labelled = frame.label.rect_px if frame.label is not None else None
    return labelled or inspector.gate_spec.region_px or Rect(0, 0, *frame.size_wh)
