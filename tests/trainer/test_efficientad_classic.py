"""The five mistakes that implementations of EfficientAD make, one test each."""

from pathlib import Path

import numpy as np
import pytest
import torch

from loupe_models.preprocess import Tensors
from loupe_trainer.methods import get_method
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.config import EfficientAdConfig
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.methods.efficientad.training import Networks, make_optimiser
from loupe_trainer.optimisation import learning_rate
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.corpus import TextureCorpus
from loupe_trainer.teachers.normalise import ImageNetNormalise
from loupe_trainer.teachers.pdn import PdnShape, student_network, teacher_network

TINY = PdnShape("S", 0.07)
SIZE_HW = (128, 160)


def make_samples(n: int, seed: int) -> list[Tensors]:
    rng = np.random.default_rng(seed)
    return [{"rgb": TextureCorpus().picture(rng, *SIZE_HW)[None]} for _ in range(n)]


SETTINGS: dict[str, object] = {
    "width_px": SIZE_HW[1], "height_px": SIZE_HW[0], "steps": 6, "lr": 1e-3,
    "n_penalty_pictures": 4,
    "pretrain": {"width": TINY.width, "steps": 3, "batch": 8, "n_pictures": 4},
}  # fmt: skip


def fit(run: RunFolder) -> EfficientAdDetector:
    method = get_method("efficientad", SETTINGS, 5, Path(), ("rgb",))
    detector = method.fit(make_samples(5, 0), make_samples(2, 9), run, SilentProgress())["rgb"]
    assert isinstance(detector, EfficientAdDetector)
    return detector


def make_networks() -> Networks:
    torch.manual_seed(0)
    return Networks(teacher_network(TINY), student_network(TINY), Autoencoder(TINY, SIZE_HW))


def test_classic_1_one_adam_and_not_adamw_over_student_and_autoencoder() -> None:
    networks = make_networks()
    optimiser = make_optimiser(networks, EfficientAdConfig())
    assert type(optimiser) is torch.optim.Adam
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-4, 1e-5)
    assert not group["decoupled_weight_decay"]
    held = {id(p) for p in group["params"]}
    assert held == {id(p) for m in networks.trained.values() for p in m.parameters()}
    rates = [learning_rate(1e-4, step, 70_000) for step in (0, 66_499, 66_500, 69_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


def test_classic_2_padding_is_off_in_anomaly_detection(tmp_path: Path) -> None:
    detector = fit(RunFolder(tmp_path))
    for network in (detector.teacher, detector.student):
        assert all(m.padding == (0, 0) for m in network.modules() if isinstance(m, torch.nn.Conv2d))
        assert all(m.padding == 0 for m in network.modules() if isinstance(m, torch.nn.AvgPool2d))
    local_map, _ = detector.raw_maps(torch.zeros(1, *SIZE_HW, 3, dtype=torch.uint8))
    assert local_map.shape[2:] == (SIZE_HW[0] // 4 - 8, SIZE_HW[1] // 4 - 8)


def test_classic_3_quantiles_come_from_held_out_raw_maps(tmp_path: Path) -> None:
    method = get_method("efficientad", SETTINGS, 5, Path(), ("rgb",))
    detector = method.fit(make_samples(5, 0), [], RunFolder(tmp_path), SilentProgress())["rgb"]
    assert isinstance(detector, EfficientAdDetector)
    untouched = (float(detector.local_scale.low), float(detector.local_scale.high))
    assert untouched == pytest.approx((0.0, 0.1))  # fitting alone sets no scale
    held_out = make_samples(4, 9)
    method.normalise({"rgb": detector}, held_out)
    with torch.no_grad():
        raw = [detector.raw_maps(torch.from_numpy(np.asarray(s["rgb"]))) for s in held_out]
    for branch, scale in enumerate((detector.local_scale, detector.global_scale)):
        pixels = np.concatenate([maps[branch].numpy().ravel() for maps in raw])
        assert float(scale.low) == pytest.approx(np.quantile(pixels, 0.9), rel=1e-5)
        assert float(scale.high) == pytest.approx(np.quantile(pixels, 0.995), rel=1e-5)
        scaled = scale(torch.tensor([float(scale.low), float(scale.high)]))
        assert scaled.tolist() == pytest.approx([0.0, 0.1], abs=1e-6)


def test_classic_4_teacher_statistics_are_those_of_unpadded_training_pictures(
    tmp_path: Path,
) -> None:
    detector = fit(RunFolder(tmp_path))
    normalise = ImageNetNormalise()
    with torch.no_grad():
        features = torch.cat(
            [
                detector.teacher(
                    normalise(torch.from_numpy(np.asarray(s["rgb"])).float().permute(0, 3, 1, 2))
                )
                for s in make_samples(5, 0)
            ]
        ).double()
    assert features.mean((0, 2, 3)).abs().max() < 1e-3
    spread = features.square().mean((0, 2, 3)).sqrt()
    assert (spread - 1).abs().max() < 1e-3


def test_classic_5_pictures_are_normalised_once(tmp_path: Path) -> None:
    detector = fit(RunFolder(tmp_path))
    assert sum(isinstance(m, ImageNetNormalise) for m in detector.modules()) == 1
    seen: list[torch.Tensor] = []
    for network in (detector.teacher.stem, detector.student.stem, detector.autoencoder):
        network.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    rgb = np.asarray(make_samples(1, 2)[0]["rgb"], np.uint8)
    detector(torch.from_numpy(rgb))
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    expected = torch.from_numpy((rgb / 255 - mean) / std).permute(0, 3, 1, 2).float()
    assert len(seen) == 3
    for picture in seen:
        torch.testing.assert_close(picture, expected, rtol=1e-5, atol=1e-5)
