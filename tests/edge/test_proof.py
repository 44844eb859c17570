"""A bundle speaks only where its golden frames give their answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loupe_edge.engines import open_engine
from loupe_edge.errors import EngineError, ProofError
from loupe_edge.fakes import FunctionEngine
from loupe_edge.proof import golden_frame, prove
from loupe_edge.protocols import Outputs
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.errors import BundleError
from loupe_models.scoring import score_unit


@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
def test_golden_frames_repeat_on_this_device(tiny_bundle: Bundle, mode: str) -> None:
    engine = open_engine(tiny_bundle, mode)
    report = prove(tiny_bundle, mode, engine)
    assert report.n_golden == 2
    assert max(report.errors) <= report.tolerance


@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
def test_golden_frames_come_back_bit_for_bit(
    tiny_bundle: Bundle, make_frame: Callable[..., Any], mode: str
) -> None:
    streams = {"rgb": ("rgb",), "depth": ("depth",), "rgbd": ("rgb", "depth")}[mode]
    written = make_frame("good", 7, streams)
    read = golden_frame(tiny_bundle, tiny_bundle.mode(mode).golden[0])
    for stream in ("rgb", "depth"):
        before, after = getattr(written, stream), getattr(read, stream)
        assert (before is None) == (after is None)
        if before is not None:
            np.testing.assert_array_equal(before, after)
            assert before.dtype == after.dtype


def altered(bundle: Bundle, place: Path, change: Callable[[Any], None]) -> Bundle:
    shutil.copytree(bundle.path, place)
    manifest = json.loads((place / "manifest.json").read_text())
    change(manifest["modes"]["rgb"])
    (place / "manifest.json").write_text(json.dumps(manifest))
    return load_bundle(place)


def shift_first_score(by: float) -> Callable[[Any], None]:
    def change(mode: Any) -> None:
        mode["golden"][0]["image_score"] += by

    return change


def test_a_score_may_be_off_by_the_tolerance_and_no_more(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    contract = tiny_bundle.mode("rgb")
    step = score_unit(contract.calibration_scores) * contract.variants["fp32"].tolerance
    engine = open_engine(tiny_bundle, "rgb")
    near = altered(tiny_bundle, tmp_path / "near", shift_first_score(0.9 * step))
    assert prove(near, "rgb", engine).errors[0] == pytest.approx(0.9e-3, rel=0.05)
    far = altered(tiny_bundle, tmp_path / "far", shift_first_score(1.1 * step))
    says = (
        r"golden frame 0: this device says good .* \(they differ by 0\.0011 of the good parts' "
        r"spread, s95 - s50; at most 0\.001 is allowed\)"
    )
    with pytest.raises(ProofError, match=says):
        prove(far, "rgb", engine)


def test_far_from_the_good_parts_a_share_of_the_score_is_allowed_if_the_variant_says_so(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    score = tiny_bundle.mode("rgb").golden[1].image_score

    def allowing(share: float) -> Callable[[Any], None]:
        def change(mode: Any) -> None:
            mode["golden"][1]["image_score"] = score * 1.005
            mode["variants"]["fp32"]["relative_tolerance"] = share

        return change

    engine = open_engine(tiny_bundle, "rgb")
    near = altered(tiny_bundle, tmp_path / "near", allowing(0.006))
    assert prove(near, "rgb", engine).errors[1] > 1e-3
    for name, share in (("far", 0.004), ("plain", 0.0)):
        far = altered(tiny_bundle, tmp_path / name, allowing(share))
        with pytest.raises(ProofError, match="golden frame 1"):
            prove(far, "rgb", engine)


def test_a_decision_must_be_the_same(tiny_bundle: Bundle, tmp_path: Path) -> None:
    def change(mode: Any) -> None:
        mode["golden"][1]["decision"] = "good"

    lying = altered(tiny_bundle, tmp_path / "lying", change)
    with pytest.raises(ProofError, match=r"says defect .* the trainer said good"):
        prove(lying, "rgb", open_engine(lying, "rgb"))


def test_an_engine_that_gives_no_score_proves_nothing(tiny_bundle: Bundle) -> None:
    def nan(_: object) -> Outputs:
        return {
            "anomaly_map": np.zeros((1, 1, 64, 64), np.float32),
            "image_score": np.array([np.nan], np.float32),
        }

    def fails(_: object) -> Outputs:
        raise EngineError("the device is gone")

    for answer, reason in ((nan, "nan"), (fails, "the device is gone")):
        with pytest.raises(ProofError, match=reason):
            prove(tiny_bundle, "rgb", FunctionEngine(answer))


def test_a_golden_frame_that_does_not_fit_names_bundle_and_picture(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    def colour_as_depth(mode: Any) -> None:
        mode["golden"][0] |= {"depth": mode["golden"][0]["rgb"], "depth_scale_m": 0.001}

    def nothing(mode: Any) -> None:
        mode["golden"][0]["rgb"] = None

    for change, says in ((colour_as_depth, "rgb_good_rgb.png.*depth must be"), (nothing, "needs")):
        bundle = altered(tiny_bundle, tmp_path / change.__name__, change)
        with pytest.raises(BundleError, match=rf"{bundle.path}: golden .*{says}.*; export"):
            prove(bundle, "rgb", open_engine(bundle, "rgb"))
