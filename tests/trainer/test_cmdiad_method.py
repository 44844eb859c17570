"""CMDIAD put together: what each mode's graph takes, knows and says."""

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from killing import count_lines, kill_after
from onnx import numpy_helper
from torch import nn

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_models.errors import FrameError, ThresholdError
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.manifest import Mode
from loupe_models.preprocess import PreprocessSpec, Tensors, preprocess
from loupe_trainer.encoders import point_weights
from loupe_trainer.encoders.point_encoder import PointEncoder
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import PointShape
from loupe_trainer.errors import RecipeError
from loupe_trainer.export import export_onnx
from loupe_trainer.methods import get_method
from loupe_trainer.methods.base import Detector, Method
from loupe_trainer.methods.cmdiad.detector import CmdiadDetector
from loupe_trainer.methods.cmdiad.hallucination import FromFeatures
from loupe_trainer.parity import measure_parity
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.scorer import Scorer

QUIET = SilentProgress()
ALL: tuple[Mode, ...] = ("rgb", "depth", "rgbd")
GROUPED = ("groups", "centres", "nn_index", "nn_weight")
REGION = Rect(8, 8, 48, 48)
LENS = Intrinsics(64, 64, 70.0, 70.0, 31.5, 31.5)
BELT = belt_from_camera((0.0, 0.0, -1.0), (0.0, 0.0, 0.52))
TINY: Mapping[str, Any] = {
    "size_px": 32,
    "fusion_share": 0.3,
    "rgb": {"channels": 32, "depth": 1, "steps": 3},
    "depth": {"n_points": 24, "group_size": 8, "steps": 2},
    "bank": {"share": 0.2},
}


def a_frame(seed: int, is_dented: bool = False) -> Frame:
    """A grey block with shaded edges, 20 mm above the belt."""
    rng = np.random.default_rng(seed)
    rgb = np.full((64, 64, 3), 30, np.uint8)
    depth = np.full((64, 64), 5200, np.uint16)
    part = (slice(14, 50), slice(12, 52))
    rgb[part] = (np.linspace(90, 150, 40)[None, :, None] + rng.normal(0, 4, (36, 40, 3))).clip(0)
    depth[part] = (5000 + 30 * np.sin(np.arange(40) / 5) + rng.normal(0, 2, (36, 40))).round()
    if is_dented:
        depth[24:34, 24:34] += 80
        rgb[24:34, 24:34] = 240
    return Frame(seed, 0, CameraTime(ns=0, domain="hardware"), rgb, depth, 1e-4, LENS)


def tensors(frame: Frame, spec: PreprocessSpec) -> Tensors:
    return preprocess(frame, REGION, spec, BELT).tensors


def open_method(kind: str, modes: Sequence[Mode] = ALL, **more: Any) -> Method:
    settings = {**TINY, "distillation": {"kind": kind, "epochs": 2, "batch": 4}} | more
    return get_method("cmdiad", settings, 4, Path(), modes)


def samples_for(method: Method, seeds: range) -> list[Tensors]:
    spec = method.learnt_from()
    assert spec is not None
    return [tensors(a_frame(seed), spec) for seed in seeds]


def learn(method: Method, folder: Path) -> Mapping[Mode, Detector]:
    detectors = method.fit(samples_for(method, range(10)), [], RunFolder(folder), QUIET)
    method.normalise(detectors, samples_for(method, range(10, 16)))
    return detectors


class Learnt:
    """A method that has learnt, its detectors and their graphs."""

    def __init__(self, kind: str, modes: Sequence[Mode], folder: Path) -> None:
        self.method = open_method(kind, modes)
        self.detectors = learn(self.method, folder / "run")
        self.files = {mode: folder / f"{mode}.onnx" for mode in modes}
        self.scorers = {}
        for mode, detector in self.detectors.items():
            self.specs = export_onnx(detector, self.see(mode, a_frame(99)), self.files[mode])
            self.scorers[mode] = Scorer(self.files[mode], *self.specs)

    def see(self, mode: Mode, frame: Frame) -> Tensors:
        return tensors(frame, self.method.preprocess(mode))

    def part(self, mode: Mode, name: str) -> nn.Module:
        found = getattr(self.detectors[mode], name)
        assert isinstance(found, nn.Module)
        return found


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Learnt]:
    folder = tmp_path_factory.mktemp("learnt")
    return {
        "f2f": Learnt("f2f", ALL, folder / "f2f"),
        "i2f": Learnt("i2f", ("rgb", "depth"), folder / "i2f"),
        "f2i": Learnt("f2i", ("depth",), folder / "f2i"),
    }


