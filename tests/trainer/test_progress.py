"""What long work says of itself while it runs."""

import itertools

import pytest

from loupe_trainer.progress import LineProgress


def test_the_remaining_time_is_reckoned_from_this_visits_own_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour of an earlier visit's steps must not make the rest look quick."""
    clock = itertools.count(0.0, 10.0)  # every look at it is ten seconds later
    monkeypatch.setattr("loupe_trainer.progress.time.monotonic", lambda: next(clock))
    with LineProgress(every_s=0).task("learning", total=100, done=90) as task:
        task.advance(note="loss 0.5")
        for _ in range(8):
            task.advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "learning: 91/100, 1:30 left, loss 0.5"
    assert lines[8] == "learning: 99/100, 0:10 left, loss 0.5"
    assert lines[9] == "learning: 99/100, took 1:40, loss 0.5"
