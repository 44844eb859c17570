"""A method that learns in a second, and data for it: the whole line without the waiting."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from nvidia_stand_ins import nvidia
from typed_command import Typed

from loupe_models.manifest import Mode
from loupe_models.preprocess import Crop, PreprocessSpec, Resize
from loupe_trainer import cli, methods
from loupe_trainer.methods.base import Detector, Samples
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder

__all__ = ["nvidia"]

SIDE = 64


class SpotDetector(Detector):
    """How far each pixel is from the mean of its surroundings, over what is usual there."""

    usual: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("usual", torch.ones(1, 1, SIDE, SIDE))
        self.register_buffer("scale", torch.ones(1))

    def raw(self, rgb: torch.Tensor) -> torch.Tensor:
        grey = rgb.to(torch.float32).permute(0, 3, 1, 2).mean(dim=1, keepdim=True)
        around = torch.nn.functional.avg_pool2d(grey, 9, 1, 4)
        return (grey - around).abs()

    def forward(self, rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        anomaly_map = self.raw(rgb) / self.usual * self.scale
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))


class Spots:
    """A method; `fits` counts how often it was asked to learn."""

    name = "spots"
    modes: tuple[Mode, ...] = ("rgb",)
    backbone = None
    fits = 0

    def preprocess(self, mode: Mode) -> PreprocessSpec:  # noqa: ARG002
        return PreprocessSpec(steps=(Crop(), Resize(width_px=SIDE, height_px=SIDE)))

    def learnt_from(self) -> None:
        """Nothing but what the mode takes."""

    def fit(
        self,
        samples: Samples,
        held_out: Samples,  # noqa: ARG002
        run: RunFolder,
        progress: Progress,  # noqa: ARG002
    ) -> Mapping[Mode, Detector]:
        Spots.fits += 1
        detector = SpotDetector()
        raw = [detector.raw(torch.from_numpy(np.asarray(s["rgb"]))) for s in samples]
        detector.usual.copy_(torch.stack(raw).mean(dim=0) + 1.0)
        run.log({"step": 1, "loss": float(raw[0].mean())})
        return {"rgb": detector}

    def normalise(self, detectors: Mapping[Mode, Detector], samples: Samples) -> None:
        detector = detectors["rgb"]
        assert isinstance(detector, SpotDetector)
        tops = [detector(torch.from_numpy(np.asarray(s["rgb"])))[1].item() for s in samples]
        detector.scale.fill_(1.0 / float(np.median(tops)))


@pytest.fixture
def spots(monkeypatch: pytest.MonkeyPatch) -> type[Spots]:
    """Register the method under its name."""
    monkeypatch.setitem(methods.METHODS, "spots", lambda *_: Spots())
    monkeypatch.setattr(Spots, "fits", 0)
    return Spots


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command in this process; gives its status and what it wrote, on one line."""

    def run(*words: str | Path) -> tuple[str | int, str]:
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys, "argv", ["loupe-trainer", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return ended.value.code or 0, " ".join((told.out + told.err).split())

    return run


def part_picture(
    seed: int, defect: bool = False, size_wh: tuple[int, int] = (90, 70)
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A textured part; a defect is a small bright square. Gives picture and mask."""
    rng = np.random.default_rng(seed)
    width, height = size_wh
    rgb = rng.normal(120, 6, (height, width, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    if defect:
        x, y = int(rng.integers(20, width - 30)), int(rng.integers(20, height - 30))
        rgb[y : y + 9, x : x + 9] = 250
        mask[y : y + 9, x : x + 9] = 255
    return rgb, mask


def write_picture(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb)


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty pictures of good parts in one folder."""
    root = tmp_path_factory.mktemp("plain")
    for i in range(80):
        write_picture(root / f"{i:03d}.png", part_picture(i)[0])
    return root


@pytest.fixture(scope="session")
def mvtec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MVTec's layout: 80 to learn from, 10 good and 12 defective to test on."""
    root = tmp_path_factory.mktemp("mvtec")
    for i in range(80):
        write_picture(root / "train" / "good" / f"{i:03d}.png", part_picture(i)[0])
    for i in range(10):
        write_picture(root / "test" / "good" / f"{i:03d}.png", part_picture(500 + i)[0])
    for kind, first in (("spot", 600), ("blob", 700)):
        for i in range(6):
            rgb, mask = part_picture(first + i, defect=True)
            write_picture(root / "test" / kind / f"{i:03d}.png", rgb)
            write_picture(root / "ground_truth" / kind / f"{i:03d}_mask.png", mask)
    return root


RECIPE = """
name = "spots"
method = "spots"
seed = 5
[split]
fit = 0.3
quantiles = 0.1
threshold = 0.5
test = 0.1
[threshold]
false_reject_rate = 0.1
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE, encoding="utf-8")
    return file