BOTH_WAYS = [("f2f", "rgb"), ("f2f", "depth"), ("i2f", "rgb"), ("i2f", "depth"), ("f2i", "depth")]


def inputs_of(file: Path) -> list[str]:
    return [value.name for value in onnx.load(file).graph.input]


def constants_of(file: Path) -> list[npt.NDArray[Any]]:
    graph = onnx.load(file).graph
    inside = [a.t for node in graph.node for a in node.attribute if node.op_type == "Constant"]
    return [numpy_helper.to_array(tensor) for tensor in (*graph.initializer, *inside)]


def holds(file: Path, network: nn.Module) -> bool:
    """Whether any larger weight of a network is in a graph, as it is or transposed."""
    found = {np.sort(c, axis=None).tobytes() for c in constants_of(file) if c.dtype == np.float32}
    weights = [v.detach().numpy() for v in network.state_dict().values() if v.numel() >= 300]
    assert weights
    return any(np.sort(weight, axis=None).tobytes() in found for weight in weights)


@pytest.mark.parametrize(
    ("kind", "mode", "names"),
    [
        ("f2f", "rgb", ("rgb",)),
        ("f2f", "depth", GROUPED),
        ("f2f", "rgbd", ("rgb", *GROUPED)),
        ("i2f", "rgb", ("rgb",)),
        ("i2f", "depth", (*GROUPED, "xyz")),
        ("f2i", "depth", GROUPED),
    ],
)
def test_a_graph_takes_the_tensors_of_its_own_mode_and_no_other(
    learnt: Mapping[str, Learnt], kind: str, mode: Mode, names: tuple[str, ...]
) -> None:
    assert tuple(inputs_of(learnt[kind].files[mode])) == names
    assert tuple(learnt[kind].method.preprocess(mode).tensors) == names


@pytest.mark.parametrize("kind", ["f2f", "i2f"])
def test_no_encoder_of_the_other_modality_is_in_the_graph(
    learnt: Mapping[str, Learnt], kind: str
) -> None:
    one = learnt[kind]
    rgb, depth = one.part("rgb", "encoder"), one.part("depth", "encoder")
    assert holds(one.files["rgb"], rgb)
    assert not holds(one.files["rgb"], depth)
    assert holds(one.files["depth"], depth)
    assert not holds(one.files["depth"], rgb)
    for mode in ("rgb", "depth"):
        assert holds(one.files[mode], one.part(mode, "hallucination"))


def test_f2i_paints_for_the_colour_encoder_inside_the_depth_graph(
    learnt: Mapping[str, Learnt],
) -> None:
    one = learnt["f2i"]
    painter = one.part("depth", "hallucination")
    assert holds(one.files["depth"], painter.get_submodule("encoder"))
    assert holds(one.files["depth"], painter.get_submodule("network"))


def test_f2i_is_refused_for_colour_and_the_reason_is_told() -> None:
    with pytest.raises(RecipeError, match=r"sampled and grouped .* leave rgb out of modes"):
        open_method("f2i", ("depth", "rgb"))


@pytest.mark.parametrize(("kind", "mode"), BOTH_WAYS)
def test_without_the_other_stream_the_answer_is_the_same_to_the_bit(
    learnt: Mapping[str, Learnt], kind: str, mode: Mode
) -> None:
    one, whole = learnt[kind], a_frame(31)
    alone = (
        replace(whole, depth=None, depth_scale_m=None)
        if mode == "rgb"
        else replace(whole, rgb=None)
    )
    answers = [one.scorers[mode].answer(one.see(mode, frame)) for frame in (whole, alone)]
    assert answers[0].score == answers[1].score
    assert answers[0].anomaly_map.tobytes() == answers[1].anomaly_map.tobytes()
    with pytest.raises(FrameError):
        one.see("depth" if mode == "rgb" else "rgb", alone)


@pytest.mark.parametrize(("kind", "mode"), [*BOTH_WAYS, ("f2f", "rgbd")])
def test_onnx_runtime_says_what_torch_says(
    learnt: Mapping[str, Learnt], kind: str, mode: Mode
) -> None:
    one = learnt[kind]
    good = [one.see(mode, a_frame(seed)) for seed in range(60, 68)]
    bad = [one.see(mode, a_frame(seed, is_dented=True)) for seed in range(68, 72)]
    scores = [one.scorers[mode].answer(frame).score for frame in good]
    worst = measure_parity(one.detectors[mode], one.scorers[mode], [*good, *bad], scores)
    assert max(worst.values()) <= 1e-3


