"""An FP16 graph is shipped only if it is proved; what is wrong with it is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from loupe_edge.engine_settings import EngineSettings
from loupe_edge.engines import open_engine
from loupe_edge.proof import prove
from loupe_models.bundle import load_bundle
from loupe_models.manifest import Mode
from loupe_models.preprocess import Tensors
from loupe_models.scoring import score_unit
from loupe_trainer import methods
from loupe_trainer.cli import app
from loupe_trainer.errors import HalfError
from loupe_trainer.export import export_onnx
from loupe_trainer.half import copies_of, trace_rounding
from loupe_trainer.half_exam import HalfExam
from loupe_trainer.half_proof import (
    HalfProof,
    Trial,
    frames_to_try,
    prove_half,
    stress_inputs,
)
from loupe_trainer.half_range import MagnitudeProbe, match_tensors
from loupe_trainer.methods.base import Detector, Samples
from loupe_trainer.progress import SilentProgress
from loupe_trainer.scorer import Scorer
from loupe_trainer.tolerance import HALF
from loupe_trainer.train import export_run, train

SIDE = 16
QUIET = SilentProgress()
UNIT = 10.0


class Grey(Detector):
    """Brightness through two FP16 layers: one that raises it by `gain`, one that takes it back."""

    def __init__(self, gain: float = 1.0, back: float | None = None) -> None:
        super().__init__()
        self.up = nn.Conv2d(3, 1, 1, bias=False)
        self.down = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.up.weight, gain / 3)
        nn.init.constant_(self.down.weight, 1 / gain if back is None else back)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        picture = rgb.float().permute(0, 3, 1, 2).to(self.up.weight.dtype)
        anomaly_map = self.down(self.up(picture)).float()
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))


class Louder(Grey):
    """The same, whose features are what the first layer gives."""

    def amplify(self, gain: float) -> None:
        with torch.no_grad():
            self.up.weight.mul_(gain)


class Fickle(Grey):
    """Computes something else in FP16."""

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        anomaly_map, score = super().forward(rgb)
        return (anomaly_map.abs() if self.up.weight.dtype == torch.float16 else anomaly_map), score


class Picky(Grey):
    """Knows float32 alone."""

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        anomaly_map = self.down(self.up(rgb.float().permute(0, 3, 1, 2)))
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))


def picture(value: int, seed: int | None = None) -> Tensors:
    rgb = np.full((1, SIDE, SIDE, 3), value, np.uint8)
    if seed is not None:
        rgb += np.random.default_rng(seed).integers(0, 20, rgb.shape, dtype=np.uint8)
    return {"rgb": rgb}


def a_trial(detector: Detector, folder: Path) -> Trial:
    files = folder / "rgb.fp32.onnx", folder / "rgb.fp16.onnx"
    frames = [picture(100, seed) for seed in range(3)]
    specs = export_onnx(detector, frames[0], files[0])
    return Trial(*files, *specs, frames, UNIT, seed=0)


def proved(detector: Detector, folder: Path) -> HalfProof:
    trial = a_trial(detector, folder)
    found = prove_half(detector, trial, QUIET)
    assert trial.half.exists() is not bool(found.refused)
    return found


def test_a_sound_graph_is_kept_with_its_evidence(tmp_path: Path) -> None:
    found = proved(Grey(), tmp_path)
    assert found.refused == ""
    assert len(found.scores) == 3 + 4  # frames and noise
    assert 240 < found.parity["largest_fp16"] <= 256
    assert found.parity["true_rounding"] <= 0.01
    assert "up" in found.layer or "down" in found.layer


@pytest.mark.parametrize(
    ("detector", "says"),
    [
        (
            Grey(gain=100),
            r"^/up/Conv_output_0 reaches 2\.\d+e\+04 on noise, and FP16 is trusted to 16,000",
        ),
        (
            Grey(gain=1000),
            r"what is not finite; layer up is the first to diverge: it is not finite",
        ),
        (Louder(gain=2), r"up/Conv_output_0 reaches .* on features 100 times as large"),
        (Grey(back=3e4), r"down.weight reaches 3e\+04 on no input at all: it is a weight"),
        (Fickle(), r"not the float32 graph's|nodes, the float32 graph"),
        (Picky(), r"does not compute in FP16: .*"),
    ],
    ids=["range", "overflow", "amplified", "weight", "fickle", "picky"],
)
def test_a_graph_that_fails_is_removed_and_the_layer_is_named(
    tmp_path: Path, detector: Detector, says: str
) -> None:
    found = proved(detector, tmp_path)
    assert found.refused
    assert re.search(says, found.refused), found.refused


def test_onnx_runtime_alone_would_not_have_seen_the_overflow(tmp_path: Path) -> None:
    """Why range is proved on the float32 graph."""
    detector = Grey(gain=1000)
    trial = a_trial(detector, tmp_path)
    export_onnx(copies_of(detector).half, trial.frames[0], trial.half)
    with Scorer(trial.half, trial.inputs, trial.outputs) as scorer:
        assert scorer.answer(picture(200)).score == pytest.approx(200, rel=1e-2)
    assert trace_rounding(copies_of(detector), picture(200)).lost == float("inf")


def test_batch_norms_are_folded_before_their_digits_are_lost() -> None:
    """A variance of 1e-9 is nothing in FP16; the weight over its root is an ordinary number."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    norm = layers[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_var = torch.full((4,), 1e-9)
    norm.eps = 1e-12
    with torch.no_grad():
        next(layers.parameters()).mul_(1e-5)

    class Normed(Detector):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
            picture = rgb.float().permute(0, 3, 1, 2) / 255
            made = self.layers(picture.to(next(self.parameters()).dtype)).float()
            return made[:, :1], made.amax(dim=(1, 2, 3))

    traced = trace_rounding(copies_of(Normed()), picture(100, seed=1))
    assert traced.lost < 2e-3
    assert traced.half.score == pytest.approx(traced.reference.score, rel=2e-3)
    assert norm.running_var[0] == pytest.approx(1e-9)  # the original is as it was


