"""A station's gate held against what its bundle learnt: who says where to look, at which scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loupe_edge.station import Station
from loupe_edge.station_fit import frame_size_wh, is_labelled
from loupe_models.bundle import Bundle
from loupe_models.manifest import Mode, ModeManifest


@dataclass(frozen=True, slots=True)
class GateFit:
    """What to know of a station's gates before its verdicts are believed.

    Attributes:
        is_labelled: The recording's labels say where the parts are, so that no gate counts.
        rescaled: By mode, a warning where the station's own gate shows parts at a scale that the
            bundle did not learn.
        whole: What to think about where the preferred mode's gate is the whole frame, else None.
    """

    is_labelled: bool
    rescaled: Mapping[Mode, str]
    whole: str | None

    @property
    def warnings(self) -> list[str]:
        """Every warning, a line each."""
        return [*self.rescaled.values(), *([self.whole] if self.whole else [])]


def gate_fit(station: Station, bundle: Bundle) -> GateFit:
    """Compare the gates of every mode that may come into force with the bundle's own.

    Args:
        station: One that fits the bundle.
        bundle: Serves every mode of the station.
    """
    if is_labelled(station.camera):
        return GateFit(is_labelled=True, rescaled={}, whole=None)
    gate = station.gate_of(station.mode) or bundle.mode(station.mode).gate
    return GateFit(is_labelled=False, rescaled=dict(_rescaled(station, bundle)), whole=gate.warning)


def _rescaled(station: Station, bundle: Bundle) -> Iterator[tuple[Mode, str]]:
    for mode in station.modes:
        own, contract = station.gate_of(mode), bundle.mode(mode)
        if own is None or own.region_px == contract.gate.region_px:
            continue
        seen_wh = own.region_px[2:] if own.region_px else frame_size_wh(station.camera)
        learnt = _learnt_wh(contract)
        if seen_wh not in learnt:
            yield (
                mode,
                f"{mode}: parts will appear at another scale than was learnt ({_told(seen_wh)} "
                f"instead of {' or '.join(map(_told, learnt))}): scores and threshold mean nothing "
                f"until the recipe's gate is set so and the bundle is trained anew",
            )


def _learnt_wh(contract: ModeManifest) -> list[tuple[int, int] | None]:
    """Give the sizes of the regions learnt from; of a whole frame, the golden frames tell."""
    regions = [contract.gate.region_px]
    if contract.gate.region_px is None:
        regions = [golden.rect_px for golden in contract.golden]
    return list(dict.fromkeys(None if region is None else region[2:] for region in regions))


def _told(size_wh: tuple[int, int] | None) -> str:
    return "the whole frame" if size_wh is None else f"{size_wh[0]}x{size_wh[1]}"
