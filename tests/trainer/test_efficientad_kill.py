"""SIGKILL in the middle of training, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from loupe_trainer.methods import get_method
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.corpus import TextureCorpus

N_STEPS = 40
PATIENCE_S = 60.0


def learn(folder: Path) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    samples = [{"rgb": TextureCorpus().picture(rng, 128, 160)[None]} for _ in range(5)]
    settings: dict[str, object] = {
        "height_px": 128, "width_px": 160, "steps": N_STEPS, "lr": 1e-3, "log_every": 1,
        "checkpoint_every": 7, "n_penalty_pictures": 3, "batch": 2,
        "pretrain": {"width": 0.07, "steps": 3, "batch": 8, "n_pictures": 4},
    }  # fmt: skip
    method = get_method("efficientad", settings, 5, Path(), ("rgb",))
    return method.fit(samples[:4], samples[4:], RunFolder(folder), SilentProgress())[
        "rgb"
    ].state_dict()


def kill_after(folder: Path, n_lines: int) -> None:
    """Learn in a process of its own, and kill it once it has logged so many steps."""
    learning = subprocess.Popen([sys.executable, __file__, folder])
    give_up = time.monotonic() + PATIENCE_S
    try:
        while count_lines(folder) < n_lines and time.monotonic() < give_up:
            assert learning.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        os.kill(learning.pid, signal.SIGKILL)
    finally:
        learning.kill()
        status = learning.wait()
    assert status == -signal.SIGKILL
    assert count_lines(folder) >= n_lines


def count_lines(folder: Path) -> int:
    file = folder / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_kill_9_at_any_step_leads_to_the_same_losses_to_the_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = learn(whole)
    moment = int(np.random.default_rng().integers(1, N_STEPS - 5))  # another one each time
    kill_after(killed, moment)
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