def test_tensors_are_matched_by_what_makes_them(tmp_path: Path) -> None:
    detector = Grey()
    trial = a_trial(detector, tmp_path)
    export_onnx(copies_of(detector).half, trial.frames[0], trial.half)
    reference, half = onnx.load(trial.reference), onnx.load(trial.half)
    matched = match_tensors(reference, half)
    assert [name.split("/")[-1] for name in matched] == [
        "Cast_1_output_0", "Conv_output_0", "Conv_output_0",
    ]  # fmt: skip
    with MagnitudeProbe(trial.reference, trial.half, trial.inputs, trial.outputs) as probe:
        told = probe.largest(picture(90))
    assert list(told.values()) == pytest.approx([90, 90, 90])
    swapped = onnx.load(trial.half)
    for node in swapped.graph.node:
        if node.op_type == "ReduceMax":
            node.op_type = "ReduceMin"
    with pytest.raises(HalfError, match=r"\(ReduceMin\) stands where .* \(ReduceMax\) does"):
        match_tensors(reference, swapped)


def test_frames_are_few_and_the_highest_are_among_them() -> None:
    scores = list(np.random.default_rng(0).random(500))
    chosen = frames_to_try(scores)
    assert len(chosen) == len(set(chosen)) <= 24
    assert set(np.argsort(scores)[-8:].tolist()) <= set(chosen)
    assert chosen[0] == 0
    assert frames_to_try([1.0, 2.0]) == [0, 1]


def test_stress_is_all_white_and_all_black_in_colour_and_in_depth() -> None:
    xyz = np.zeros((1, 2, 2, 3), np.float32)
    xyz[0, 0, 0] = 0.1, -0.5, 0.2
    valid = np.array([[[1, 0], [0, 0]]], np.uint8)
    given = {"rgb": picture(7)["rgb"], "xyz": xyz, "valid": valid}
    (_, white), (_, black) = stress_inputs(given)
    assert (white["rgb"] == 255).all()
    assert np.abs(white["xyz"]).max() == pytest.approx(10)
    assert (white["valid"] == valid).all()
    assert not any(array.any() for array in black.values())
    assert all(black[name].dtype == given[name].dtype for name in given)


