import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest

from loupe_edge.engines import open_engine
from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_edge.errors import EngineError
from loupe_edge.inspector import Inspector
from loupe_edge.pictures import read_rgb
from loupe_edge.proof import ProofReport, prove
from loupe_edge.protocols import Engine, Outputs
from loupe_edge.verdict import Decision
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.frame import Frame
from loupe_models.preprocess import Tensors
from loupe_models.scoring import score_unit
from loupe_trainer.cache import Samples
from loupe_trainer.data.item import Item
from loupe_trainer.errors import DataError, RunError, SplitError, WeightsError
from loupe_trainer.evaluating import evaluate_bundle
from loupe_trainer.outcomes import Outcome, part_outcomes, rates
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.train import export_run, train
from loupe_trainer.train import test_run as evaluate_again

QUIET = SilentProgress()


pytestmark = pytest.mark.usefixtures("spots")


class CountsFits(Protocol):
    """What these tests know of the registered method."""

    fits: int


@pytest.fixture
def run(spots: CountsFits, mvtec_folder: Path, recipe_file: Path, tmp_path: Path) -> RunFolder:
    assert spots.fits == 0
    return train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)


def test_a_run_ends_in_a_bundle_that_proves_itself(run: RunFolder) -> None:
    bundle = load_bundle(run.bundle)
    report = prove(bundle, "rgb", open_engine(bundle, "rgb"))
    assert max(report.errors) <= 1e-6
    contract = bundle.mode("rgb")
    assert {g.decision for g in contract.golden} == {"good", "defect"}
    margin = 5 * 1e-3 * score_unit(contract.calibration_scores)
    assert all(abs(g.image_score - contract.threshold.value) >= margin for g in contract.golden)
    assert contract.threshold.n_parts == len(contract.calibration_scores) == 44
    assert contract.variants["fp32"].parity["image_score"] <= 1e-3
    assert bundle.manifest.provenance.seed == 5
    assert bundle.manifest.provenance.data_sha256 == run.read()["data_sha256"]


def test_the_bundle_does_not_say_where_the_data_lay(run: RunFolder, mvtec_folder: Path) -> None:
    assert str(mvtec_folder) not in (run.bundle / "manifest.json").read_text()


