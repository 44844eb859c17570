"""Which of a bundle's modes looks at the next frame, with hysteresis. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loupe_edge.camera_settings import Stream
from loupe_edge.sensor_health import SensorHealth


@dataclass(frozen=True, slots=True)
class Choice:
    """The mode for one frame.

    Attributes:
        mode: The one in force; of a frame that no mode can look at, the last one.
        is_served: Whether that mode's streams are well in this frame; else it is `unknown`.
        why: Why it is not the preferred mode, or not served; empty otherwise.
    """

    mode: str
    is_served: bool
    why: str


class ModeChoice:
    """Leaves a mode at once when a stream of it is bad, and returns only after enough good frames.

    Args:
        streams: Of each mode, what it looks at; the preferred mode first, then those to fall back
            to, in order.
        return_after: Frames in a row in which a better mode must have been served before it is
            taken up again.
    """

    def __init__(self, streams: Mapping[str, frozenset[Stream]], return_after: int) -> None:
        self._streams = dict(streams)
        self._order = list(streams)
        self._return_after = return_after
        self._mode = self._order[0]
        self._n_served = dict.fromkeys(self._order, 0)

    @property
    def mode(self) -> str:
        """The mode in force."""
        return self._mode

    def choose(self, health: Mapping[str, SensorHealth]) -> Choice:
        """Choose for the next frame.

        Args:
            health: Of each mode, its streams in the region that it looks at.
        """
        wrong = {mode: self._wrong(mode, health[mode]) for mode in self._order}
        served = [mode for mode in self._order if not wrong[mode]]
        for mode in self._order:
            self._n_served[mode] = 0 if wrong[mode] else self._n_served[mode] + 1
        preferred = self._order[0]
        if not served:
            told = "; ".join(dict.fromkeys(wrong[mode] for mode in self._order))
            return Choice(self._mode, is_served=False, why=f"no mode can look: {told}")
        self._mode = self._next(served)
        if self._mode == preferred:
            return Choice(self._mode, is_served=True, why="")
        back = f"well for {self._n_served[preferred]} of {self._return_after} frames"
        why = f"{self._mode} instead of {preferred}: {wrong[preferred] or back}"
        return Choice(self._mode, is_served=True, why=why)

    def _next(self, served: list[str]) -> str:
        """Take the best mode that has earned it; one that has not, only where no other is left."""
        now = self._order.index(self._mode)
        earned = [
            mode
            for mode in served
            if self._order.index(mode) >= now or self._n_served[mode] >= self._return_after
        ]
        return (earned or served)[0]

    def _wrong(self, mode: str, health: SensorHealth) -> str:
        return " and ".join(health[name] for name in sorted(self._streams[mode]) if health[name])
