"""Several modes in one recipe, one run and one bundle."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from belt_parts import ALL, BELT, LENS, SIDE, TENSORS, UNIT_M, exposure, spec_of
from pydantic import TypeAdapter

from loupe_calibration.transform import Transform
from loupe_edge.engines import open_engine
from loupe_edge.proof import prove
from loupe_edge.replay import replay, station_for
from loupe_models.bundle import load_bundle
from loupe_models.frame import Frame, Label
from loupe_models.gate import ByColour, ByHeight
from loupe_models.manifest import Mode
from loupe_models.preprocess import PreprocessSpec
from loupe_trainer import methods
from loupe_trainer.errors import DataError, ParityError, RecipeError, RunError
from loupe_trainer.evaluating import evaluate_bundle
from loupe_trainer.learn import read_learnt
from loupe_trainer.methods.base import Detector, Samples
from loupe_trainer.progress import Progress, SilentProgress
from loupe_trainer.recipe import load_recipe
from loupe_trainer.run import RunFolder
from loupe_trainer.summary import modes_of
from loupe_trainer.train import train
from loupe_trainer.views import make_views

QUIET = SilentProgress()
RECIPE = """
name = "relief"
method = "relief"
modes = ["rgb", "depth", "rgbd"]
seed = 5
[split]
fit = 0.3
quantiles = 0.1
threshold = 0.5
test = 0.1
[threshold]
false_reject_rate = 0.1
[gate]
region_px = [8, 6, 48, 36]
occupied = { by = "colour", belt_rgb = [20, 20, 20] }
[gates.depth]
region_px = [8, 6, 48, 36]
occupied = { by = "height" }
"""


class Relief(Detector):
    """How far each pixel is from the mean of its surroundings, in what is usual there."""

    usual: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        self.mode = mode
        n_planes = 2 if mode == "rgbd" else 1
        self.register_buffer("usual", torch.ones(1, n_planes, SIDE, SIDE))
        self.register_buffer("scale", torch.ones(1))

    def raw(self, *tensors: torch.Tensor) -> torch.Tensor:
        planes = []
        if self.mode != "depth":
            planes.append(tensors[0].float().permute(0, 3, 1, 2).mean(dim=1, keepdim=True))
        if self.mode != "rgb":
            planes.append(1e5 * tensors[-2].permute(0, 3, 1, 2)[:, 2:3])
        seen = torch.cat(planes, dim=1)
        return (seen - torch.nn.functional.avg_pool2d(seen, 9, 1, 4)).abs()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        unit = self.raw(*tensors) / self.usual * self.scale
        if self.mode != "rgb":
            unit = unit * tensors[-1].float().unsqueeze(1)
        anomaly_map = unit.amax(dim=1, keepdim=True)
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))


class ReliefMethod:
    """Learns by statistics, a small network a mode; `fits` counts how often it was asked to."""

    name = "relief"
    modes: tuple[Mode, ...] = ALL
    backbone = None
    fits = 0

    def __init__(self, asked: Sequence[Mode]) -> None:
        self.asked = asked

    def preprocess(self, mode: Mode) -> PreprocessSpec:
        return spec_of(mode)

    def learnt_from(self) -> None:
        """Nothing but what the modes take."""

    def fit(
        self, samples: Samples, held_out: Samples, run: RunFolder, progress: Progress  # noqa: ARG002
    ) -> Mapping[Mode, Detector]:  # fmt: skip
        ReliefMethod.fits += 1
        detectors: dict[Mode, Detector] = {}
        for mode in self.asked:
            detector = Relief(mode)
            raw = [detector.raw(*given(sample, mode)) for sample in samples]
            detector.usual.copy_(torch.stack(raw).mean(dim=0) + 1.0)
            detectors[mode] = detector
        return detectors

    def normalise(self, detectors: Mapping[Mode, Detector], samples: Samples) -> None:
        for mode, detector in detectors.items():
            assert isinstance(detector, Relief)
            tops = [detector(*given(sample, mode))[1].item() for sample in samples]
            detector.scale.fill_(1.0 / float(np.median(tops)))


def given(sample: Mapping[str, Any], mode: Mode) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(sample[name])) for name in TENSORS[mode]]


def record(path: Path, frames: Sequence[tuple[Frame, str, str]], streams: str = "both") -> Path:
    """Write frames with part and kind through the SDK's recorder, and the belt beside them."""
    pytest.importorskip("pyrealsense2", reason="needs loupe[camera]")
    from loupe_edge.recorder import Recorder, Rig

    rig = Rig(LENS, LENS if streams == "both" else None, depth_scale_m=UNIT_M)
    with Recorder(path, rig) as recorder:
        for frame, part, kind in frames:
            truth: Literal["good", "defect"] = "good" if kind == "good" else "defect"
            label = Label(part_id=part, kind=truth, defect=None if kind == "good" else kind)
            recorder.write(frame.rgb, frame.depth if streams == "both" else None, label)
    path.with_suffix(".belt.json").write_bytes(TypeAdapter(Transform).dump_json(BELT))
    return path


