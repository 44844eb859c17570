"""What is one exposure: a table of sets as the SDK hands them out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from loupe_edge.camera_settings import Stream
from loupe_edge.errors import CameraError
from loupe_edge.pairing import Pairing, Stamp, Step, sync_of
from loupe_models.frame import TimeDomain

INTERVAL_NS = 33_333_000


def stamp(number: int, late_ms: float = 0.0, domain: TimeDomain = "hardware") -> Stamp:
    return Stamp(number, number * INTERVAL_NS + round(late_ms * 1e6), domain)


def pair(rgb: int | None, depth: int | None, late_ms: float = 0.0) -> dict[Stream, Stamp]:
    given: dict[Stream, Stamp] = {}
    if rgb is not None:
        given["rgb"] = stamp(rgb)
    if depth is not None:
        given["depth"] = stamp(depth, late_ms)
    return given


def pairing(number_offset: int | None = 0) -> Pairing:
    return Pairing(("rgb", "depth"), Step(30, number_offset))


def feed(judge: Pairing, sets: Iterable[dict[Stream, Stamp]]) -> list[bool]:
    return [judge.judge(given) for given in sets]


@pytest.mark.parametrize(
    ("sets", "passes", "n_mixed", "n_dropped"),
    [
        ([], [], 0, 0),
        ([pair(1, 1), pair(2, 2)], [True, True], 0, 0),
        # Depth n with colour n-1, before and after the right pair: neither hides it.
        ([pair(1, 1), pair(1, 2), pair(2, 2)], [True, False, True], 1, 0),
        ([pair(1, 1), pair(2, 2), pair(1, 2), pair(3, 3)], [True, True, False, True], 1, 0),
        ([pair(1, 1), pair(1, 1), pair(2, 2)], [True, False, True], 0, 0),
        ([pair(1, None), pair(None, 1), pair(2, 2)], [False, False, True], 2, 0),
        ([pair(1, 1), pair(4, 4)], [True, True], 0, 2),
        ([pair(1, 1), pair(2, None), pair(3, 3)], [True, False, True], 1, 1),
        ([pair(1, 1, 16.6), pair(2, 2, -16.6), pair(3, 3, 16.8)], [True, True, False], 1, 0),
    ],
)
def test_one_exposure_passes_once(
    sets: list[dict[Stream, Stamp]], passes: list[bool], n_mixed: int, n_dropped: int
) -> None:
    judge = pairing()
    assert feed(judge, sets) == passes
    assert judge.counters.mixed_framesets == n_mixed
    assert judge.counters.dropped_frames == n_dropped


def test_a_live_camera_counts_each_stream_for_itself() -> None:
    judge = pairing(number_offset=None)
    ours = stamp(7)
    depth = Stamp(1007, ours.ns + 200_000, "hardware")
    assert judge.judge({"rgb": ours, "depth": depth})
    sync = sync_of(ours, depth)
    assert sync is not None
    assert sync.delta_us == 200
    following = stamp(8)
    assert not judge.judge({"rgb": following, "depth": Stamp(1007, following.ns, "hardware")})
    assert judge.judge({"rgb": stamp(9), "depth": Stamp(1009, stamp(9).ns, "hardware")})


def test_an_offset_that_changed_for_good_is_learned_anew_after_saying_so() -> None:
    judge = pairing(number_offset=None)
    assert judge.judge(pair(1, 1))
    outcomes: list[str] = []
    for n in range(2, 30):
        shifted: dict[Stream, Stamp] = {
            "rgb": stamp(n),
            "depth": Stamp(n + 5, stamp(n).ns, "hardware"),
        }
        try:
            outcomes.append("frame" if judge.judge(shifted) else "skipped")
        except CameraError as error:
            outcomes.append(str(error))
    told = [said for said in outcomes if said not in {"frame", "skipped"}]
    assert len(told) == 1
    assert "two exposures by their frame numbers" in told[0]
    assert outcomes[-1] == "frame"
    assert "frame" not in outcomes[: outcomes.index(told[0])]


def test_clocks_of_two_domains_are_no_pair_and_named() -> None:
    judge = pairing()
    with pytest.raises(CameraError, match="hardware clock, depth by the system"):
        feed(judge, ({"rgb": stamp(n), "depth": stamp(n, domain="system")} for n in range(1, 40)))
    assert judge.counters.mixed_framesets > 0


@pytest.mark.parametrize(("dead", "named"), [("rgb", "no rgb"), ("depth", "no depth")])
def test_a_stream_that_dies_is_named_within_half_a_second(dead: str, named: str) -> None:
    judge = pairing()
    for n in range(1, 11):
        assert judge.judge(pair(n, n))
    # The SDK repeats the last image of the dead stream beside each new one.
    sets = (pair(10, n) if dead == "rgb" else pair(n, 10) for n in range(11, 11 + 17))  # 0.55 s
    with pytest.raises(CameraError, match=named):
        feed(judge, sets)


def test_a_stream_that_nobody_requires_tells_that_time_goes_on() -> None:
    judge = Pairing(("rgb",), Step(30, 0))
    assert judge.judge(pair(1, 1))
    with pytest.raises(CameraError, match="no rgb"):
        feed(judge, (pair(1, n) for n in range(2, 20)))


def test_a_camera_that_comes_back_is_heard() -> None:
    judge = pairing()
    assert judge.judge(pair(1, 1))
    with pytest.raises(CameraError, match="no depth"):
        feed(judge, (pair(n, None) for n in range(2, 30)))
    assert judge.judge(pair(40, 40))
