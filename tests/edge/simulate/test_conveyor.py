"""The stream: the same for the same seed, gated as labelled, at least two kinds."""

from itertools import islice

import numpy as np
import pytest

from loupe_edge.simulate import KIND_NAMES, Scenario, frames, gate_spec, n_frames
from loupe_edge.simulate.conveyor import has_depth, tickets
from loupe_models.frame import Frame
from loupe_models.gate import gate

SMALL = {"width_px": 320, "height_px": 240}


def test_the_same_seed_gives_the_same_frames() -> None:
    scenario = Scenario(n_parts=2, defect_share=0.5, seed=5, **SMALL)
    pairs = list(zip(frames(scenario), frames(scenario), strict=True))
    assert len(pairs) == n_frames(scenario)
    for first, second in pairs:
        assert np.array_equal(first.rgb, second.rgb)
        assert np.array_equal(first.depth, second.depth)
        assert first.label == second.label
        assert (first.mask is None) == (second.mask is None)
        if first.mask is not None and second.mask is not None:
            assert np.array_equal(first.mask, second.mask)


def test_another_seed_gives_other_frames() -> None:
    one, other = (
        next(islice(frames(Scenario(n_parts=1, seed=seed, **SMALL)), 6, None)) for seed in (1, 2)
    )
    assert np.abs(one.rgb.astype(int) - other.rgb).mean() > 1


def test_no_two_frames_share_their_noise() -> None:
    first, second = islice(frames(Scenario(n_parts=1, light_variation=0, **SMALL)), 2)
    floor = (slice(0, 8), slice(None))
    assert not np.array_equal(first.rgb[floor], second.rgb[floor])


@pytest.fixture(scope="module")
def stream() -> list[tuple[str | None, bool]]:
    """Part in each frame as labelled, and whether the gate passes the frame."""
    scenario = Scenario(n_parts=8, defect_share=0.5, seed=4)
    spec = gate_spec()
    return [
        (frame.label.part_id, gate(Frame.from_image(frame.rgb), spec) is not None)
        for frame in frames(scenario)
    ]


def test_the_gate_passes_only_whole_parts(stream: list[tuple[str | None, bool]]) -> None:
    assert [part for part, passes in stream if passes and part is None] == []


def test_the_gate_passes_every_part_two_to_four_times(
    stream: list[tuple[str | None, bool]],
) -> None:
    seen: dict[str, int] = {}
    for part, passes in stream:
        if part is not None:
            seen[part] = seen.get(part, 0) + passes
    assert len(seen) == 8
    assert set(seen.values()) <= {2, 3, 4}


def test_the_stream_holds_frames_without_a_whole_part(
    stream: list[tuple[str | None, bool]],
) -> None:
    assert not any(passes for _, passes in stream[:3])
    n_without = sum(part is None for part, _ in stream)
    assert 0.3 < n_without / len(stream) < 0.8


def test_the_gate_fits_other_sizes_too() -> None:
    scenario = Scenario(n_parts=3, seed=9, **SMALL)
    spec = gate_spec(320, 240)
    passed = {
        frame.label.part_id
        for frame in frames(scenario)
        if gate(Frame.from_image(frame.rgb), spec) is not None
    }
    assert len(passed) == 3
    assert None not in passed


def test_kinds_and_defects_are_spread() -> None:
    made = tickets(Scenario(n_parts=60, defect_share=0.5, seed=3))
    assert {ticket.kind for ticket in made} == set(KIND_NAMES)
    assert len(KIND_NAMES) >= 2
    counts = [sum(t.defect == name for t in made) for name in {t.defect for t in made} - {None}]
    assert sum(counts) == 30
    assert max(counts) - min(counts) <= 1


def test_no_defects_unless_asked_for() -> None:
    assert all(ticket.defect is None for ticket in tickets(Scenario(n_parts=50)))


def test_depth_is_off_while_the_named_parts_pass() -> None:
    scenario = Scenario(n_parts=6, width_px=160, height_px=120, depth_off=(2, 4))
    seen: dict[str, set[bool]] = {}
    for index, frame in enumerate(frames(scenario)):
        if frame.label.part_id is not None:
            seen.setdefault(frame.label.part_id[-5:], set()).add(has_depth(scenario, index))
    assert [seen[f"{part:05d}"] for part in range(6)] == [
        {True}, {True}, {False}, {False}, {True}, {True}
    ]  # fmt: skip
    endless = Scenario(n_parts=6, depth_off=(2, 99))
    assert not has_depth(endless, n_frames(endless) - 1)
    with pytest.raises(ValueError, match="depth_off"):
        Scenario(depth_off=(4, 4))
    with pytest.raises(ValueError, match="begins at part 6, and the last one is 5"):
        Scenario(n_parts=6, depth_off=(6, 8))
