"""The manifest says exactly what it may, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from loupe_models.bundle import Bundle
from loupe_models.manifest import Manifest

Document = dict[str, Any]


@pytest.fixture
def document(tiny_bundle: Bundle) -> Document:
    """A real manifest as a plain document, free to be spoilt."""
    read: Document = json.loads(tiny_bundle.manifest.model_dump_json())
    return read


def test_a_manifest_survives_being_written_and_read(tiny_bundle: Bundle) -> None:
    text = tiny_bundle.manifest.model_dump_json()
    assert Manifest.model_validate_json(text) == tiny_bundle.manifest


def test_a_variant_may_bring_its_own_threshold(document: Document) -> None:
    mode = document["modes"]["rgb"]
    own = mode["threshold"] | {"value": mode["threshold"]["value"] + 1}
    typed = {"file": "rgb.fp16.onnx", "precision": "fp16", "threshold": own}
    mode["variants"]["fp16"] = mode["variants"]["fp32"] | typed
    document["files"]["rgb.fp16.onnx"] = "0" * 64
    read = Manifest.model_validate(document).modes["rgb"]
    assert read.threshold_of("fp32") == read.threshold
    assert read.threshold_of("fp16").value == read.threshold.value + 1


def unknown_key(m: Document) -> None:
    m["colour"] = "red"


def unknown_deep_key(m: Document) -> None:
    m["modes"]["rgb"]["golden"][0]["intrinsics"]["skew"] = 0.0


def newer_schema(m: Document) -> None:
    m["schema_version"] = 2


def unknown_mode(m: Document) -> None:
    m["modes"]["thermal"] = m["modes"].pop("rgb")


def no_mode(m: Document) -> None:
    m["modes"] = {}


def path_that_climbs(m: Document) -> None:
    m["files"]["../rgb.onnx"] = "0" * 64


def absolute_path(m: Document) -> None:
    m["files"]["/etc/passwd"] = "0" * 64


def path_with_newline(m: Document) -> None:
    m["files"]["rgb.onnx\n"] = "0" * 64


def graph_that_climbs(m: Document) -> None:
    m["modes"]["rgb"]["variants"]["fp32"]["file"] = "../../rgb.fp32.onnx"


def hidden_file(m: Document) -> None:
    m["files"][".cache"] = "0" * 64


def short_hash(m: Document) -> None:
    m["files"]["rgb.fp32.onnx"] = "abc"


def graph_not_listed(m: Document) -> None:
    del m["files"]["rgb.fp32.onnx"]


def golden_not_listed(m: Document) -> None:
    del m["files"][m["modes"]["rgb"]["golden"][0]["rgb"]]


def no_golden(m: Document) -> None:
    m["modes"]["rgb"]["golden"] = []


def laxer_threshold(document: Document) -> None:
    document["modes"]["rgb"]["threshold"]["value"] += 1.0


def fewer_scores(document: Document) -> None:
    document["modes"]["rgb"]["calibration_scores"].pop()


def equal_scores(document: Document) -> None:
    scores = document["modes"]["rgb"]["calibration_scores"]
    document["modes"]["rgb"]["calibration_scores"] = [1.0] * len(scores)


def another_precisions_graph(document: Document) -> None:
    variant = document["modes"]["rgb"]["variants"]["fp32"]
    document["modes"]["rgb"]["variants"]["fp16"] = variant | {"precision": "fp16"}


def boundless_tolerance(document: Document) -> None:
    document["modes"]["rgb"]["variants"]["fp32"]["tolerance"] = 1e9


def unsorted_scores(m: Document) -> None:
    m["modes"]["rgb"]["calibration_scores"].reverse()


def nan_score(m: Document) -> None:
    m["modes"]["rgb"]["calibration_scores"][-1] = float("nan")


def infinite_threshold(m: Document) -> None:
    m["modes"]["rgb"]["threshold"]["value"] = float("inf")


def too_many_scores(m: Document) -> None:
    m["modes"]["rgb"]["calibration_scores"] = [float(i) for i in range(2001)]


def inputs_differ_from_preprocess(m: Document) -> None:
    m["modes"]["depth"]["preprocess"] = m["modes"]["rgb"]["preprocess"]


def misnamed_variant(m: Document) -> None:
    m["modes"]["rgb"]["variants"]["fp16"] = m["modes"]["rgb"]["variants"].pop("fp32")


def served_and_refused(m: Document) -> None:
    m["modes"]["rgb"]["refused"] = {"fp32": "it is too large"}


def mirrored_belt(m: Document) -> None:
    rotation = m["modes"]["rgb"]["golden"][0]["belt_from_camera"]["rotation"]
    rotation[0] = [-value for value in rotation[0]]


def id_with_slash(m: Document) -> None:
    m["id"] = "a/b"


SPOILT: list[tuple[Callable[[Document], None], str]] = [
    (unknown_key, "colour"),
    (unknown_deep_key, "skew"),
    (newer_schema, "schema_version"),
    (unknown_mode, "thermal"),
    (no_mode, "modes"),
    (path_that_climbs, "files"),
    (absolute_path, "files"),
    (path_with_newline, "files"),
    (graph_that_climbs, "file"),
    (hidden_file, "files"),
    (short_hash, "files"),
    (graph_not_listed, "not listed under files: rgb.fp32.onnx"),
    (golden_not_listed, "not listed under files: golden/"),
    (no_golden, "golden"),
    (unsorted_scores, "calibration_scores must be sorted"),
    (equal_scores, "calibration_scores are all the same"),
    (laxer_threshold, "is not the score of rank"),
    (fewer_scores, "calibration_scores of"),
    (another_precisions_graph, "the graph of rgb in fp16 is rgb.fp16.onnx, not rgb.fp32.onnx"),
    (boundless_tolerance, "tolerance"),
    (nan_score, "calibration_scores"),
    (infinite_threshold, "threshold.value"),
    (too_many_scores, "calibration_scores"),
    (inputs_differ_from_preprocess, "but preprocess makes"),
    (served_and_refused, "both served and refused: fp32"),
    (misnamed_variant, "variant fp16 says it is fp32"),
    (mirrored_belt, "not a rotation"),
    (id_with_slash, "id"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT, ids=[spoil.__name__ for spoil, _ in SPOILT])
def test_what_a_manifest_may_not_say(
    spoil: Callable[[Document], None], message: str, document: Document
) -> None:
    spoil(document)
    with pytest.raises(ValidationError) as refused:
        Manifest.model_validate(document)
    assert message in str(refused.value)


@pytest.mark.parametrize(("size", "fits"), [(16, True), (17, False)])
def test_groups_have_the_size_that_the_steps_say(document: Document, size: int, fits: bool) -> None:
    mode = document["modes"]["rgb"]
    mode["preprocess"] = {
        "steps": [
            {"step": "cloud"},
            {"step": "sample_points", "n_points": 32},
            {"step": "group", "size": 16},
        ],
        "tensors": ["groups"],
    }
    mode["inputs"] = [{"name": "groups", "dtype": "float32", "shape": [1, 32, size, 3]}]
    if fits:
        assert Manifest.model_validate(document).modes["rgb"].inputs[0].shape[2] == size
        return
    with pytest.raises(ValidationError, match=r"preprocess makes \(1, 32, 16, 3\)"):
        Manifest.model_validate(document)