@pytest.mark.parametrize(("kind", "mode"), [*BOTH_WAYS, ("f2f", "rgbd")])
def test_a_half_precision_copy_takes_the_same_tensors_and_exports(
    learnt: Mapping[str, Learnt], tmp_path: Path, kind: str, mode: Mode
) -> None:
    one = learnt[kind]
    detector, sample = one.detectors[mode], one.see(mode, a_frame(99))
    half = copy.deepcopy(detector).half()
    given = [torch.from_numpy(np.array(sample[name])) for name in sample]
    with torch.no_grad():
        for full, rounded in zip(detector(*given), half(*given), strict=True):
            assert rounded.dtype == torch.float32
            # Good pixels lie between 0 and 0.1: this shows a broken copy, not what FP16 costs.
            torch.testing.assert_close(rounded, full, rtol=0, atol=0.05)
    export_onnx(half, sample, tmp_path / "half.onnx")  # lints


@pytest.mark.parametrize("mode", ALL)
def test_a_dent_with_a_spot_stands_out_in_score_and_map(
    learnt: Mapping[str, Learnt], mode: Mode
) -> None:
    one = learnt["f2f"]
    good = [one.scorers[mode].answer(one.see(mode, a_frame(seed))) for seed in range(40, 46)]
    bad = one.scorers[mode].answer(one.see(mode, a_frame(50, is_dented=True)))
    assert bad.score > max(answer.score for answer in good)
    assert bad.anomaly_map.max() > max(answer.anomaly_map.max() for answer in good)


@pytest.mark.parametrize("mode", ALL)
def test_a_score_is_its_maps_peak(learnt: Mapping[str, Learnt], mode: Mode) -> None:
    one = learnt["f2f"]
    answers = [one.scorers[mode].answer(one.see(mode, a_frame(seed))) for seed in range(10, 16)]
    for answer in answers:
        assert answer.score == pytest.approx(answer.anomaly_map.max())
    pixels = np.concatenate([answer.anomaly_map.ravel() for answer in answers])
    assert np.quantile(pixels, (0.9, 0.995)) == pytest.approx([0, 0.1], abs=1e-3)


def test_one_mode_needs_both_streams_to_learn_and_its_own_to_serve() -> None:
    method = open_method("f2f", ("rgb",))
    spec = method.learnt_from()
    assert spec is not None
    assert set(spec.tensors) == {"rgb", *GROUPED}
    assert method.preprocess("rgb").tensors == ("rgb",)
    alone = open_method("none", ("rgb",)).learnt_from()
    assert alone is not None
    assert alone.tensors == ("rgb",)


def test_without_distillation_a_mode_has_the_bank_of_what_it_sees(tmp_path: Path) -> None:
    method = open_method("none", ("rgb",))
    (detector,) = learn(method, tmp_path).values()
    assert isinstance(detector, CmdiadDetector)
    assert len(detector.judge.banks) == 1
    assert not list((tmp_path / "checkpoints").glob("*_from_*"))


def test_depth_is_described_about_its_mean_group(tmp_path: Path) -> None:
    """What all groups share would make a step of every outline."""
    method = open_method("none", ("depth",))
    (detector,) = learn(method, tmp_path).values()
    encoder = detector.get_submodule("encoder")
    assert isinstance(encoder, PointEncoder)
    seen = [tensors(a_frame(seed), method.preprocess("depth")) for seed in range(8)]
    pairs = [[torch.from_numpy(np.array(t[n])) for n in GROUPED[:2]] for t in seen]
    groups = torch.cat([encoder.network(*pair)[0] for pair in pairs])
    about = (groups - encoder.mean) / encoder.deviation
    assert about.mean(dim=0).abs().max() < 0.5
    assert about.square().mean().sqrt().item() == pytest.approx(1, abs=0.3)


CHEAP = {"kind": "surface", "surface_steps": 2, "n_points": 128, "group_size": 16, "steps": 2}


