"""Golden frames, parity and the Gaussian baseline: what a bundle's numbers rest on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_models.frame import Frame, Label, Rect
from loupe_models.gate import ByHeight, GateSpec
from loupe_models.groups import group_points
from loupe_models.points import grid_points, sample_farthest
from loupe_models.preprocess import Crop, PreprocessSpec, Resize, Tensors
from loupe_trainer.errors import DataError, ParityError, TrainingError
from loupe_trainer.export import export_onnx
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.golden import GoldenRule, choose_golden, spoil, write_golden
from loupe_trainer.methods.base import Detector
from loupe_trainer.parity import measure_parity, random_inputs
from loupe_trainer.scorer import Scorer
from loupe_trainer.views import View

SIDE = 16
VIEW = View(
    gate=GateSpec(),
    preprocess=PreprocessSpec(steps=(Crop(), Resize(width_px=SIDE, height_px=SIDE))),
)


class Brightness(Detector):
    """The map is the brightness, the score its mean: easy to predict by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        anomaly_map = rgb.to(torch.float32).permute(0, 3, 1, 2).mean(dim=1, keepdim=True)
        anomaly_map = anomaly_map * self.gain
        return anomaly_map, anomaly_map.mean(dim=(1, 2, 3))


def flat(value: int, part: str = "p") -> Frame:
    rgb = np.full((20, 24, 3), value, np.uint8)
    return Frame.from_image(rgb, label=Label(part_id=part))


def colour(frame: Frame) -> npt.NDArray[np.uint8]:
    assert frame.rgb is not None
    return frame.rgb


def tensors(value: int) -> Tensors:
    seen = VIEW.tensors(flat(value))
    assert seen is not None
    return seen


@pytest.fixture
def scorer(tmp_path: Path) -> Iterator[Scorer]:
    inputs, outputs = export_onnx(Brightness(), tensors(7), tmp_path / "g.onnx")
    with Scorer(tmp_path / "g.onnx", inputs, outputs) as opened:
        yield opened


def test_golden_frames_are_clear_of_the_threshold(scorer: Scorer) -> None:
    rule = GoldenRule(VIEW, scorer, threshold=100.0, margin=5.0)
    good = [flat(v) for v in (101, 97, 90, 20, 10)]
    defects = [flat(v) for v in (103, 50, 200, 220, 240)]
    golden = choose_golden(good, defects, rule)
    assert [(g.score, g.decision) for g in golden] == [
        (90.0, "good"), (20.0, "good"), (200.0, "defect"), (220.0, "defect"),
    ]  # fmt: skip


def test_a_spoiled_part_stands_in_for_a_defect(scorer: Scorer) -> None:
    rule = GoldenRule(VIEW, scorer, threshold=10.1, margin=0.05)
    golden = choose_golden([flat(10)], [], rule)
    assert [g.decision for g in golden] == ["good", "defect", "defect"]
    assert 10.15 <= golden[1].score < golden[2].score < 20


def test_a_gate_may_look_at_a_stream_that_golden_frames_do_not_keep(scorer: Scorer) -> None:
    belt = belt_from_camera((0.0, 0.0, -1.0), (0.0, 0.0, 0.5))
    view = VIEW.model_copy(update={"gate": GateSpec(occupied=ByHeight()), "belt_from_camera": belt})
    frame = replace(
        flat(10),
        depth=np.full((20, 24), 470, np.uint16),  # a part 30 mm above the belt
        depth_scale_m=0.001,
        intrinsics=Intrinsics(24, 20, 20.0, 20.0, 11.5, 9.5),
    )
    golden = choose_golden([frame], [], GoldenRule(view, scorer, threshold=10.1, margin=0.05))
    assert [g.decision for g in golden] == ["good", "defect", "defect"]
    assert all(g.frame.depth is None for g in golden)
    bare = replace(frame, depth=np.full((20, 24), 500, np.uint16))
    assert GoldenRule(view, scorer, threshold=10.1, margin=0.05).judge(bare) is None


def test_a_network_that_objects_to_nothing_is_refused(scorer: Scorer) -> None:
    with pytest.raises(TrainingError, match="nor a spoiled part"):
        choose_golden([flat(10)], [], GoldenRule(VIEW, scorer, threshold=200.0, margin=1.0))
    with pytest.raises(TrainingError, match="no calibration frame passes"):
        choose_golden([flat(10)], [], GoldenRule(VIEW, scorer, threshold=1.0, margin=1.0))


def test_spoiling_touches_the_part_only_and_grows() -> None:
    frame, region = flat(100), Rect(4, 4, 16, 12)
    change = [np.abs(colour(s).astype(int) - 100).sum(axis=-1) for s in spoil(frame, region)]
    sums = [int(c.sum()) for c in change]
    assert all(sums[i : i + 5] == sorted(sums[i : i + 5]) for i in (0, 5, 10))
    assert 0 < sums[0] < sums[10]
    for moved in change:
        moved = moved.copy()
        moved[4:16, 4:20] = 0
        assert not moved.any()
    assert (colour(frame) == 100).all()


