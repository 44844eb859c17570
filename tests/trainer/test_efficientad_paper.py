"""Our maps and losses against a plain transcription of the paper's formulae, written apart."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from loupe_trainer.export import export_onnx
from loupe_trainer.methods.efficientad import training
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector, fold_statistics
from loupe_trainer.methods.efficientad.frozen import freeze
from loupe_trainer.methods.efficientad.losses import hard_feature_loss
from loupe_trainer.methods.efficientad.pictures import StepSource
from loupe_trainer.methods.efficientad.training import step_losses
from loupe_trainer.teachers.pdn import Pdn, PdnShape, student_network, teacher_network

SHAPES = (PdnShape("S", 0.1), PdnShape("M", 0.1))
SIZE_HW = (160, 224)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
QUANTILES = {"st": (0.2, 1.7), "ae": (0.01, 0.03)}

Weights = dict[str, Tensor]
Networks = tuple[Pdn, Pdn, Autoencoder]


def plain_pdn(w: Weights, x: Tensor) -> Tensor:
    x = nnf.relu(nnf.conv2d(x, w["stem.0.weight"], w["stem.0.bias"]))
    x = nnf.avg_pool2d(x, 2, 2)
    x = nnf.relu(nnf.conv2d(x, w["stem.3.weight"], w["stem.3.bias"]))
    x = nnf.avg_pool2d(x, 2, 2)
    x = nnf.relu(nnf.conv2d(x, w["body.0.weight"], w["body.0.bias"]))
    if "body.4.weight" in w:  # the medium network
        x = nnf.relu(nnf.conv2d(x, w["body.2.weight"], w["body.2.bias"]))
        x = nnf.relu(nnf.conv2d(x, w["body.4.weight"], w["body.4.bias"]))
    return nnf.conv2d(x, w["last.weight"], w["last.bias"])


def plain_autoencoder(w: Weights, x: Tensor) -> Tensor:
    for i in (0, 2, 4, 6, 8):
        x = nnf.conv2d(x, w[f"encoder.{i}.weight"], w[f"encoder.{i}.bias"], stride=2, padding=1)
        x = nnf.relu(x)
    x = nnf.conv2d(x, w["encoder.10.weight"], w["encoder.10.bias"])
    heights, widths = (1, 5, 9, 20, 39, 79), (2, 7, 13, 28, 55, 111)
    for i, size in enumerate(zip(heights, widths, strict=True)):
        x = nnf.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = nnf.relu(nnf.conv2d(x, w[f"decoder.{i}.weight"], w[f"decoder.{i}.bias"], padding=2))
    x = nnf.interpolate(x, size=(32, 48), mode="bilinear", align_corners=False)
    x = nnf.relu(nnf.conv2d(x, w["head.0.weight"], w["head.0.bias"], padding=1))
    return nnf.conv2d(x, w["head.2.weight"], w["head.2.bias"], padding=1)


def plain_input(rgb: npt.NDArray[np.uint8]) -> Tensor:
    x = (rgb.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(x).permute(0, 3, 1, 2).float()


def plain_distance(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).mean(1, keepdim=True)


@pytest.fixture(scope="module")
def rgb() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (2, *SIZE_HW, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: shape.size)
def networks(request: pytest.FixtureRequest) -> Networks:
    torch.manual_seed(2)
    shape: PdnShape = request.param
    teacher, student = teacher_network(shape), student_network(shape)
    return teacher.eval(), student.eval(), Autoencoder(shape, SIZE_HW).eval()


def folded_copy(teacher: Pdn, mean: Tensor, std: Tensor) -> Pdn:
    folded = teacher_network(teacher.shape)
    folded.load_state_dict(teacher.state_dict())
    fold_statistics(folded, mean, std)
    return folded.eval()


@torch.no_grad()
def test_maps_equal_the_formulae(networks: Networks, rgb: npt.NDArray[np.uint8]) -> None:
    teacher, student, autoencoder = networks
    mean, std = torch.randn(teacher.channels), torch.rand(teacher.channels) + 0.5

    x = plain_input(rgb[:1])
    t = (plain_pdn(teacher.state_dict(), x) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    s = plain_pdn(student.state_dict(), x)
    a = plain_autoencoder(autoencoder.state_dict(), x)
    c = teacher.channels
    maps = {"st": plain_distance(t, s[:, :c]), "ae": plain_distance(a, s[:, c:])}
    scaled = {
        name: 0.1 * (maps[name] - q_a) / (q_b - q_a) for name, (q_a, q_b) in QUANTILES.items()
    }
    fused = nnf.pad(0.5 * scaled["st"] + 0.5 * scaled["ae"], (4, 4, 4, 4))
    whole = nnf.interpolate(fused, SIZE_HW, mode="bilinear", align_corners=False)

    detector = EfficientAdDetector(folded_copy(teacher, mean, std), student, autoencoder).eval()
    for scale, name in ((detector.local_scale, "st"), (detector.global_scale, "ae")):
        scale.low.fill_(QUANTILES[name][0])
        scale.high.fill_(QUANTILES[name][1])
    local_map, global_map = detector.raw_maps(torch.from_numpy(rgb[:1]))
    torch.testing.assert_close(local_map, maps["st"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(global_map, maps["ae"], rtol=1e-5, atol=1e-5)
    anomaly_map, image_score = detector(torch.from_numpy(rgb[:1]))
    torch.testing.assert_close(anomaly_map, whole, rtol=1e-4, atol=1e-4)
    assert image_score.shape == (1,)
    assert float(image_score) == pytest.approx(float(whole.max()), rel=1e-4)


@torch.no_grad()
def test_a_graph_with_folded_statistics_equals_one_without(
    networks: Networks, rgb: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    class Unfolded(Pdn):
        def describe(self, stemmed: Tensor, channels: slice = slice(None)) -> Tensor:
            described = super().describe(stemmed, channels)
            return (described - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)

    teacher, student, autoencoder = networks
    mean, std = torch.randn(teacher.channels), torch.rand(teacher.channels) + 0.1
    unfolded = Unfolded(teacher.shape, teacher.channels)
    unfolded.load_state_dict(teacher.state_dict())
    answers, n_nodes = [], []
    for i, one in enumerate((folded_copy(teacher, mean, std), unfolded)):
        file = tmp_path / f"{i}.onnx"
        export_onnx(EfficientAdDetector(one, student, autoencoder), {"rgb": rgb[:1]}, file)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {"rgb": rgb[:1]}))
        n_nodes.append(len(onnx.load(file).graph.node))
    for folded, plain in zip(*answers, strict=True):
        assert np.abs(folded - plain).max() <= 1e-4 * np.abs(plain).max()
    assert n_nodes[0] < n_nodes[1]


@torch.no_grad()
def test_the_losses_equal_the_formulae(
    networks: Networks, rgb: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step on two parts: hard features, penalty, and both losses of the autoencoder."""
    monkeypatch.setattr("loupe_trainer.compute.has_fast_bf16", lambda _device: False)
    teacher, student, autoencoder = networks
    foreign = np.random.default_rng(4).integers(0, 256, rgb.shape, dtype=np.uint8)
    drawn = StepSource(rgb, 2, 2, 0).draw(0)
    assert drawn.foreign_rows is not None
    frozen = freeze(teacher, rgb, foreign, shared_stem=False, cache_mb=0)
    ours = step_losses(training.Networks(*networks), drawn, frozen).floats()

    c = teacher.channels
    x, p = plain_input(rgb[drawn.rows]), plain_input(foreign[drawn.foreign_rows])
    channels = torch.tensor((MEAN, STD)).view(2, 1, 3, 1, 1)
    x_aug = (drawn.recoloured / 255 - channels[0]) / channels[1]
    d = (plain_pdn(teacher.state_dict(), x) - plain_pdn(student.state_dict(), x)[:, :c]) ** 2
    hard = [one[one >= torch.quantile(one.double(), 0.999)].mean() for one in d]
    penalty = (plain_pdn(student.state_dict(), p)[:, :c] ** 2).mean()
    t_aug = plain_pdn(teacher.state_dict(), x_aug)
    s_aug = plain_pdn(student.state_dict(), x_aug)[:, c:]
    a_aug = plain_autoencoder(autoencoder.state_dict(), x_aug)
    expected = {
        "hard": float(torch.stack(hard).mean()),
        "penalty": float(penalty),
        "autoencoder": float(((t_aug - a_aug) ** 2).mean()),
        "student_autoencoder": float(((a_aug - s_aug) ** 2).mean()),
    }
    # the teacher's answers are kept in half precision
    assert ours == pytest.approx(expected | {"total": sum(expected.values())}, rel=1e-4)


def _as_trained(networks: Networks) -> training.Networks:
    return training.Networks(*networks)


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