@pytest.fixture
def make_exam(tmp_path: Path) -> Callable[..., HalfExam]:
    """`make_exam(other, **fields)`: of the graph of another detector than the reference's."""

    def make(other: Detector, **fields: Any) -> HalfExam:
        trial = a_trial(Grey(), tmp_path)
        export_onnx(copies_of(other).half, trial.frames[0], trial.half)
        specs = trial.inputs, trial.outputs
        usual: dict[str, Any] = {
            "proof": HalfProof(scores=((100.0, 100.0),), parity={"largest_fp16": 1.0}),
            "scorer": Scorer(trial.reference, *specs),
            "half_scorer": Scorer(trial.half, *specs),
            "probe": MagnitudeProbe(trial.reference, trial.half, *specs),
            "threshold": 150.0, "unit": UNIT, "golden": [picture(100), picture(200)],
            "good": iter([]), "defects": iter([]),
        }  # fmt: skip
        return HalfExam(**(usual | fields))

    return make


def test_what_passes_says_what_was_compared(make_exam: Callable[..., HalfExam]) -> None:
    good, bad = [picture(v) for v in (10, 50)], [picture(v) for v in (180, 220)]
    told = make_exam(Grey(), good=iter(good), defects=iter(bad)).take()
    assert told["image_score"] <= 0.01
    assert told["n_inputs"] == 3
    assert (told["n_ranked_good"], told["n_ranked_defects"]) == (2, 2)
    assert told["auroc_loss"] == 0
    assert told["n_verdicts_near_threshold"] == 0
    assert told["largest_fp16"] == pytest.approx(200)
    alone = make_exam(Grey()).take()
    assert "auroc_loss" not in alone
    assert alone["n_ranked_defects"] == 0


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (0.023456, "0.023"), (0.01004, "0.01004"), (0.0100000049, "0.010000005"),
        (float(np.nextafter(0.01, 1)), "0.010000000000000002"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_an_error_is_told_with_digits_enough_to_see_that_it_is_too_large(
    error: float, says: str
) -> None:
    assert HALF.said(error) == says


@pytest.mark.parametrize(
    ("back", "fields", "says"),
    [
        (1.05, {}, r"99 % of 3 scores are within"),
        (1.0, {"proof": HalfProof(scores=((149.0, 151.0),) + ((1.0, 1.0),) * 999,
                                  parity={"largest_fp16": 1.0})},
         "a verdict turns: the score 149 becomes 151"),
        (1.0, {"golden": [{"rgb": np.full((1, SIDE, SIDE, 3), 255, np.uint8)}],
               "proof": HalfProof(scores=((1.0, 1.9),) + ((1.0, 1.0),) * 9, layer="see LAYER",
                                  parity={"largest_fp16": 1.0})}, "see LAYER"),
    ],
)  # fmt: skip
def test_what_fails_is_told(
    make_exam: Callable[..., HalfExam], back: float, fields: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(HalfError, match=says):
        make_exam(Grey(back=back), **fields).take()


def test_a_verdict_within_tolerance_of_the_threshold_may_turn_and_is_counted(
    make_exam: Callable[..., HalfExam],
) -> None:
    close = HalfProof(scores=((149.99, 150.01),), parity={"largest_fp16": 1.0})
    assert make_exam(Grey(), proof=close).take()["n_verdicts_near_threshold"] == 1


def test_a_worse_ranking_is_refused(make_exam: Callable[..., HalfExam]) -> None:
    """A graph that does not see red calls a reddish part less bright than a good one."""
    blind = Grey()
    with torch.no_grad():
        blind.up.weight[:, 0] = 0
    good, defect = picture(100), picture(99)
    np.asarray(defect["rgb"], np.uint8)[..., 0] = 159
    few = {"good": iter([good]), "defects": iter([defect])}
    exam = make_exam(blind, unit=1e6, threshold=1e9, **few)  # scores are close, verdicts equal
    with pytest.raises(HalfError, match=r"AUROC falls from 1\.0000 to 0\.0000 over 1 good and 1"):
        exam.take()


class LoudGrey(Detector):
    """Squares of differences from the surroundings, in FP16 where the rest is: they overflow."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Conv2d(1, 1, 9, padding=4, bias=False)
        nn.init.constant_(self.around.weight, 1 / 81)
        self.register_buffer("gain", torch.ones(1))

    gain: Tensor

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        grey = rgb.float().permute(0, 3, 1, 2).mean(dim=1, keepdim=True)
        away = grey.to(self.around.weight.dtype) - self.around(grey.to(self.around.weight.dtype))
        anomaly_map = (away * away * self.gain).float()
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))


@pytest.fixture
def loud(spots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a method that gives such a detector."""

    class Loud(spots):  # type: ignore[misc]
        name = "loud"

        def fit(self, *_: object) -> Mapping[Mode, Detector]:
            return {"rgb": LoudGrey()}

        def normalise(self, detectors: Mapping[Mode, Detector], samples: Samples) -> None:
            """Leave the scale as it is."""

    monkeypatch.setitem(methods.METHODS, "loud", lambda *_: Loud())


def test_a_bundle_carries_both_graphs_and_each_proves_itself(
    spots: Any, mvtec_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    assert spots.fits == 0
    run = train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)
    bundle = load_bundle(run.bundle)
    contract = bundle.mode("rgb")
    assert set(contract.variants) == {"fp32", "fp16"}
    assert contract.refused == {}
    half = contract.variants["fp16"]
    assert (half.file, half.tolerance, half.threshold) == ("rgb.fp16.onnx", 0.01, None)
    assert half.parity["image_score"] <= 0.01
    assert half.parity["n_ranked_defects"] == 12
    assert half.parity["auroc_loss"] <= 0.001
    for variant, spec in contract.variants.items():
        engine = open_engine(bundle, "rgb", EngineSettings(variant=variant))
        assert prove(bundle, "rgb", engine, variant).tolerance == spec.tolerance
    margin = 5 * 0.01 * score_unit(contract.calibration_scores)
    assert all(abs(g.image_score - contract.threshold.value) >= margin for g in contract.golden)
    assert "good parts' spread" in (run.evaluation / "report.html").read_text()


@pytest.mark.usefixtures("loud")
def test_a_run_whose_fp16_graph_is_refused_ships_float32_and_says_why(
    mvtec_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("spots", "loud"))
    told = CliRunner().invoke(
        app, ["train", str(recipe_file), "--data", str(mvtec_folder), "--out", str(tmp_path / "r")]
    )
    assert told.exit_code == 0, told.output
    bundle = load_bundle(tmp_path / "r" / "bundle")
    contract = bundle.mode("rgb")
    assert set(contract.variants) == {"fp32"}
    assert re.search(r"(reaches|moves a score|not finite)", contract.refused["fp16"])
    assert f"mode rgb has no fp16 graph ({contract.refused['fp16']}"[:60] in told.output
    assert not list(bundle.path.glob("*.fp16.onnx"))
    assert not list((tmp_path / "r" / "export").glob("*.fp16.onnx"))
    assert "none: " in (tmp_path / "r" / "evaluation" / "report.html").read_text()


def test_a_run_from_before_fp16_is_exported_as_it_is(
    spots: Any, mvtec_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    assert spots.fits == 0
    run = train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)
    (run.export / "rgb.fp16.onnx").unlink()
    learnt = json.loads((run.export / "learnt.json").read_text())
    del learnt["modes"]["rgb"]["half"]
    (run.export / "learnt.json").write_text(json.dumps(learnt))
    contract = export_run(run, None, QUIET).mode("rgb")
    assert set(contract.variants) == {"fp32"}
    assert "train again" in contract.refused["fp16"]
