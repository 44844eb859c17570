"""`train --all`: every category of a small data set, by a method that learns in a second."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pytest
from typed_command import Typed

from loupe_models.bundle import load_bundle
from loupe_models.manifest import Mode
from loupe_trainer.benchmark_summary import NOTHING, Row, Summary, exit_status, summary_document
from loupe_trainer.data.item import Item
from loupe_trainer.published_results import TABLES, Figures, find_published
from loupe_trainer.recipe import load_recipe
from loupe_trainer.split import split_parts

SIZE_WH = (90, 70)


class CountsFits(Protocol):
    fits: int


def write_part(path: Path, seed: int, mask: Path | None = None) -> None:
    rng = np.random.default_rng(seed)
    width, height = SIZE_WH
    pixels = rng.normal(120, 6, (height, width, 3)).clip(0, 255).astype(np.uint8)
    if mask is not None:
        truth = np.zeros((height, width), np.uint8)
        truth[30:39, 40:49] = 255
        pixels[truth > 0] = 250
        mask.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(mask), truth)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def write_category(place: Path, n_good: int, seed: int) -> None:
    for i in range(n_good):
        write_part(place / "train" / "good" / f"{i:03d}.png", seed + i)
    for i in range(4):
        write_part(place / "test" / "good" / f"{i:03d}.png", seed + 500 + i)
        truth = place / "ground_truth" / "broken" / f"{i:03d}_mask.png"
        write_part(place / "test" / "broken" / f"{i:03d}.png", seed + 600 + i, truth)


@pytest.fixture
def mvtec_ad(tmp_path: Path) -> Path:
    """As much for the threshold as in MVTec AD: 29 parts of bottle, 9 of toothbrush."""
    root = tmp_path / "mvtec_ad"
    write_category(root / "bottle", 58, seed=0)
    write_category(root / "toothbrush", 18, seed=1000)
    return root


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(
        'name = "all"\nmethod = "spots"\n'
        "[split]\nfit = 0.3\nquantiles = 0.2\nthreshold = 0.5\ntest = 0\n"
        "[threshold]\nfalse_reject_rate = 0.1\nat_worst = 0.3\n"
    )
    return file


def test_every_category_then_a_table(
    typed: Typed, mvtec_ad: Path, recipe_file: Path, tmp_path: Path, spots: CountsFits
) -> None:
    out = tmp_path / "runs"
    status, told = typed("train", recipe_file, "--data", mvtec_ad, "--all", "--out", out)
    assert status == 0, told
    assert re.search(r"bottle +│ +100.0 │ +99.9 │ +[0-9.]+ │ +95.2 │ +10.0 ", told)
    assert re.search(r"toothbrush +│ +100.0 │ +100.0 │ +[0-9.]+ │ +94.6 │ +28.4 ", told)
    assert re.search(r"mean of 2 +│ +100.0 │ +100.0 │ +[0-9.]+ │ +94.9 │", told)
    assert "github.com/nelson1425/EfficientAD" in told
    assert "not in the folder: cable, capsule, carpet" in told

    summary = json.loads((out / "summary.json").read_text())
    assert summary["dataset"] == "MVTec AD"
    rows = {row["category"]: row for row in summary["categories"]}
    metrics = json.loads((out / "bottle" / "evaluation" / "metrics.json").read_text())
    assert rows["bottle"]["measured"] == {
        "image_auroc": metrics["image_auroc"], "au_pro": metrics["au_pro_30"],
    }  # fmt: skip
    assert (rows["bottle"]["n_good"], rows["bottle"]["n_defect"]) == (4, 4)
    # A promise is what the threshold's parts carry, and the bundle says the same.
    assert [rows[c]["false_reject_rate"] for c in ("bottle", "toothbrush")] == [0.1, 0.284]
    threshold = load_bundle(out / "toothbrush" / "bundle").mode("rgb").threshold
    assert (threshold.false_reject_rate, threshold.n_parts) == (0.284, 9)
    assert load_bundle(out / "bottle" / "bundle").manifest.id == "all-bottle"
    assert spots.fits == 2


def test_what_is_complete_is_not_repeated_and_the_rest_continues(
    typed: Typed, mvtec_ad: Path, recipe_file: Path, tmp_path: Path, spots: CountsFits
) -> None:
    command = ("train", recipe_file, "--data", mvtec_ad, "--all", "--out", tmp_path / "runs")
    assert typed(*command)[0] == 0
    before = (tmp_path / "runs" / "summary.json").read_text()
    report = tmp_path / "runs" / "bottle" / "evaluation" / "report.html"
    written_at = report.stat().st_mtime_ns
    # As an interruption during the second category's evaluation leaves it.
    shutil.rmtree(tmp_path / "runs" / "toothbrush" / "evaluation")
    (tmp_path / "runs" / "summary.json").unlink()
    status, told = typed(*command)
    assert status == 0, told
    assert spots.fits == 2
    assert report.stat().st_mtime_ns == written_at
    assert (tmp_path / "runs" / "toothbrush" / "evaluation" / "report.html").is_file()
    assert (tmp_path / "runs" / "summary.json").read_text() == before
    # Another recipe is another run, complete or not.
    status, told = typed(*command, "--set", "seed=9")
    assert status == 2
    assert told.count("holds a run of another recipe") >= 2


@pytest.mark.usefixtures("spots")
def test_one_that_fails_is_told_and_the_others_go_on(
    typed: Typed, mvtec_ad: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    (mvtec_ad / "bottle" / "ground_truth" / "broken" / "002_mask.png").unlink()
    command = ("train", recipe_file, "--data", mvtec_ad, "--all", "--out", out)
    status, told = typed(*command)
    assert status == 2
    assert "1 of its defects have no mask, such as test/broken/002.png" in told
    summary = json.loads((out / "summary.json").read_text())
    assert summary["n_failed"] == 1
    rows = {row["category"]: row for row in summary["categories"]}
    assert "no mask" in rows["bottle"]["error"]
    assert rows["bottle"]["measured"] == {"image_auroc": None, "au_pro": None}
    assert rows["toothbrush"]["measured"]["image_auroc"] == 1.0
    assert summary["mean"]["published"]["image_auroc"] == 1.0  # toothbrush's: the same categories
    # Too few parts even for the worst promise: a clear refusal, not a better number.
    status, told = typed(*command, "--set", "threshold.at_worst=0.2", "--out", tmp_path / "other")
    assert status == 2
    assert "cannot carry a false-reject rate of 0.2 at 95% confidence, which takes 14" in told


@pytest.mark.usefixtures("spots")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "{root}"], "holds 2 categories (bottle, toothbrush): give one"),
        (["--data", "{root}/bottle", "--all"], "is one category: leave --all out"),
        (["--data", "{root}/absent", "--all"], "no such folder"),
        (["--data", "{root}/bottle/train/good", "--all"], "no category in it"),
        (["--all"], "names no data; add `--data PLACE`"),
        (["--data", "{root}", "--all", "--set", "method=magic"], "no method 'magic'"),
        (
            ["--data", "{root}", "--all", "--set", "threshold.at_worst=0.01"],
            "at_worst must not be below false_reject_rate",
        ),
    ],
)
def test_bad_input_exits_2_and_leaves_nothing(
    typed: Typed, words: list[str], says: str, mvtec_ad: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    status, told = typed(
        "train", recipe_file, "--out", out, *(w.format(root=mvtec_ad) for w in words)
    )
    assert status == 2, told
    assert says in " ".join(told.split())
    assert not out.exists()


def as_loco(category: Path) -> None:
    (category / "validation" / "good").mkdir(parents=True)
    for file in sorted((category / "train" / "good").iterdir())[:12]:
        file.rename(category / "validation" / "good" / file.name)
    for file in sorted((category / "ground_truth" / "broken").iterdir()):
        folder = file.with_name(file.name.removesuffix("_mask.png"))
        folder.mkdir()
        file.rename(folder / "000.png")


def as_3d(category: Path) -> None:
    for folder in (category / "train" / "good", *(category / "test").iterdir()):
        (folder / "rgb").mkdir()
        for file in folder.glob("*.png"):
            file.rename(folder / "rgb" / file.name)
    (category / "test" / "broken" / "gt").mkdir()
    for file in (category / "ground_truth" / "broken").iterdir():
        name = file.name.replace("_mask", "")
        file.rename(category / "test" / "broken" / "gt" / name)


def as_visa(category: Path) -> None:
    table = category.parent / "split_csv" / "1cls.csv"
    table.parent.mkdir(exist_ok=True)
    lines = [] if table.exists() else ["object,split,label,image,mask"]
    for file in sorted(category.glob("t*/*/*.png")):
        split, kind = file.parts[-3:-1]
        label = "normal" if kind == "good" else "anomaly"
        image = category / "Data" / "Images" / label.title() / f"{split}{file.name}"
        mask = category / "Data" / "Masks" / "Anomaly" / image.name
        for folder in (image.parent, mask.parent):
            folder.mkdir(parents=True, exist_ok=True)
        file.rename(image)
        if label == "anomaly":
            (category / "ground_truth" / kind / f"{file.stem}_mask.png").rename(mask)
        places = (str(p.relative_to(category.parent)) for p in (image, mask))
        line = f"{category.name},{split},{label},{','.join(places)}"
        lines.append(line if label == "anomaly" else line.rpartition(",")[0] + ",")
    for emptied in ("train", "test", "ground_truth"):
        shutil.rmtree(category / emptied)
    with table.open("a") as stream:
        stream.write("".join(line + "\n" for line in lines))


@pytest.mark.usefixtures("spots")
@pytest.mark.parametrize(
    ("arrange", "names", "dataset"),
    [
        (as_loco, ("pushpins", "screw_bag"), "MVTec LOCO AD"),
        (as_visa, ("candle", "pcb1"), "VisA"),
        (as_3d, ("foam", "tire"), "MVTec 3D-AD"),
    ],
)
def test_the_other_data_sets(
    arrange: Callable[[Path], None], names: tuple[str, str], dataset: str | None, typed: Typed,
    recipe_file: Path, tmp_path: Path,
) -> None:  # fmt: skip
    root, out = tmp_path / "data", tmp_path / "runs"
    for n, name in enumerate(names):
        write_category(root / name, 30, seed=3000 * n)
        arrange(root / name)
    status, told = typed("train", recipe_file, "--data", root, "--all", "--out", out)
    assert status == 0, told
    summary = json.loads((out / "summary.json").read_text())
    assert summary["dataset"] == dataset
    assert [row["category"] for row in summary["categories"]] == list(names)
    for row in summary["categories"]:
        assert row["measured"]["image_auroc"] == 1.0
        assert row["measured"]["au_pro"] > 0.9
        assert (row["n_good"], row["n_defect"]) == (4, 4)


def test_a_tiny_efficientad_on_two_categories(
    typed: Typed, tmp_path: Path, repository: Path
) -> None:
    """The recipe that is shipped, with a network so small that little is learnt."""
    for n, category in enumerate(("grid", "tile")):
        write_category(tmp_path / "mvtec_ad" / category, 20, seed=2000 * n)
    shipped = repository / "trainer" / "recipes" / "mvtec_ad.toml"
    recipe = tmp_path / "mvtec_ad.toml"
    recipe.write_text("".join(
        line for line in shipped.read_text().splitlines(keepends=True)
        if not line.startswith("teacher")
    ))  # fmt: skip
    small = [
        "fit.width_px=128", "fit.height_px=128", "fit.steps=20", "fit.device=cpu",
        "fit.pretrain={ width = 0.1, steps = 5, batch = 2 }", "threshold.at_worst=0.7",
        "fit.n_penalty_pictures=2",
    ]  # fmt: skip
    settings = [word for setting in small for word in ("--set", setting)]
    out = tmp_path / "runs"
    status, told = typed(
        "train", recipe, "--data", tmp_path / "mvtec_ad", "--all", "--out", out, *settings
    )
    summary = json.loads((out / "summary.json").read_text())
    rows = {row["category"]: row for row in summary["categories"]}
    assert status == 0, told
    assert [0 <= rows[c]["measured"]["image_auroc"] <= 1 for c in ("grid", "tile")] == [True, True]
    assert rows["grid"]["published"] == {"image_auroc": 0.9975, "au_pro": 0.8932}


def test_published_means_are_those_of_their_rows() -> None:
    mvtec = find_published("folder", "rgb", ["tile"])
    assert mvtec is not None
    assert np.mean([f.image_auroc for f in mvtec.rows.values()]) == pytest.approx(0.9903, abs=1e-4)
    assert np.mean([f.au_pro for f in mvtec.rows.values()]) == pytest.approx(0.9328, abs=1e-4)
    clouds = find_published("mvtec_3d", "depth", ["tire"])
    assert clouds is not None
    assert np.mean([f.image_auroc for f in clouds.rows.values()]) == pytest.approx(0.863, abs=1e-3)
    assert np.mean([f.au_pro for f in clouds.rows.values()]) == pytest.approx(0.907, abs=1e-3)
    assert find_published("folder", "rgb", ["my-parts"]) is None
    assert find_published("mvtec_3d", "rgb", ["my-parts"]) is None
    means = {t.modes: t.mean.image_auroc for t in TABLES if t.reader == "mvtec_3d"}
    assert means == {("depth",): 0.874, ("rgb",): 0.850, ("rgbd",): 0.945}
    assert all(set(t.rows) in ({*t.names}, set()) for t in TABLES)


def test_a_published_mean_stands_beside_all_of_its_categories_only() -> None:
    visa = next(t for t in TABLES if t.dataset == "VisA")
    rows = [Row(name, measured=Figures(0.9, 0.8)) for name in visa.names]
    assert Summary("r", "m", "rgb", rows, visa, ()).published_mean == Figures(0.975, 0.931)
    rows[3] = Row(visa.names[3], error="no table", exit_status=1)
    part = Summary("r", "m", "rgb", rows, visa, ())
    assert part.published_mean == NOTHING
    assert exit_status([part]) == 1
    assert part.means[0].image_auroc == pytest.approx(0.9)
    assert part.means[1] == NOTHING
    document = summary_document([part])
    assert document["n_failed"] == 1
    own = Summary("r", "m", "rgb", rows[:1], None, ())
    assert summary_document([own])["dataset"] is None


def test_a_table_of_categories_for_each_mode() -> None:
    modes: tuple[Mode, ...] = ("rgb", "depth")
    rows = [Row("bolt", measured=Figures(0.9, None)), Row("nut", error="no", exit_status=2)]
    both = [Summary("r", "m", mode, rows, None, ()) for mode in modes]
    document = summary_document(both)
    assert set(document) == {"modes"}
    assert document["modes"] == {s.mode: summary_document([s]) for s in both}
    assert exit_status(both) == 2


# Training pictures of each category as published, 3,629 in all.
N_TRAIN = {
    "bottle": 209, "cable": 224, "capsule": 219, "carpet": 280, "grid": 264, "hazelnut": 391,
    "leather": 245, "metal_nut": 220, "pill": 267, "screw": 320, "tile": 230, "toothbrush": 60,
    "transistor": 213, "wood": 247, "zipper": 240,
}  # fmt: skip


def test_the_shipped_recipe_suits_every_category_of_mvtec_ad(repository: Path) -> None:
    recipe = load_recipe(repository / "trainer" / "recipes" / "mvtec_ad.toml")
    promises = {}
    for category, n in N_TRAIN.items():
        items = [Item(str(i), str(i), "good", Path(str(i))) for i in range(n)]
        split = split_parts(items, recipe.split, recipe.threshold, recipe.seed)
        assert len(split.fit) == pytest.approx(0.75 * n, abs=1)
        promises[category] = recipe.threshold.promised(len(split.threshold))
    assert promises.pop("toothbrush") == 0.284
    assert set(promises.values()) == {0.1}
