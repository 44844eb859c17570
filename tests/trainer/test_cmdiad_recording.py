"""CMDIAD from a simulated recording to a bundle of three modes, by the public way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loupe_edge.engines import open_engine
from loupe_edge.proof import prove
from loupe_edge.simulate import Scenario, simulate
from loupe_models.bundle import load_bundle
from loupe_trainer.errors import DataError
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.train import train

QUIET = SilentProgress()
RECIPE = """
name = "three_modes"
method = "cmdiad"
modes = ["rgb", "depth", "rgbd"]
seed = 1
[split]
fit = 0.4
quantiles = 0.15
threshold = 0.45
test = 0
[threshold]
false_reject_rate = 0.30
confidence = 0.90
[gate]
region_px = [45, 27, 71, 65]
occupied = { by = "colour", belt_rgb = [38, 84, 68], min_contrast = 45 }
min_fraction = 0.2
clear_px = 2
[gates.depth]
region_px = [45, 27, 71, 65]
occupied = { by = "height" }
min_fraction = 0.2
clear_px = 2
[fit]
size_px = 48
fusion_share = 0.3
rgb = { channels = 32, depth = 1, steps = 8 }
depth = { n_points = 128, group_size = 16, steps = 30 }
distillation = { epochs = 4, batch = 8 }
bank = { share = 0.3 }
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("belt") / "good.db3"
    simulate(Scenario(n_parts=18, seed=1, width_px=160, height_px=120), path, lambda *_: None)
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recording: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(recipe, tmp_path_factory.mktemp("runs") / "run", QUIET, recording)


def test_one_bundle_serves_colour_depth_and_both(run: RunFolder) -> None:
    bundle = load_bundle(run.bundle)
    assert set(bundle.manifest.modes) == {"rgb", "depth", "rgbd"}
    for mode, contract in bundle.manifest.modes.items():
        report = prove(bundle, mode, open_engine(bundle, mode))
        assert max(report.errors) <= 1e-6, mode
        assert contract.variants["fp32"].parity["image_score"] <= 1e-3
    shared = bundle.mode("depth").preprocess.tensors
    assert bundle.mode("rgb").preprocess.tensors == ("rgb",)
    assert bundle.mode("rgbd").preprocess.tensors == ("rgb", *shared)


def test_what_is_learnt_is_logged_direction_by_direction(run: RunFolder) -> None:
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    steps = [event["step"] for event in events]
    assert steps == sorted(steps)
    named = [next(name for name in event if name != "step") for event in events]
    assert named == sorted(named)  # depth_from_rgb first, then rgb_from_depth
    assert set(named) == {"depth_from_rgb", "rgb_from_depth"}


def test_a_bundle_for_colour_alone_learns_from_depth_all_the_same(
    recording: Path, recipe: Path, tmp_path: Path
) -> None:
    settings = {"modes": '["rgb"]', "gates": "{}", "name": "rgb_only"}
    done = train(recipe, tmp_path / "run", QUIET, recording, settings)
    bundle = load_bundle(done.bundle)
    assert set(bundle.manifest.modes) == {"rgb"}
    assert [spec.name for spec in bundle.mode("rgb").inputs] == ["rgb"]
    assert all(golden.depth is None for golden in bundle.mode("rgb").golden)
    assert "depth_from_rgb" in (done.path / "metrics.jsonl").read_text()


def test_colour_alone_cannot_teach_what_depth_says(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(b"")
    settings = {"modes": '["rgb"]', "gates": "{}"}
    with pytest.raises(DataError, match="needs the stream depth, and there is rgb only"):
        train(recipe, tmp_path / "run", QUIET, tmp_path / "pictures", settings)


def test_a_refusal_amid_the_frames_ends_the_process(recording: Path, tmp_path: Path) -> None:
    """A recording left open hangs for ever at the end of a process: only a process shows it."""
    recipe, out = tmp_path / "r.toml", tmp_path / "run"
    recipe.write_text(RECIPE.replace("clear_px = 2", "clear_px = 200", 1))
    trainer = str(Path(sys.executable).with_name("loupe-trainer"))
    done = subprocess.run(
        [trainer, "train", str(recipe), "--data", str(recording), "--out", str(out)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "clear_px = 200 leaves no room" in done.stderr
    assert not out.exists()
