"""The early look: on time, cheap, on held-out pictures, and without a trace in the training."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from loupe_trainer.methods import get_method
from loupe_trainer.methods.base import Samples
from loupe_trainer.methods.efficientad.area import InspectedArea
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.methods.efficientad.look import EarlyLook, early_look
from loupe_trainer.methods.efficientad.tiling import open_tiling
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.corpus import TextureCorpus
from loupe_trainer.teachers.pdn import PdnShape, initialise, student_network, teacher_network

SHAPE = PdnShape("S", 0.07)
SIZE_HW = (128, 160)


def make_samples(n: int, size_hw: tuple[int, int] = SIZE_HW) -> Samples:
    rng = np.random.default_rng(n)
    return [{"rgb": TextureCorpus().picture(rng, *size_hw)[None]} for _ in range(n)]


def make_look(samples: Samples, folder: Path, tile_px: int | None = None) -> EarlyLook:
    torch.manual_seed(0)
    size_hw = np.asarray(samples[0]["rgb"]).shape[1:3]
    tile_hw = (tile_px, tile_px) if tile_px else (size_hw[0], size_hw[1])
    teacher, student = initialise(teacher_network(SHAPE)), initialise(student_network(SHAPE))
    area = InspectedArea((size_hw[0], size_hw[1]))
    tiling = open_tiling((size_hw[0], size_hw[1]), tile_px)
    detector = EfficientAdDetector(teacher, student, Autoencoder(SHAPE, tile_hw), 0.5, area, tiling)
    look = early_look(detector, samples, folder, 5_000)
    assert look is not None
    return look


def test_looks_come_early_then_ever_rarer(tmp_path: Path) -> None:
    look = make_look(make_samples(9), tmp_path)
    assert len(look.pictures) == 4
    due = [step for step in range(1, 5_001) if look.is_due(step)]
    assert due == [200, 400, 800, 1600, 3200, 5000]


def test_tiled_pictures_are_looked_at_fewer_at_a_time(tmp_path: Path) -> None:
    look = make_look(make_samples(3, (256, 384)), tmp_path, tile_px=128)
    n_windows = len(look.pictures) * look.detector.n_windows
    assert (len(look.pictures), n_windows) == (1, 15)
    assert look.first_step >= 50 * n_windows


def test_a_sheet_shows_each_picture_beside_its_maps(tmp_path: Path) -> None:
    samples = make_samples(2)
    look = make_look(samples, tmp_path)
    look.draw(300)
    (file,) = tmp_path.iterdir()
    assert file.name == "step-000300.png"
    sheet = cv2.imread(str(file))
    assert sheet is not None
    shown = sheet[60 : 60 + 205, 8 : 8 + 256, ::-1]
    expected = cv2.resize(np.asarray(samples[0]["rgb"], np.uint8)[0], (256, 205),
                          interpolation=cv2.INTER_AREA)  # fmt: skip
    assert np.array_equal(shown, expected)
    autoencoder_map = sheet[60 : 60 + 205, 3 * 8 + 2 * 256 :][:, :256]
    assert len(np.unique(autoencoder_map.reshape(-1, 3), axis=0)) > 20
    assert look.detector.autoencoder.training  # training goes on as it was


def test_looking_leaves_no_trace_in_the_training(tmp_path: Path) -> None:
    settings: dict[str, object] = {
        "width_px": SIZE_HW[1], "height_px": SIZE_HW[0], "steps": 4, "lr": 1e-3,
        "n_penalty_pictures": 2,
        "pretrain": {"width": SHAPE.width, "steps": 2, "batch": 8, "n_pictures": 4},
    }  # fmt: skip
    states = []
    for name, held_out in (("looking", make_samples(3)), ("blind", [])):
        method = get_method("efficientad", settings, 0, Path(), ("rgb",))
        run = RunFolder(tmp_path / name)
        states.append(
            method.fit(make_samples(4), held_out, run, SilentProgress())["rgb"].state_dict()
        )
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    assert [f.name for f in (tmp_path / "looking" / "looks").iterdir()] == ["step-000004.png"]
    assert not (tmp_path / "blind" / "looks").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_map_that_is_not_a_number_is_drawn_bright(tmp_path: Path, value: float) -> None:
    look = make_look(make_samples(1), tmp_path)
    with torch.no_grad():
        look.detector.student.last.bias.fill_(value)  # type: ignore[union-attr]
    look.draw(1)
    sheet = cv2.imread(str(tmp_path / "step-000001.png"))
    assert sheet is not None
    assert tuple(sheet[160, 8 + 256 + 8 + 128, ::-1]) == (253, 231, 37)  # viridis' upper end