def test_a_golden_frame_keeps_its_pixels(scorer: Scorer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = Frame.from_image(rng.integers(0, 99, (20, 24, 3), dtype=np.uint8))
    [found] = [GoldenRule(VIEW, scorer, 100.0, 1.0).judge(frame)]
    assert found is not None
    golden = write_golden(tmp_path, "rgb-3", found, None)
    assert golden.rgb == "golden/rgb-3-rgb.png"
    assert golden.rect_px == Rect(0, 0, 24, 20)
    written = cv2.imread(str(tmp_path / golden.rgb))
    assert written is not None
    np.testing.assert_array_equal(written[..., ::-1], colour(frame))


def test_parity_of_an_export_and_of_another_network(scorer: Scorer) -> None:
    scores = [10.0, 11.0, 12.0]
    inputs = [tensors(10), *random_inputs(tensors(10), seed=1)]
    errors = measure_parity(Brightness(), scorer, inputs, scores)
    assert max(errors.values()) < 1e-3
    other = Brightness()
    with torch.no_grad():
        other.gain.fill_(1.001)
    with pytest.raises(ParityError, match="differs from the network: image_score"):
        measure_parity(other, scorer, inputs, scores)


def test_parity_does_not_take_nan_for_an_answer(scorer: Scorer) -> None:
    other = Brightness()
    with torch.no_grad():
        other.gain.fill_(float("nan"))
    with pytest.raises(ParityError):
        measure_parity(other, scorer, [tensors(10)], [10.0, 11.0])


def test_random_inputs_are_of_the_kind_the_graph_takes() -> None:
    like: Tensors = {
        "rgb": np.zeros((1, 8, 8, 3), np.uint8),
        "xyz": np.array([[[[0.0, 0, 0], [0.1, 0.2, 0.5]]]], np.float32),
        "valid": np.array([[[0, 1]]], np.uint8),
    }
    for made in random_inputs(like, seed=0):
        assert {n: (a.shape, a.dtype) for n, a in made.items()} == {
            n: (a.shape, a.dtype) for n, a in like.items()
        }
        assert (made["xyz"][0, 0, 0] == 0).all()
        assert (made["valid"] == like["valid"]).all()
        assert made["rgb"].std() > 50


@pytest.mark.parametrize("cloud_of", [("xyz", "valid"), ("xyz",), ()])
def test_random_groups_belong_together(cloud_of: tuple[str, ...]) -> None:
    rng = np.random.default_rng(2)
    valid = (rng.random((12, 12)) > 0.3).astype(np.uint8)
    xyz = (rng.random((12, 12, 3)) * valid[..., None]).astype(np.float32)
    chosen = sample_farthest(grid_points(xyz, valid), 16)
    cloud: Tensors = {"xyz": xyz, "valid": valid}
    whole: Tensors = {name: cloud[name] for name in cloud_of}
    arrays = {**whole, **group_points(xyz, valid, chosen, 8)}
    like: Tensors = {name: array[None] for name, array in arrays.items()}
    for made in random_inputs(like, seed=0):
        assert {n: (a.shape, a.dtype) for n, a in made.items()} == {
            n: (a.shape, a.dtype) for n, a in like.items()
        }
        is_valid = valid.ravel() != 0
        np.testing.assert_array_equal(made["nn_weight"][0].sum(axis=1) > 0, is_valid)
        assert not made["groups"][0, :, 0].any()
        assert (made["centres"] != like["centres"]).any()
        if "xyz" in made:
            points = made["xyz"][0].astype(np.float32)
            centres = points[valid != 0][sample_farthest(grid_points(points, valid), 16)]
            np.testing.assert_allclose(made["centres"][0], centres, atol=5.1e-6)


def test_gaussian_baseline_by_hand() -> None:
    rng = np.random.default_rng(0)
    crops = [rng.normal(100, 8, (1, 24, 24, 3)).round().astype(np.uint8) for _ in range(200)]
    baseline = GaussianBaseline.fit(crops)
    assert baseline.mean.shape == (24, 24, 3)
    assert abs(float(baseline.mean.mean()) - 100) < 0.2
    assert baseline.std.min() >= 1
    odd = crops[0].copy()
    odd[0, 8:16, 8:16] = 160
    plain, spotted = baseline.score(crops[0]), baseline.score(odd)
    assert plain < 6
    inside = (160 - baseline.mean[12, 12]) / baseline.std[12, 12]
    assert spotted == pytest.approx(float(inside.max()), rel=0.5)
    assert spotted > 3 * plain


def test_gaussian_baseline_is_saved_without_pickle(tmp_path: Path) -> None:
    baseline = GaussianBaseline.fit([np.zeros((4, 4, 3), np.uint8)])
    baseline.save(tmp_path / "b.npz")
    again = GaussianBaseline.load(tmp_path / "b.npz")
    np.testing.assert_array_equal(again.std, baseline.std)
    (tmp_path / "b.npz").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not a readable baseline"):
        GaussianBaseline.load(tmp_path / "b.npz")
    with pytest.raises(DataError, match="no crop"):
        GaussianBaseline.fit([])
