import json
from dataclasses import replace
from pathlib import Path

import pytest

from loupe_models.bundle import Bundle, load_bundle
from loupe_trainer.errors import DataError, RunError
from loupe_trainer.evaluating import evaluate_bundle
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.seeds import require_same_recipe, spread_over_seeds
from loupe_trainer.train import train

QUIET = SilentProgress()
SHARED = {"split.seed": "0"}


def learn(recipe: Path, data: Path, seed: int, shared: dict[str, str]) -> RunFolder:
    out = recipe.parent / f"run-{seed}-{len(shared)}"
    return train(recipe, out, QUIET, data, {"seed": str(seed), **shared})


@pytest.mark.usefixtures("spots")
def test_three_seeds_are_asked_the_same_parts(
    plain_folder: Path, mvtec_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    runs = [learn(recipe_file, mvtec_folder, seed, SHARED) for seed in (1, 2, 3)]
    first, *others = [run.bundle for run in runs]
    test = runs[0].split / "test.jsonl"
    metrics = evaluate_bundle(first, test, tmp_path / "e", None, QUIET, others)
    told = metrics["over_seeds"]
    assert isinstance(told, dict)
    assert told["seeds"] == [1, 2, 3]
    each = [json.loads((tmp_path / "e" / f"seed-{s}" / "metrics.json").read_text()) for s in (2, 3)]
    values = [metrics["pixel_auroc"], *(m["pixel_auroc"] for m in each)]
    assert told["frames"]["pixel_auroc"]["values"] == values
    assert set(told["defects"]) == {"blob", "spot"}
    page = (tmp_path / "e" / "report.html").read_text()
    assert "Over 3 seeds" in page
    alone = evaluate_bundle(first, test, tmp_path / "alone", None, QUIET)
    assert alone == {key: value for key, value in metrics.items() if key != "over_seeds"}

    # Dealt by their own seeds, one run's test parts are what another learnt from.
    own = [learn(recipe_file, plain_folder, seed, {}) for seed in (1, 2, 3)]
    with pytest.raises(DataError, match="what this bundle learnt from"):
        evaluate_bundle(
            own[0].bundle, own[0].split / "test.jsonl", tmp_path / "no", None, QUIET,
            [run.bundle for run in own[1:]],
        )  # fmt: skip
    assert not (tmp_path / "no").exists()


@pytest.mark.usefixtures("spots")
def test_only_the_seed_may_differ(plain_folder: Path, recipe_file: Path) -> None:
    bundle = load_bundle(learn(recipe_file, plain_folder, 1, SHARED).bundle)
    three = [bundle, _changed(bundle, seed=2), _changed(bundle, seed=3)]
    require_same_recipe(three)
    with pytest.raises(RunError, match="2 bundles say little"):
        require_same_recipe(three[:2])
    with pytest.raises(RunError, match="the seeds are 1, 2, 2"):
        require_same_recipe([bundle, three[1], three[1]])
    with pytest.raises(RunError, match="learnt from other data"):
        require_same_recipe([*three[:2], _changed(three[2], data_sha256="0" * 64)])
    config = three[2].manifest.provenance.config | {"method": "magic"}
    with pytest.raises(RunError, match="only the seed may differ"):
        require_same_recipe([*three[:2], _changed(three[2], config=config)])


def _changed(bundle: Bundle, **changes: object) -> Bundle:
    provenance = bundle.manifest.provenance.model_copy(update=changes)
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"provenance": provenance}))


def test_spread_by_hand() -> None:
    each = [
        {"seed": seed, "image_auroc": value, "escape_rate": None, "parts": {"auroc": 0.5},
         "defects": [{"defect": "dent", "au_pro_30": value / 2}]}
        for seed, value in ((1, 0.7), (2, 0.8), (3, 0.9))
    ]  # fmt: skip
    told = spread_over_seeds(each)
    assert told["frames"] == {
        "image_auroc": {
            "values": [0.7, 0.8, 0.9], "mean": pytest.approx(0.8), "std": pytest.approx(0.1),
        }
    }  # fmt: skip
    assert told["parts"] == {"auroc": {"values": [0.5] * 3, "mean": 0.5, "std": 0.0}}
    assert told["defects"] == {
        "dent": {
            "au_pro_30": {
                "values": [0.35, 0.4, 0.45],
                "mean": pytest.approx(0.4),
                "std": pytest.approx(0.05),
            }
        }
    }