@pytest.mark.parametrize(("depth", "beside"), [(CHEAP, GROUPED), ({"kind": "relief"}, ())])
def test_cheap_fronts_take_no_groups_at_the_station(
    tmp_path: Path, depth: Mapping[str, Any], beside: Sequence[str]
) -> None:
    method = open_method("f2f", ("depth",), depth=depth)
    spec = method.learnt_from()
    assert spec is not None
    assert set(spec.tensors) == {"rgb", "xyz", "valid", *beside}
    (detector,) = learn(method, tmp_path).values()
    seen = tensors(a_frame(3), method.preprocess("depth"))
    specs = export_onnx(detector, seen, tmp_path / "depth.onnx")
    assert [spec.name for spec in specs[0]] == list(seen) == ["xyz", "valid"]
    answer = Scorer(tmp_path / "depth.onnx", *specs).answer(seen)
    said = detector(*(torch.from_numpy(np.array(array)) for array in seen.values()))
    assert answer.score == pytest.approx(said[1].item(), rel=1e-3)


def test_the_published_form_keeps_gelu_and_one_deviation_for_all_banks(tmp_path: Path) -> None:
    distillation = {"kind": "f2f", "paper": True, "epochs": 1}
    method = get_method("cmdiad", {**TINY, "distillation": distillation}, 4, Path(), ALL)
    detectors = learn(method, tmp_path)
    rgb, both = detectors["rgb"], detectors["rgbd"]
    assert isinstance(rgb, CmdiadDetector)
    assert isinstance(both, CmdiadDetector)
    banks = [*rgb.judge.banks, *both.judge.banks]
    assert len({bank.get_buffer("deviation").item() for bank in banks}) == 1
    imagined = rgb.get_submodule("hallucination")
    assert isinstance(imagined, FromFeatures)
    assert imagined.network.gelu_output
    answers = [
        rgb(torch.from_numpy(np.array(tensors(a_frame(seed), method.preprocess("rgb"))["rgb"])))
        for seed in range(10, 16)
    ]
    peaks = torch.stack([anomaly_map.max() for anomaly_map, _ in answers])
    scores = torch.cat([score for _, score in answers])
    assert not torch.allclose(scores, peaks)  # the farthest patch's, on the scale of peaks
    assert scores.mean().item() == pytest.approx(peaks.mean().item(), rel=1e-3)
    assert scores.std().item() == pytest.approx(peaks.std().item(), rel=1e-2)


def test_a_scale_needs_parts_that_differ(learnt: Mapping[str, Learnt]) -> None:
    method = learnt["f2f"].method
    detectors = {"rgb": learnt["f2f"].detectors["rgb"]}
    with pytest.raises(ThresholdError, match="no good part is held out"):
        method.normalise(detectors, [])  # type: ignore[arg-type]


def learn_slowly(folder: Path) -> Mapping[Mode, Detector]:
    distillation = {
        "kind": "f2f", "epochs": 40, "batch": 4, "log_every": 1, "checkpoint_every": 3
    }  # fmt: skip
    return learn(open_method("f2f", ("rgb", "depth"), distillation=distillation), folder)


def test_kill_9_in_either_direction_leads_to_the_same_losses_and_banks(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = learn_slowly(whole)
    moment = int(np.random.default_rng().integers(1, count_lines(whole) - 10))
    kill_after(Path(__file__), killed, moment)
    resumed = learn_slowly(killed)
    log = (killed / "metrics.jsonl").read_text()
    assert log == (whole / "metrics.jsonl").read_text(), f"killed after {moment} steps"
    assert count_lines(whole) == 160  # 2 directions, 40 epochs of 7 frames by 4
    for mode, detector in expected.items():
        for key, value in detector.state_dict().items():
            assert torch.equal(value, resumed[mode].state_dict()[key]), (mode, key, moment)


if __name__ == "__main__":
    learn_slowly(Path(sys.argv[1]))


def test_published_point_mae_runs_with_the_frames_own_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As decisions/0009 says: its running statistics are of objects as large as the unit sphere."""
    small = PointShape(depth=2, width=24, n_heads=3, taps=(0, 1), hidden=8, local=16)
    monkeypatch.setattr(point_weights, "PUBLISHED_SHAPE", small)
    torch.save(PointMae(small).state_dict(), tmp_path / "bare.pth")
    depth = {"n_points": 24, "group_size": 8, "weights": str(tmp_path / "bare.pth")}
    method = open_method("none", ("depth",), depth=depth)
    run = RunFolder(tmp_path / "run")
    detector = method.fit(samples_for(method, range(8)), [], run, QUIET)["depth"]
    encoder = detector.get_submodule("encoder")
    assert isinstance(encoder, PointEncoder)
    assert encoder.shape.norm == "frame"
    assert encoder.origin == method.backbone
