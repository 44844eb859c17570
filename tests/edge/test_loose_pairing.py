"""Images of two streams, in whatever order they come."""

from __future__ import annotations

import pytest

from loupe_edge.camera_settings import Stream
from loupe_edge.loose_pairing import LoosePairing, Seen
from loupe_edge.pairing import Stamp, Step

FPS = 30
NAMES: dict[str, Stream] = {"c": "rgb", "d": "depth"}


def given(pairing: LoosePairing[str], arrivals: str) -> list[str]:
    """Take images such as `c1`; give, for each, the exposures that it completes."""
    told = []
    for image in arrivals.split():
        made = pairing.take(NAMES[image[0]], Seen(stamp(int(image[1:])), image))
        told.append(" ".join("+".join(sorted(e.image for e in one.values())) for one in made))
    return told


def stamp(number: int) -> Stamp:
    return Stamp(number, number * 10**9 // FPS, "hardware")


def loose(*required: Stream) -> LoosePairing[str]:
    return LoosePairing(frozenset(required), Step(FPS, 0))


@pytest.mark.parametrize(
    "arrivals",
    [
        "c1 d1 d2 c2 d3 c3 d4 c4 c5 d5 d6 c6",
        "c1 c2 d1 d2 d3 d4 c3 c4 c5 c6 d5 d6",
        "d1 d2 c1 d3 c2 d4 c3 d5 c4 d6 c5 c6",  # colour comes a frame later, always
        "c1 d1 d2 d3 c2 c3 c4 d4 c5 c6 d5 d6",
    ],
)
def test_images_that_come_in_bunches_are_brought_together(arrivals: str) -> None:
    pairing = loose()
    whole = " ".join(f"c{n}+d{n}" for n in range(1, 7))
    assert " ".join(filter(None, given(pairing, arrivals))) == whole
    assert pairing.counters.dropped_frames == 0


def test_an_image_is_given_alone_as_soon_as_it_is_sure_that_its_partner_is_missing() -> None:
    told = given(loose(), "c1 d1 c2 d3 c3 d4 d5 c5")
    assert told == ["", "c1+d1", "", "c2", "c3+d3", "", "", "d4 c5+d5"]


def test_a_dead_stream_is_waited_for_once() -> None:
    arrivals = "c1 d1 c2 c3 c4 c5 d5 c6 d6"
    # The return of depth comes too late for the exposure that was given already.
    assert given(loose(), arrivals) == ["", "c1+d1", "", "", "c2 c3 c4", "c5", "", "", "c6+d6"]


def test_what_waits_at_the_end_is_given_unless_it_lacks_what_is_required() -> None:
    for required, n_given in ((), 2), (("depth",), 0):
        pairing = loose(*required)
        given(pairing, "c1 d1 c2 c3")
        assert len(pairing.flush()) == n_given
        assert pairing.flush() == []


def test_an_image_alone_is_never_enough_where_the_other_is_required() -> None:
    assert given(loose("rgb"), "d1 d2 d3 d4 d5 c5 d6 c6") == [""] * 5 + ["c5+d5", "", "c6+d6"]


def test_what_is_left_of_an_exposure_that_was_dropped_unread_is_dropped_too() -> None:
    pairing = loose()
    assert given(pairing, "c1 d1 c2") == ["", "c1+d1", ""]
    pairing.skip({"depth": stamp(3), "rgb": stamp(3)})  # d2 c3 d3
    assert given(pairing, "d4 c4 c5 c6 d6") == ["", "c4+d4", "", "", "c5 c6+d6"]
    assert pairing.counters.dropped_frames == 2
    pairing.skip({"depth": stamp(8), "rgb": stamp(7)})  # c7 d7 d8
    assert given(pairing, "c8 c9 d9") == ["", "", "c9+d9"]
    assert pairing.counters.dropped_frames == 4
