"""One slot: newest wins live, everything waits in lock-step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from loupe_edge.handover import HandOver, Trouble
from loupe_models.frame import Frame


def taken(hand_over: HandOver) -> list[int | str]:
    out: list[int | str] = []
    while (handed := hand_over.take(0.01)) is not None:
        item = handed.item
        out.append(item.frame_id if isinstance(item, Frame) else item.reason)
    return out


def test_nothing_comes_out_of_an_empty_slot() -> None:
    start = time.monotonic()
    assert HandOver().take(0.05) is None
    assert time.monotonic() - start >= 0.04


def test_the_newest_frame_wins_and_drops_are_counted(make_frame: Callable[..., Frame]) -> None:
    hand_over = HandOver()
    for i in range(4):
        assert hand_over.put(make_frame(frame_id=i))
    assert taken(hand_over) == [3]
    assert hand_over.dropped == 3


def test_trouble_is_never_dropped_and_keeps_its_place(make_frame: Callable[..., Frame]) -> None:
    hand_over = HandOver()
    hand_over.put(Trouble("first"))
    hand_over.put(make_frame(frame_id=1))
    hand_over.put(Trouble("second"))
    hand_over.put(make_frame(frame_id=2))
    assert taken(hand_over) == ["first", "second", 2]
    assert hand_over.dropped == 1


def test_lock_step_waits_and_drops_nothing(make_frame: Callable[..., Frame]) -> None:
    hand_over = HandOver(lock_step=True)
    frames = [make_frame(frame_id=i) for i in range(20)]

    def capture() -> None:
        for frame in frames:
            hand_over.put(frame)
        hand_over.close()

    thread = threading.Thread(target=capture)
    thread.start()
    seen = []
    while not hand_over.is_over:
        handed = hand_over.take(0.5)
        if handed is not None:
            assert isinstance(handed.item, Frame)
            seen.append(handed.item.frame_id)
            time.sleep(0.001)
    thread.join()
    assert seen == list(range(20))
    assert hand_over.dropped == 0


def test_closing_wakes_both_sides_and_keeps_what_waits(make_frame: Callable[..., Frame]) -> None:
    hand_over = HandOver(lock_step=True)
    hand_over.put(make_frame(frame_id=0))
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(hand_over.put(make_frame())))
    thread.start()
    time.sleep(0.02)
    hand_over.close()
    thread.join(2)
    assert answers == [False]
    assert not hand_over.is_over
    assert taken(hand_over) == [0]
    assert hand_over.is_over