GOOD = [(exposure(i), f"g{i}", "good") for i in range(64)]
BAD = [(exposure(100 + i, kind), f"b{i}", kind) for i, kind in enumerate(["stain", "dent"] * 4)]


@pytest.fixture(scope="module", autouse=True)
def relief() -> Iterator[None]:
    """Register the method under its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.METHODS, "relief", lambda *told: ReliefMethod(told[3]))
        yield


@pytest.fixture(scope="module")
def belt_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("belt") / "belt.db3", [*GOOD, *BAD])


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of parts that nobody learnt from."""
    frames = [(exposure(300 + i), f"u{i}", "good") for i in range(6)]
    frames += [(exposure(400 + i, k), f"v{i}", k) for i, k in enumerate(["stain", "dent"] * 3)]
    return record(tmp_path_factory.mktemp("unseen") / "unseen.db3", frames)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "relief.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def run(belt_recording: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(recipe, tmp_path_factory.mktemp("run") / "run", QUIET, belt_recording)


def test_one_bundle_serves_three_modes(run: RunFolder) -> None:
    bundle = load_bundle(run.bundle)
    assert tuple(bundle.manifest.modes) == ALL
    learnt = read_learnt(run)
    for mode in ALL:
        contract = bundle.mode(mode)
        assert tuple(spec.name for spec in contract.inputs) == TENSORS[mode]
        assert contract.variants["fp32"].file == f"{mode}.fp32.onnx"
        assert contract.variants["fp32"].parity["image_score"] <= 1e-3
        assert contract.threshold.n_parts == len(learnt.modes[mode].part_scores) >= 29
        assert {g.decision for g in contract.golden} == {"good", "defect"}
        assert max(prove(bundle, mode, open_engine(bundle, mode)).errors) <= 1e-6
    assert bundle.mode("rgb").threshold.value != bundle.mode("depth").threshold.value
    assert isinstance(bundle.mode("rgb").gate.occupied, ByColour)
    assert isinstance(bundle.mode("depth").gate.occupied, ByHeight)
    # A golden frame holds only what its mode looks at: the proof runs where the other is dead.
    held = {m: {(g.rgb is None, g.depth is None) for g in bundle.mode(m).golden} for m in ALL}
    assert held == {"rgb": {(False, True)}, "depth": {(True, False)}, "rgbd": {(False, False)}}


def test_metrics_of_several_modes_are_laid_out_by_mode(run: RunFolder) -> None:
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    assert set(metrics) == {"seed", "modes"}
    by_mode = metrics["modes"]
    assert tuple(by_mode) == ALL
    found = {
        mode: {row["defect"]: row["image_auroc"] for row in by_mode[mode]["defects"]}
        for mode in ALL
    }
    assert found["rgb"]["stain"] == found["depth"]["dent"] == 1.0
    assert found["rgb"]["dent"] < 0.95  # not visible in colour
    assert found["rgbd"] == {"stain": 1.0, "dent": 1.0}
    assert by_mode["rgb"]["gaussian_baseline_image_auroc"] is not None
    assert by_mode["depth"]["gaussian_baseline_image_auroc"] is None
    lines = [json.loads(ln) for ln in (run.evaluation / "decisions.jsonl").read_text().splitlines()]
    assert [line["mode"] for line in lines] == sorted((d["mode"] for d in lines), key=ALL.index)
    assert {line["mode"] for line in lines} == set(ALL)


def test_the_report_puts_the_modes_side_by_side(run: RunFolder) -> None:
    page = (run.evaluation / "report.html").read_text()
    head = page.index("The modes side by side")
    at = [page.index(f'<h2 id="mode-{mode}">') for mode in ALL]
    assert head < at[0] < at[1] < at[2] < page.index("Where it comes from")
    assert page.count("<h3>By kind of defect</h3>") == 3
    assert page.count("threshold of ") >= 3


def test_one_mode_keeps_the_plain_layout(run: RunFolder, unseen: Path, tmp_path: Path) -> None:
    whole = evaluate_bundle(run.bundle, unseen, tmp_path / "all", None, QUIET)
    alone = evaluate_bundle(run.bundle, unseen, tmp_path / "one", "depth", QUIET)
    assert alone.pop("modes_left_out") == ["rgb", "rgbd"]
    assert isinstance(whole["modes"], dict)
    assert alone == whole["modes"]["depth"]
    assert alone["mode"] == "depth"
    page = (tmp_path / "one" / "report.html").read_text()
    assert "side by side" not in page
    assert "<h2>The numbers</h2>" in page
    assert "The bundle also serves rgb, rgbd" in page


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    kinds = {"train/good": (800, 80), "test/good": (700, 4), "test/stain": (710, 4)}
    for place, (first, n) in kinds.items():
        (tmp_path / "pictures" / place).mkdir(parents=True)
        for seed in range(first, first + n):
            rgb = exposure(seed, place.split("/")[1]).rgb
            assert rgb is not None
            assert cv2.imwrite(str(tmp_path / "pictures" / place / f"{seed}.png"), rgb[..., ::-1])
    return tmp_path / "pictures"


