"""The recipe for MVTec 3D-AD as shipped, on small trees laid out as the data set is downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import transformers
from typed_command import Typed

from loupe_calibration.deproject import ray_planes
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.engines import open_engine
from loupe_edge.inspector import Inspector
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.frame import Frame
from loupe_trainer.data.item import Item
from loupe_trainer.data.mvtec_3d import open_mvtec_3d
from loupe_trainer.published_results import TABLES
from loupe_trainer.recipe import load_recipe
from loupe_trainer.split import split_parts

SIDE = 64
LENS = Intrinsics(SIDE, SIDE, 300.0, 300.0, 31.5, 31.5)
MODES = ("rgb", "depth", "rgbd")
# The shipped recipe with encoders so small that little is learnt.
SMALL = (
    "fit.device=cpu",
    "fit.size_px=48",
    "fit.fusion_share=0.3",
    "fit.rgb={ channels = 32, depth = 1, steps = 6 }",
    "fit.depth={ remove_belt = false, n_points = 64, group_size = 16, steps = 6 }",
    "fit.distillation={ epochs = 2, batch = 8 }",
    "fit.bank={ share = 0.1 }",
)


def write_exposure(folder: Path, name: str, seed: int, kind: str | None = None) -> None:
    """A part 20 mm high on a table half a metre away; `hole` is a dent, `color` is a stain.

    Args:
        folder: Of one kind of parts, `test/hole`.
        name: Without suffix.
        seed: Of place, texture, noise and holes.
        kind: None for the training and validation sets, which have no truth.
    """
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:SIDE, :SIDE] - np.rint(rng.uniform(29, 34, 2))[:, None, None]
    part, spot = np.hypot(u, v) < 17, np.hypot(u - 4, v + 5) < 5
    z_m = 0.5 + u * 5e-5 - part * (0.02 - 2e-5 * (u**2 + v**2)) + rng.normal(0, 2e-4, u.shape)
    rgb = np.where(part[..., None], (60, 110, 170), (120, 120, 120)) + rng.normal(
        0, 5, (*u.shape, 3)
    )
    if kind == "hole":
        z_m[spot] += 0.008
    if kind == "color":
        rgb[spot] = (200, 60, 220)
    z_m[rng.random(u.shape) < 0.03] = 0
    x, y = ray_planes(LENS)
    xyz = np.stack([x * z_m, y * z_m, z_m], axis=-1).astype(np.float32)
    truth = (spot * (kind in ("hole", "color")) * 255).astype(np.uint8)
    files = {"rgb": (".png", rgb.clip(0, 255).astype(np.uint8)), "xyz": (".tiff", xyz[..., ::-1])}
    for where, (suffix, pixels) in (files | ({"gt": (".png", truth)} if kind else {})).items():
        (folder / where).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / where / f"{name}{suffix}"), np.ascontiguousarray(pixels))


def write_category(place: Path, seed: int) -> None:
    for i in range(8):
        write_exposure(place / "train" / "good", f"{i:03d}", seed + i)
    for i in range(20):
        write_exposure(place / "validation" / "good", f"{i:03d}", seed + 100 + i)
    for n, kind in enumerate(("good", "hole", "color")):
        for i in range(3):
            write_exposure(place / "test" / kind, f"{i:03d}", seed + 200 + 10 * n + i, kind)
    (place / "calibration").mkdir()
    (place / "calibration" / "camera_parameters.json").write_text('{"focal_length": 300}')


def written(root: Path, names: tuple[str, ...]) -> Path:
    for n, name in enumerate(names):
        write_category(root / name, 1000 * n)
    return root


def command(repository: Path, data: Path, out: Path) -> list[str | Path]:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    recipe = repository / "trainer" / "recipes" / "mvtec_3d.toml"
    return ["train", recipe, "--data", data, "--all", "--out", out, *settings]


def modes_of(out: Path) -> Mapping[str, Any]:
    told = json.loads((out / "summary.json").read_text())["modes"]
    assert tuple(told) == MODES
    return dict(told)


def frame_of(data: Path, category: str) -> Frame:
    """The first good test frame, in both streams."""
    found = open_mvtec_3d(data / category, ("rgb", "depth"))
    item = next(item for item in found.items if item.key.startswith("test/good"))
    ((_, frame),) = found.frames([item])
    return frame


def kept(frame: Frame, n_rows: int) -> Frame:
    """Make holes of all depth but some rows."""
    assert frame.depth is not None
    depth = frame.depth.copy()
    depth[n_rows:] = 0
    return replace(frame, depth=depth)


def refuses_bad_depth(bundle: Bundle, frame: Frame) -> None:
    """Look at all holes, too few points and another unit in every mode: none is ever good."""
    assert frame.depth_scale_m is not None
    millimetres = replace(frame, depth_scale_m=frame.depth_scale_m * 1000)
    for mode in MODES:
        with closing(open_engine(bundle, mode)) as engine:
            strict = Inspector(bundle, mode, engine)
            lenient = Inspector(bundle, mode, engine, min_depth_valid=0.0)
            for looks, shown, reason in (
                (strict, kept(frame, 0), "depth is known for 0% of the region, 50% is required"),
                (lenient, kept(frame, 0), "0 valid points, sample_points needs 64"),
                (lenient, kept(frame, 1), r"[1-9]\d* valid points, sample_points needs 64"),
                (strict, millimetres, r"depths of 4\d\d to 5\d\d m; are these millimetres\?"),
            ):
                found = looks.inspect(shown)
                assert found is not None
                assert (found.decision == "unknown") == (mode != "rgb")
                assert re.match(reason if mode != "rgb" else "", found.reason), found.reason


def test_as_downloaded_every_mode_stands_beside_m3dm(
    typed: Typed, tmp_path: Path, repository: Path
) -> None:
    out, data = tmp_path / "runs", written(tmp_path / "mvtec_3d_anomaly_detection", ("bagel",))
    status, told = typed(*command(repository, data, out))
    assert status == 0, told
    for mode, table in modes_of(out).items():
        assert f"MVTec 3D-AD, mode {mode}" in told
        assert table["dataset"] == "MVTec 3D-AD"
        (row,) = table["categories"]
        assert row["category"] == "bagel"
        assert (row["n_good"], row["n_defect"], row["n_unknown"]) == (3, 6, 0)
        assert 0 <= row["measured"]["image_auroc"] <= 1
        assert row["false_reject_rate"] == 0.182  # what 15 parts carry
    # Rows there are for depth alone; bagel's, of a rerun.
    assert re.search(r"bagel +│ +[0-9.]+ │ +94.5 │ +[0-9.]+ │ +94.8 ", told)
    assert "not in the folder: cable_gland, carrot" in told
    bundle = load_bundle(out / "bagel" / "bundle")
    assert set(bundle.manifest.modes) == set(MODES)
    refuses_bad_depth(bundle, frame_of(data, "bagel"))
    split = {f.stem: len(f.read_text().splitlines()) for f in (out / "bagel" / "split").iterdir()}
    assert split == {"fit": 8, "quantiles": 5, "threshold": 15, "test": 9, "final": 0}


def test_prepared_parts_are_small_in_their_pictures_and_judged_all_the_same(
    typed: Typed, tmp_path: Path, repository: Path
) -> None:
    data, prepared = written(tmp_path / "downloaded", ("foam",)), tmp_path / "prepared"
    assert typed("prepare", "mvtec3d", data, "--out", prepared)[0] == 0
    depth = frame_of(prepared, "foam").depth
    assert depth is not None
    assert (depth > 0).mean() < 0.1  # a station would call this holes
    out = tmp_path / "runs"
    words = command(repository, prepared, out)
    status, told = typed(*words, "--set", 'modes=["depth"]')
    assert status == 0, told
    summary = json.loads((out / "summary.json").read_text())
    (row,) = summary["categories"]
    assert summary["mode"] == "depth"
    assert (row["n_good"], row["n_defect"], row["n_unknown"]) == (3, 6, 0)


def test_bad_clouds_are_refused_before_anything_is_learnt(
    typed: Typed, tmp_path: Path, repository: Path
) -> None:
    data, out = written(tmp_path / "data", ("rope",)), tmp_path / "runs"
    few = command(repository, data, out)
    depth = "{ remove_belt = false, n_points = 2300, group_size = 16, steps = 6 }"
    status, told = typed(*few, "--set", f"fit.depth={depth}")
    assert status == 2
    assert re.search(r"rope.*: [12]\d{3} valid points, sample_points needs 2300", told)
    cloud = data / "rope" / "train" / "good" / "xyz" / "003.tiff"
    stored = cv2.imread(str(cloud), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    for spoilt, says in (
        (stored * 1000, r"depths of 4\d\d to 5\d\d m; are these millimetres\?"),
        (stored * 0, "only 0 pixels were measured; remove the exposure"),
        (stored[:50], "64x50, its picture 64x64"),
    ):
        assert cv2.imwrite(str(cloud), np.ascontiguousarray(spoilt))
        status, told = typed(*command(repository, data, out))
        assert status == 2
        assert re.search(rf"003\.tiff: {says}", told), told
    assert not list(out.rglob("manifest.json"))


def write_dino(folder: Path, seed: int) -> None:
    """A folder of the published layout; another seed is another backbone under the same name."""
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, intermediate_size=48, hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    transformers.AutoModel.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    told = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")


def test_missing_backbones_end_it_all_and_say_how_to_fetch(
    typed: Typed, tmp_path: Path, repository: Path
) -> None:
    data, out = written(tmp_path / "data", ("rope", "tire")), tmp_path / "runs"
    recipe = tmp_path / "trainer" / "recipes" / "mvtec_3d.toml"  # with no weights/ two folders up
    recipe.parent.mkdir(parents=True)
    shipped = repository / "trainer" / "recipes" / "mvtec_3d.toml"
    recipe.write_text(shipped.read_text())
    write_dino(tmp_path / "dino", seed=1)
    small = ("fit.device=cpu", "fit.size_px=48", "fit.depth.n_points=64", "fit.depth.group_size=16")
    words: list[str | Path] = ["train", recipe, "--data", data, "--all", "--out", out]
    words += [word for setting in small for word in ("--set", setting)]
    for settings, told_how in (
        ((), "hf download facebook/dino-vitb8"),
        (("--set", "fit.rgb={ weights = '../../dino' }"), "Point-MAE/releases/download/main/"),
        (("--set", "fit.rgb={ channels = 32, steps = 2 }"), "Point-MAE/releases/download/main/"),
    ):
        status, told = typed(*words, *settings)
        assert status == 2
        assert told_how in told
        assert "learning" not in told  # before either encoder has begun
        assert "tire" not in told
        assert not out.exists()


def test_a_bank_of_another_backbone_is_not_gone_on_with(
    typed: Typed, tmp_path: Path, repository: Path
) -> None:
    data, run, dino = written(tmp_path / "data", ("rope",)), tmp_path / "run", tmp_path / "dino"
    write_dino(dino, seed=1)
    words = [word for word in command(repository, data / "rope", run) if word != "--all"]
    words += ["--set", 'modes=["rgb"]', "--set", "fit.distillation={ kind = 'none' }"]
    named = ["--set", f"fit.rgb={{ weights = '{dino}' }}"]
    status, told = typed(*words, *named)
    assert status == 0, told
    assert load_bundle(run / "bundle").manifest.provenance.backbone is not None
    made = (run / "bundle" / "manifest.json").read_bytes()
    write_dino(tmp_path / "other", seed=2)
    status, told = typed(*words, "--set", f"fit.rgb={{ weights = '{tmp_path / 'other'}' }}")
    assert status == 2
    assert "holds a run of another recipe (fit.rgb.weights was" in told
    write_dino(dino, seed=2)
    status, told = typed(*words, *named)
    assert status == 2
    assert "or a file that the recipe names did" in told
    assert (run / "bundle" / "manifest.json").read_bytes() == made


# Good parts to train on and to validate with: 2,656 and 294 in all. 210 and 361 follow from the
# sizes of published memory banks too; the others are known by these sums alone.
N_GOOD = {
    "bagel": (244, 22), "cable_gland": (223, 23), "carrot": (286, 29), "cookie": (210, 22),
    "dowel": (288, 34), "foam": (236, 27), "peach": (361, 42), "potato": (300, 33),
    "rope": (298, 33), "tire": (210, 29),
}  # fmt: skip


def test_the_shipped_recipe_suits_every_category(repository: Path) -> None:
    recipe = load_recipe(repository / "trainer" / "recipes" / "mvtec_3d.toml")
    assert set(N_GOOD) == {n for t in TABLES if t.dataset == "MVTec 3D-AD" for n in t.names}
    assert tuple(map(sum, zip(*N_GOOD.values(), strict=True))) == (2656, 294)
    promises = {}
    for name, (n_train, n_validation) in N_GOOD.items():
        items = [
            Item(str(i), str(i), "good", Path(str(i)), is_validation=i >= n_train)
            for i in range(n_train + n_validation)
        ]
        split = split_parts(items, recipe.split, recipe.threshold, recipe.seed)
        assert len(split.fit) == n_train
        promises[name] = recipe.threshold.promised(len(split.threshold))
    assert promises["peach"] == 0.1
    assert max(promises.values()) == 0.171


def test_the_encoders_without_weights_that_the_recipe_names_learn_it_too(
    typed: Typed, tmp_path: Path, repository: Path
) -> None:
    data, run = written(tmp_path / "data", ("rope",)), tmp_path / "run"
    told = (repository / "trainer" / "recipes" / "mvtec_3d.toml").read_text()
    named = re.findall(r"--set '(fit\.\w+=\{ kind = [^']*)'", told)
    assert [name.partition("=")[0] for name in named] == ["fit.rgb", "fit.depth"]
    words = [word for word in command(repository, data / "rope", run) if word != "--all"]
    words += [word for setting in named for word in ("--set", setting)]
    words += ["--set", 'modes=["rgbd"]', "--set", "fit.rgb.pretrain={ width = 0.1, steps = 5 }"]
    status, said = typed(*words)
    assert status == 0, said
    manifest = load_bundle(run / "bundle").manifest
    assert [tensor.name for tensor in manifest.modes["rgbd"].inputs] == ["rgb", "xyz", "valid"]
    assert manifest.provenance.backbone is None
