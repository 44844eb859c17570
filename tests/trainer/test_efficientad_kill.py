"""SIGKILL in the middle of training, in a process of its own."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import count_lines, kill_after
from safetensors import safe_open

from loupe_trainer.methods import get_method
from loupe_trainer.methods.efficientad.training import CHECKPOINT
from loupe_trainer.progress import Progress, SilentProgress, Task
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.corpus import TextureCorpus

N_STEPS = 40
Weights = dict[str, torch.Tensor]


class InterruptsAt(SilentProgress):
    """Types Ctrl-C in the middle of one step of the student's training."""

    def __init__(self, step: int) -> None:
        self.step = step

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        yield _Typist(self.step - done if name == "learning good parts" else -1)
        del total


class _Typist:
    def __init__(self, left: int) -> None:
        self.left = left

    def advance(self, n: int = 1, note: str = "") -> None:  # noqa: ARG002
        self.left -= n
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def learn(folder: Path, progress: Progress | None = None, **more: object) -> Weights:
    rng = np.random.default_rng(0)
    samples = [{"rgb": TextureCorpus().picture(rng, 128, 160)[None]} for _ in range(5)]
    settings: dict[str, object] = {
        "height_px": 128, "width_px": 160, "steps": N_STEPS, "lr": 1e-3, "log_every": 1,
        "checkpoint_every": 7, "n_penalty_pictures": 3, "batch": 2,
        "pretrain": {"width": 0.07, "steps": 3, "batch": 8, "n_pictures": 4},
    }  # fmt: skip
    settings |= more
    method = get_method("efficientad", settings, 5, Path(), ("rgb",))
    run, shown = RunFolder(folder), progress or SilentProgress()
    return method.fit(samples[:4], samples[4:], run, shown)["rgb"].state_dict()


def test_an_interrupt_before_the_first_checkpoint_loses_no_step(tmp_path: Path) -> None:
    expected = learn(tmp_path / "whole", checkpoint_every=1000)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "run", InterruptsAt(3), checkpoint_every=1000)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with safe_open(tmp_path / "run" / "checkpoints" / CHECKPOINT, framework="pt") as file:
        assert file.metadata()["step"] == "4"  # the third had been told; the next was ended
    found = learn(tmp_path / "run", checkpoint_every=1000)
    assert count_lines(tmp_path / "run") == N_STEPS
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_kill_9_at_any_step_leads_to_the_same_losses_to_the_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = learn(whole)
    moment = int(np.random.default_rng().integers(1, N_STEPS - 5))  # another one each time
    kill_after(Path(__file__), killed, moment)
    resumed = learn(killed)
    log = (killed / "metrics.jsonl").read_text()
    assert log == (whole / "metrics.jsonl").read_text(), f"killed after {moment} steps"
    assert [json.loads(line)["step"] for line in log.splitlines()] == list(range(1, N_STEPS + 1))
    for key, value in expected.items():
        assert torch.equal(value, resumed[key]), (key, moment)
    (sheet,) = (killed / "looks").iterdir()
    assert sheet.read_bytes() == (whole / "looks" / sheet.name).read_bytes()


if __name__ == "__main__":
    learn(Path(sys.argv[1]))