def test_data_without_depth_is_evaluated_in_colour(
    run: RunFolder, pictures: Path, tmp_path: Path
) -> None:
    metrics = evaluate_bundle(run.bundle, pictures, tmp_path / "e", None, QUIET)
    assert metrics["mode"] == "rgb"
    assert metrics["modes_left_out"] == ["depth", "rgbd"]
    with pytest.raises(DataError, match="mode depth needs the stream depth, and there is rgb only"):
        evaluate_bundle(run.bundle, pictures, tmp_path / "f", "depth", QUIET)


def test_training_names_the_mode_and_the_stream_that_the_data_lacks(
    recipe: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="mode depth needs the stream depth"):
        train(recipe, tmp_path / "run", QUIET, pictures)
    assert not (tmp_path / "run").exists()


def test_replay_gives_the_answers_of_the_evaluation(
    run: RunFolder, unseen: Path, tmp_path: Path
) -> None:
    evaluate_bundle(run.bundle, unseen, tmp_path / "e", None, QUIET)
    lines = (tmp_path / "e" / "decisions.jsonl").read_text().splitlines()
    told = {(d["mode"], d["part_id"]): d for d in map(json.loads, lines)}
    belt = unseen.with_suffix(".belt.json")
    for mode in ALL:
        verdicts = list(replay(station_for(run.bundle, unseen, mode=mode, belt=belt)))
        assert len(verdicts) == 12
        for verdict in verdicts:
            assert verdict.mode == mode
            ours = told[mode, str(verdict.part_id)]
            assert (verdict.decision, verdict.score) == (ours["decision"], ours["score"])


def test_colour_scores_are_the_same_to_the_bit_where_there_is_no_depth(
    run: RunFolder, tmp_path: Path
) -> None:
    frames = [(exposure(300 + i), f"u{i}", "good") for i in range(3)]
    scores = []
    for streams in ("both", "colour"):
        recording = record(tmp_path / f"{streams}.db3", frames, streams)
        station = station_for(run.bundle, recording, mode="rgb")
        scores.append([verdict.score for verdict in replay(station)])
    assert scores[0] == scores[1]
    assert None not in scores[0]


def test_a_run_that_was_stopped_continues_with_all_modes(
    belt_recording: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReliefMethod, "fits", 0)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr("loupe_trainer.train.choose_threshold", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", QUIET, belt_recording)
    run = train(recipe, tmp_path / "run", QUIET, belt_recording)
    assert ReliefMethod.fits == 1
    assert set(load_bundle(run.bundle).manifest.modes) == set(ALL)
    (run.export / "learnt.json").write_text('{"modes": {}, "backbone": null}')
    with pytest.raises(RunError, match=r"learnt\.json: not readable"):
        read_learnt(run)


def test_parity_names_the_mode(
    belt_recording: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Relief.forward

    def lies_in_depth(self: Relief, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        anomaly_map, score = forward(self, *tensors)
        is_depth = self.mode == "depth" and torch.onnx.is_in_onnx_export()
        return anomaly_map, score * 1.1 if is_depth else score

    monkeypatch.setattr(Relief, "forward", lies_in_depth)
    with pytest.raises(ParityError, match=r"^mode depth: the exported graph differs"):
        train(recipe, tmp_path / "run", QUIET, belt_recording)
    assert not (tmp_path / "run" / "export").exists()


def test_modes_that_nothing_joins_are_refused(recipe: Path) -> None:
    class Apart(ReliefMethod):
        modes: tuple[Mode, ...] = ("rgb", "depth")

    both = load_recipe(recipe, {"modes": '["rgb", "depth"]'})
    with pytest.raises(RecipeError, match="no mode that takes rgb, valid, xyz together"):
        make_views(both, Apart(("rgb", "depth")), None)
    joined = make_views(both, ReliefMethod(("rgb", "depth")), None)
    assert joined.widest.preprocess == spec_of("rgbd")
    assert tuple(joined.modes) == ("rgb", "depth")


def test_seeds_are_told_mode_by_mode(run: RunFolder, unseen: Path, tmp_path: Path) -> None:
    others = [tmp_path / "6", tmp_path / "7"]
    for other in others:
        shutil.copytree(run.bundle, other)
        document = json.loads((other / "manifest.json").read_text())
        document["provenance"]["seed"] = int(other.name)
        (other / "manifest.json").write_text(json.dumps(document))
    metrics = evaluate_bundle(run.bundle, unseen, tmp_path / "e", None, QUIET, others)
    for numbers in modes_of(metrics).values():
        told = numbers["over_seeds"]
        assert isinstance(told, dict)
        assert told["seeds"] == [5, 6, 7]
        assert told["frames"]["image_auroc"]["values"] == [numbers["image_auroc"]] * 3
    assert (tmp_path / "e" / "seed-6" / "metrics.json").exists()
    assert (tmp_path / "e" / "report.html").read_text().count("<h3>Over 3 seeds</h3>") == 3
