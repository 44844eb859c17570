"""Our maps and losses against a plain transcription of the paper's formulae, written apart."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector, fold_statistics
from loupe_trainer.methods.efficientad.losses import hard_feature_loss
from loupe_trainer.teachers.pdn import Pdn, PdnShape, student_network, teacher_network

SHAPE = PdnShape("S", 0.1)
SIZE = 160


def plain_pdn(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    x = nnf.relu(nnf.conv2d(x, weights["stem.0.weight"], weights["stem.0.bias"]))
    x = nnf.avg_pool2d(x, 2, 2)
    x = nnf.relu(nnf.conv2d(x, weights["stem.3.weight"], weights["stem.3.bias"]))
    x = nnf.avg_pool2d(x, 2, 2)
    x = nnf.relu(nnf.conv2d(x, weights["body.0.weight"], weights["body.0.bias"]))
    return nnf.conv2d(x, weights["last.weight"], weights["last.bias"])


def plain_autoencoder(w: dict[str, Tensor], x: Tensor) -> Tensor:
    for i in (0, 2, 4, 6, 8):
        x = nnf.conv2d(x, w[f"encoder.{i}.weight"], w[f"encoder.{i}.bias"], stride=2, padding=1)
        x = nnf.relu(x)
    x = nnf.conv2d(x, w["encoder.10.weight"], w["encoder.10.bias"])
    for i, size in enumerate((1, 5, 9, 20, 39, 79)):
        x = nnf.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
        x = nnf.relu(nnf.conv2d(x, w[f"decoder.{i}.weight"], w[f"decoder.{i}.bias"], padding=2))
    x = nnf.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False)
    x = nnf.relu(nnf.conv2d(x, w["head.0.weight"], w["head.0.bias"], padding=1))
    return nnf.conv2d(x, w["head.2.weight"], w["head.2.bias"], padding=1)


@pytest.fixture(scope="module")
def rgb() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def networks() -> tuple[Pdn, Pdn, Autoencoder]:
    torch.manual_seed(2)
    return (
        teacher_network(SHAPE).eval(),
        student_network(SHAPE).eval(),
        Autoencoder(SHAPE, (SIZE, SIZE)).eval(),
    )


@torch.no_grad()
def test_maps_equal_the_formulae(
    networks: tuple[Pdn, Pdn, Autoencoder], rgb: npt.NDArray[np.uint8]
) -> None:
    teacher, student, autoencoder = networks
    mean, std = torch.randn(teacher.channels), torch.rand(teacher.channels) + 0.5
    quantiles = {"st": (0.2, 1.7), "ae": (0.01, 0.03)}

    x = torch.from_numpy(rgb.astype(np.float64) / 255).permute(0, 3, 1, 2)
    channel_mean = torch.tensor((0.485, 0.456, 0.406), dtype=torch.float64).view(1, 3, 1, 1)
    channel_std = torch.tensor((0.229, 0.224, 0.225), dtype=torch.float64).view(1, 3, 1, 1)
    x = ((x - channel_mean) / channel_std).float()
    t = (plain_pdn(teacher.state_dict(), x) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    s = plain_pdn(student.state_dict(), x)
    a = plain_autoencoder(autoencoder.state_dict(), x)
    c = SHAPE.feature_channels
    m_st = ((t - s[:, :c]) ** 2).mean(1, keepdim=True)
    m_ae = ((a - s[:, c:]) ** 2).mean(1, keepdim=True)
    scaled = [
        0.1 * (m - q_a) / (q_b - q_a)
        for m, (q_a, q_b) in zip((m_st, m_ae), quantiles.values(), strict=True)
    ]
    fused = nnf.pad(0.5 * scaled[0] + 0.5 * scaled[1], (4, 4, 4, 4))
    whole = nnf.interpolate(fused, (SIZE, SIZE), mode="bilinear", align_corners=False)

    folded = teacher_network(SHAPE)
    folded.load_state_dict(teacher.state_dict())
    fold_statistics(folded, mean, std)
    detector = EfficientAdDetector(folded, student, autoencoder).eval()
    for scale, (low, high) in (
        (detector.local_scale, quantiles["st"]),
        (detector.global_scale, quantiles["ae"]),
    ):
        scale.low.fill_(low)
        scale.high.fill_(high)
    local_map, global_map = detector.raw_maps(torch.from_numpy(rgb))
    torch.testing.assert_close(local_map, m_st, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(global_map, m_ae, rtol=1e-5, atol=1e-5)
    anomaly_map, image_score = detector(torch.from_numpy(rgb))
    torch.testing.assert_close(anomaly_map, whole, rtol=1e-4, atol=1e-4)
    assert image_score.shape == (1,)
    assert float(image_score) == float(anomaly_map.max())


@torch.no_grad()
def test_a_teacher_with_folded_statistics_equals_one_without(
    networks: tuple[Pdn, Pdn, Autoencoder],
) -> None:
    teacher = networks[0]
    mean, std = torch.randn(teacher.channels), torch.rand(teacher.channels) + 0.1
    picture = torch.randn(1, 3, SIZE, SIZE)
    expected = (teacher(picture) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    folded = teacher_network(SHAPE)
    folded.load_state_dict(teacher.state_dict())
    fold_statistics(folded, mean, std)
    difference = (folded(picture) - expected).abs().max() / expected.abs().max()
    assert float(difference) <= 1e-4


@pytest.mark.parametrize("shape", [(1, 3, 7, 11), (2, 8, 24, 24), (3, 5, 40, 26)])
def test_hard_feature_loss_is_the_mean_above_each_images_quantile(
    shape: tuple[int, int, int, int],
) -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(shape), torch.randn(shape)
    scale = torch.arange(1.0, shape[0] + 1).view(-1, 1, 1, 1)  # images of different difficulty
    per_image = []
    for one, other in zip(teacher * scale, student * scale, strict=True):
        d = (one - other).square()
        d_hard = torch.quantile(d.double(), 0.999)
        per_image.append(float(d[d >= d_hard].mean()))
    loss = hard_feature_loss(teacher * scale, student * scale)
    assert float(loss) == pytest.approx(math.fsum(per_image) / len(per_image), rel=1e-6)