def test_metrics_decisions_and_report(run: RunFolder) -> None:
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    assert metrics["image_auroc"] == 1.0
    assert metrics["pixel_auroc"] > 0.95
    assert 0 < metrics["au_pro_05"] <= metrics["au_pro_30"] <= 1
    assert (metrics["n_good"], metrics["n_defect"], metrics["n_unknown"]) == (10, 12, 0)
    assert metrics["escape_rate"] == 0
    assert [(row["defect"], row["n"]) for row in metrics["defects"]] == [("blob", 6), ("spot", 6)]
    assert metrics["parts"]["n_defect"] == 12
    assert 0 <= metrics["gaussian_baseline_image_auroc"] <= 1
    lines = (run.evaluation / "decisions.jsonl").read_text().splitlines()
    decisions = [json.loads(line) for line in lines]
    assert len(decisions) == 22
    assert all(d["decision"] == ("defect" if d["score"] > d["threshold"] else "good")
               for d in decisions)  # fmt: skip
    page = (run.evaluation / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 20
    assert "http" not in page


def test_a_finished_run_is_not_learnt_again(
    run: RunFolder, spots: CountsFits, mvtec_folder: Path, recipe_file: Path
) -> None:
    before = load_bundle(run.bundle).sha256
    train(recipe_file, run.path, QUIET, mvtec_folder)
    assert spots.fits == 1
    assert load_bundle(run.bundle).sha256 == before


def test_an_interrupted_run_continues(
    spots: CountsFits,
    mvtec_folder: Path,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as during:
        during.setattr("loupe_trainer.train.choose_threshold", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)
    assert not (tmp_path / "run" / "bundle").exists()
    run = train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)
    assert spots.fits == 1
    assert load_bundle(run.bundle).manifest.id == "spots"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_recipe_or_other_data_do_not_mix_with_a_run(
    run: RunFolder, mvtec_folder: Path, plain_folder: Path, recipe_file: Path
) -> None:
    with pytest.raises(RunError, match=r"another recipe \(seed was 5, is 6\)"):
        train(recipe_file, run.path, QUIET, mvtec_folder, {"seed": "6"})
    changed = {"fit.roi": "mask.png", "split.fit": "0.4", "split.seed": "1"}
    says = r"fit\.roi was absent, is .mask\.png.; split\.fit was 0\.3, is 0\.4; .* and 1 more\)"
    with pytest.raises(RunError, match=says):
        train(recipe_file, run.path, QUIET, mvtec_folder, changed | {"threshold.at_worst": "0.2"})
    with pytest.raises(RunError, match="the data changed"):
        train(recipe_file, run.path, QUIET, plain_folder)
    (run.path.parent / "full").mkdir()
    (run.path.parent / "full" / "holiday.txt").write_text("sun")
    with pytest.raises(RunError, match="holds other things"):
        train(recipe_file, run.path.parent / "full", QUIET, mvtec_folder)


def test_a_run_that_is_refused_before_it_learns_gives_its_folder_up(
    spots: CountsFits, plain_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    settings = {"method": "efficientad", "fit.teacher": "absent.safetensors"}
    with pytest.raises(WeightsError, match="absent"):
        train(recipe_file, tmp_path / "run", QUIET, plain_folder, settings)
    assert not (tmp_path / "run").exists()
    train(recipe_file, tmp_path / "run", QUIET, plain_folder)
    assert spots.fits == 1


def test_a_run_that_has_learnt_keeps_its_folder_when_it_is_refused(
    run: RunFolder, mvtec_folder: Path, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DataError("gone")

    monkeypatch.setattr("loupe_trainer.train.cache_tensors", refuse)
    with pytest.raises(DataError, match="gone"):
        train(recipe_file, run.path, QUIET, mvtec_folder)
    assert run.read()["data_sha256"]
    assert load_bundle(run.bundle).manifest.id == "spots"


def test_a_file_that_the_recipe_names_belongs_to_the_run(
    recipe_file: Path, mvtec_folder: Path, tmp_path: Path
) -> None:
    recipe_file.write_text(recipe_file.read_text() + '[fit]\nroi = "roi.png"\n')
    mask = recipe_file.with_name("roi.png")
    mask.write_bytes(b"one content")
    run = train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)
    told = load_bundle(run.bundle).manifest.provenance
    assert told.data_sha256 == run.read()["data_sha256"]
    mask.write_bytes(b"another content")
    with pytest.raises(RunError, match="or a file that the recipe names did"):
        train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)
    other = train(recipe_file, tmp_path / "other", QUIET, mvtec_folder)
    assert load_bundle(other.bundle).manifest.provenance.data_sha256 != told.data_sha256


def test_held_out_parts_are_the_quantiles_and_never_fitted_to(
    spots: Any, recipe_file: Path, mvtec_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: dict[str, set[str]] = {}
    fit, normalise = spots.fit, spots.normalise

    def keys(samples: Samples) -> set[str]:
        return {item.key for item in samples.items}

    def watched_fit(self: Any, samples: Samples, held_out: Samples, *more: object) -> object:
        seen["fit"], seen["held out"] = keys(samples), keys(held_out)
        return fit(self, samples, held_out, *more)

    def watched_normalise(self: Any, detector: object, samples: Samples) -> None:
        seen["quantiles"] = keys(samples)
        normalise(self, detector, samples)

    monkeypatch.setattr(spots, "fit", watched_fit)
    monkeypatch.setattr(spots, "normalise", watched_normalise)
    run = train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)
    quantiles = (run.split / "quantiles.jsonl").read_text().splitlines()
    assert seen["quantiles"] == seen["held out"]
    assert len(seen["quantiles"]) == len(quantiles) == 9
    assert not seen["quantiles"] & seen["fit"]
    assert all("good" in key for key in seen["fit"] | seen["quantiles"])


def test_export_anew_and_elsewhere(run: RunFolder, tmp_path: Path) -> None:
    first = load_bundle(run.bundle).manifest
    elsewhere = export_run(run, tmp_path / "elsewhere", QUIET).manifest
    assert elsewhere.modes == first.modes
    assert elsewhere.files == first.files
    assert export_run(run, None, QUIET).manifest.modes == first.modes
    with pytest.raises(RunError, match=r"no readable run\.json"):
        export_run(RunFolder(tmp_path / "absent"), None, QUIET)


def test_what_a_killed_export_left_goes_with_the_next(run: RunFolder) -> None:
    left = run.path / ".bundle.anew"
    shutil.copytree(run.bundle, left)
    (left / "manifest.json").unlink()
    assert export_run(run, None, QUIET).path == run.bundle
    assert not left.exists()


def test_testing_again_gives_the_same_numbers(run: RunFolder) -> None:
    before = json.loads((run.evaluation / "metrics.json").read_text())
    assert evaluate_again(run, QUIET) == before


def test_good_pictures_alone_are_spoiled_for_golden_frames(
    plain_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    run = train(recipe_file, tmp_path / "run", QUIET, plain_folder)
    golden = load_bundle(run.bundle).mode("rgb").golden
    assert [g.decision for g in golden] == ["good", "good", "defect", "defect"]
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    assert metrics["image_auroc"] is None
    assert metrics["n_good"] == 8
    assert metrics["escape_rate"] is None


def _three_views_a_part(folder: Path, n_parts: int) -> Mapping[str, str]:
    """Write pictures of which three hardly differ; give settings that know them for one part."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part in range(n_parts):
        surface = rng.normal(120, 6, (70, 90, 3))
        for view in range(3):
            picture = (surface + rng.normal(0, 0.5, surface.shape)).clip(0, 255).astype(np.uint8)
            assert cv2.imwrite(str(folder / f"part{part:02d}_{view}.png"), picture)
    return {"data.part_pattern": "'(part[0-9]+)_'"}


def test_a_threshold_counts_parts_by_their_highest_frame(recipe_file: Path, tmp_path: Path) -> None:
    settings = _three_views_a_part(tmp_path / "parts", 62)
    run = train(recipe_file, tmp_path / "run", QUIET, tmp_path / "parts", settings)
    bundle = load_bundle(run.bundle)
    inspector = Inspector(bundle, "rgb", open_engine(bundle, "rgb"))
    frames: dict[str, list[float]] = {}
    for line in (run.split / "threshold.jsonl").read_text().splitlines():
        told = json.loads(line)
        found = inspector.inspect(Frame.from_image(read_rgb(Path(told["filename"])), frame_id=0))
        assert found is not None
        assert found.score is not None
        frames.setdefault(told["part"], []).append(found.score)
    assert {len(scores) for scores in frames.values()} == {3}
    contract = bundle.mode("rgb")
    assert contract.threshold.n_parts == len(frames) == 31
    highest = sorted(max(scores) for scores in frames.values())
    assert contract.calibration_scores == pytest.approx(highest, abs=1e-6)
    assert contract.threshold.value == pytest.approx(highest[contract.threshold.rank - 1])


def test_views_do_not_make_up_for_parts(recipe_file: Path, tmp_path: Path) -> None:
    """150 pictures would do, were they of as many parts; they are of 50."""
    settings = _three_views_a_part(tmp_path / "parts", 50)
    with pytest.raises(SplitError, match=r"50 good parts, 25 .* takes 29: collect about 58 good"):
        train(recipe_file, tmp_path / "run", QUIET, tmp_path / "parts", settings)
    assert not (tmp_path / "run" / "export").exists()


def test_evaluate_refuses_what_was_learnt_from(
    run: RunFolder, mvtec_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="80 of 102 frames show what this bundle learnt from"):
        evaluate_bundle(run.bundle, mvtec_folder, tmp_path / "e", None, QUIET)


def test_evaluate_on_the_written_test_split_gives_the_same_numbers(
    run: RunFolder, tmp_path: Path
) -> None:
    before = json.loads((run.evaluation / "metrics.json").read_text())
    after = evaluate_bundle(run.bundle, run.split / "test.jsonl", tmp_path / "e", None, QUIET)
    assert after == before


def test_copies_of_one_picture_are_one_part(
    recipe_file: Path, plain_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    content = (plain_folder / "000.png").read_bytes()
    for i in range(50):
        (folder / f"{i}.png").write_bytes(content)
    says = r"^1 good part, .* \(50 of the 50 files hold the same bytes as another, and count as 1\)"
    with pytest.raises(SplitError, match=says):
        train(recipe_file, tmp_path / "run", QUIET, folder)
    assert not (tmp_path / "run").exists()


def test_pictures_that_do_not_differ_are_refused_before_they_are_learnt(
    recipe_file: Path, spots: Any, plain_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "alike"
    folder.mkdir()
    content = (plain_folder / "000.png").read_bytes()
    for i in range(80):
        (folder / f"{i}.png").write_bytes(content + b"%d" % i)  # other bytes, the same pixels
    with pytest.raises(DataError, match="all 24 fit frames are the same, pixel by pixel"):
        train(recipe_file, tmp_path / "run", QUIET, folder)
    assert spots.fits == 0


def test_a_good_picture_that_is_a_copy_of_a_defect(
    recipe_file: Path, mvtec_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(mvtec_folder, folder)
    shutil.copy(folder / "test" / "spot" / "000.png", folder / "train" / "good" / "new.png")
    with pytest.raises(DataError, match="is a copy of"):
        train(recipe_file, tmp_path / "run", QUIET, folder)


def test_unknown_frames_count_as_false_reject_and_as_caught(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An engine that fails once it is proved leaves pictures unknown, never good."""
    infer = OnnxRuntimeEngine.infer

    def fails_on_defects(self: OnnxRuntimeEngine, tensors: Tensors) -> Outputs:
        if np.asarray(tensors["rgb"]).max() > 240:
            raise EngineError("lamp too bright")
        return infer(self, tensors)

    def prove_then_fail(bundle: Bundle, mode: str, engine: Engine) -> ProofReport:
        proof = prove(bundle, mode, engine)
        monkeypatch.setattr(OnnxRuntimeEngine, "infer", fails_on_defects)
        return proof

    monkeypatch.setattr("loupe_trainer.evaluate.prove", prove_then_fail)
    metrics = evaluate_bundle(run.bundle, run.split / "test.jsonl", tmp_path / "e", None, QUIET)
    assert metrics["n_unknown"] == 12
    assert metrics["escape_rate"] == 0
    assert metrics["image_auroc"] is None  # nothing is left to rank the good ones against
    assert (tmp_path / "e" / "report.html").exists()


def test_a_mask_smaller_than_its_picture_is_refused(
    recipe_file: Path, mvtec_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "masks"
    shutil.copytree(mvtec_folder, folder)
    file = folder / "ground_truth" / "spot" / "000_mask.png"
    assert cv2.imwrite(str(file), np.full((10, 10), 255, np.uint8))
    with pytest.raises(DataError, match="the mask is 10x10, its picture 90x70"):
        train(recipe_file, tmp_path / "run", QUIET, folder)


def test_a_part_speaks_through_its_highest_frame(tmp_path: Path) -> None:
    items = [Item(f"k{i}", f"p{i // 2}", "good", tmp_path) for i in range(6)]
    items[5] = replace(items[5], kind="defect", defect="dent")
    said: list[tuple[Decision, float | None]] = [
        ("good", 0.1),
        ("defect", 0.9),
        ("good", 0.2),
        ("unknown", None),
        ("good", 0.3),
    ]
    frames = [
        Outcome(i.key, i.part_id, "", i.kind, i.defect, decision, "", score)
        for i, (decision, score) in zip(items, said, strict=False)
    ]
    items.append(Item("k6", "never", "good", tmp_path))
    parts = part_outcomes(items, frames)
    assert [(p.name, p.kind, p.decision, p.score) for p in parts] == [
        ("p0", "good", "defect", 0.9),  # the highest frame speaks for the part
        ("p1", "good", "unknown", 0.2),
        ("p2", "defect", "good", 0.3),
        ("never", "good", "unknown", None),
    ]
    got = rates(parts)
    assert (got.n_good, got.n_defect, got.n_unknown) == (3, 1, 2)
    assert got.false_reject_rate == 1.0
    assert got.escape_rate == 1.0
    assert got.auroc == 0.5
