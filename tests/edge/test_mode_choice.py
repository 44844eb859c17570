"""The mode of each frame: never one whose stream is bad, and never back too soon."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loupe_edge.camera_settings import Stream
from loupe_edge.mode_choice import Choice, ModeChoice

STREAMS: dict[str, frozenset[Stream]] = {
    "rgbd": frozenset({"rgb", "depth"}),
    "rgb": frozenset({"rgb"}),
    "depth": frozenset({"depth"}),
}
# Whether colour and depth are well: the state of one frame.
WELL, NO_DEPTH, NO_COLOUR, NEITHER = (True, True), (True, False), (False, True), (False, False)


def choose(choice: ModeChoice, frames: list[tuple[bool, bool]]) -> list[Choice]:
    told = []
    for colour, depth in frames:
        health: Mapping[Stream, str] = {
            "rgb": "" if colour else "no colour",
            "depth": "" if depth else "no depth",
        }
        told.append(choice.choose(dict.fromkeys(STREAMS, health)))
    return told


def test_a_healthy_station_stays_in_its_mode() -> None:
    assert choose(ModeChoice(STREAMS, 3), [WELL] * 3) == [Choice("rgbd", True, "")] * 3


def test_it_leaves_at_once_and_returns_after_enough_good_frames() -> None:
    told = choose(ModeChoice(STREAMS, 3), [WELL, NO_DEPTH, WELL, WELL, WELL, WELL])
    assert [one.mode for one in told] == ["rgbd", "rgb", "rgb", "rgb", "rgbd", "rgbd"]
    assert [one.why for one in told] == [
        "",
        "rgb instead of rgbd: no depth",
        "rgb instead of rgbd: well for 1 of 3 frames",
        "rgb instead of rgbd: well for 2 of 3 frames",
        "",
        "",
    ]


def test_a_stream_that_comes_and_goes_is_not_believed() -> None:
    told = choose(ModeChoice(STREAMS, 3), [NO_DEPTH, WELL, WELL] * 10)
    assert {one.mode for one in told} == {"rgb"}


def test_where_no_mode_is_served_the_frame_is_not_either_and_says_why() -> None:
    [told] = choose(ModeChoice(STREAMS, 3), [NEITHER])
    assert told == Choice(
        "rgbd", False, "no mode can look: no depth and no colour; no colour; no depth"
    )


def test_a_mode_that_has_not_earned_it_is_better_than_none() -> None:
    told = choose(ModeChoice(STREAMS, 9), [NO_COLOUR, NO_DEPTH, NO_COLOUR])
    assert [one.mode for one in told] == ["depth", "rgb", "depth"]


@given(
    st.lists(st.sampled_from([WELL, NO_DEPTH, NO_COLOUR, NEITHER]), max_size=60),
    st.integers(1, 8),
    st.permutations(list(STREAMS)),
    st.integers(1, 3),
)
def test_never_a_bad_stream_and_never_back_faster_than_the_rule(
    frames: list[tuple[bool, bool]], return_after: int, order: list[str], n_modes: int
) -> None:
    modes = order[:n_modes]
    choice = ModeChoice({mode: STREAMS[mode] for mode in modes}, return_after)

    def is_well(frame: tuple[bool, bool], mode: str) -> bool:
        return all(frame[name == "depth"] for name in STREAMS[mode])

    before = modes[0]
    for n, (frame, told) in enumerate(zip(frames, choose(choice, frames), strict=True)):
        assert told.is_served == any(is_well(frame, mode) for mode in modes)
        assert (told.why == "") == (told.is_served and told.mode == modes[0])
        if not told.is_served:
            assert told.mode == before
            continue
        assert is_well(frame, told.mode)
        if modes.index(told.mode) < modes.index(before) and is_well(frame, before):
            recent = frames[n + 1 - return_after : n + 1] if n + 1 >= return_after else []
            assert len(recent) == return_after
            assert all(is_well(one, told.mode) for one in recent)
        before = told.mode


@pytest.mark.parametrize("return_after", [1, 5, 30])
def test_a_flapping_stream_changes_the_mode_twice_per_rule_at_most(return_after: int) -> None:
    frames = ([NO_DEPTH] + [WELL] * return_after) * 6
    modes = [one.mode for one in choose(ModeChoice(STREAMS, return_after), frames)]
    n_changes = sum(modes[n] != modes[n - 1] for n in range(1, len(modes)))
    assert n_changes <= 2 * len(frames) / (return_after + 1)
