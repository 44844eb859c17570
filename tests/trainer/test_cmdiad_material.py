"""What CMDIAD is told and learns from, and whose weights it brings."""

import re
from pathlib import Path

import pytest

from loupe_models.manifest import Backbone
from loupe_models.preprocess import Tensors
from loupe_trainer.errors import RecipeError, SplitError
from loupe_trainer.methods import get_method
from loupe_trainer.methods.cmdiad.encoders import joined
from loupe_trainer.methods.cmdiad.material import divide


def test_no_part_serves_both_banks_and_fusion() -> None:
    class Known(list[Tensors]):
        items = tuple(type("Item", (), {"part_id": f"part-{i // 3}"}) for i in range(30))

    known = Known({} for _ in range(30))
    material = divide(known, 0.3, seed=1)
    parts = [known.items[i].part_id for i in material.order]
    in_banks = set(parts[: material.n_for_banks])
    for_fusion = {parts[i] for i in material.for_fusion}
    assert (len(in_banks), len(for_fusion)) == (7, 3)
    assert not in_banks & for_fusion
    assert sorted(material.order) == list(range(30))
    with pytest.raises(SplitError, match="3 parts to fit on leave 1 for the memory banks"):
        divide([{}] * 3, 0.3, seed=1)


def test_two_backbones_are_named_as_one() -> None:
    one = Backbone(name="a", licence="MIT", sha256="1" * 64)
    other = Backbone(name="b", licence="Apache-2.0", sha256="2" * 64)
    assert joined([]) is None
    assert joined([one]) == one
    both = joined([one, other])
    assert both is not None
    assert (both.name, both.licence) == ("a + b", "MIT AND Apache-2.0")
    assert re.fullmatch(r"[0-9a-f]{64}", both.sha256)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size_pix": 64}, r"fit\.size_pix: unknown key"),
        ({"distillation": {"kind": "i2f", "paper": True}}, r"published form of f2f"),
        ({"bank": {"share": 0}}, r"fit\.bank\.share: .*greater than 0"),
        ({"size_px": 100}, r"fit\.size_px: .*multiple of 8"),
        ({"size_px": 64, "border_px": 20}, r"fit: border_px: 20 of 64 px leave too little"),
        ({"bank": {"share": True}}, r"fit\.bank\.share: Input should be a valid number"),
        ({"rgb": {"kind": "dino"}}, r'fit\.rgb\.kind: there is "vit" or "pdn"'),
        (
            {"rgb": {"kind": "pdn", "weights": "a"}},
            r'fit\.rgb\.weights: kind = "pdn" .* "vit" does',
        ),
        ({"rgb": {"kind": "pdn", "steps": 9}}, r'fit\.rgb\.steps: kind = "pdn" does not take it'),
        ({"rgb": {"teacher": "a"}}, r'fit\.rgb\.teacher: kind = "vit" does not .*, "pdn" does'),
        ({"rgb": {"kind": "pdn", "teachr": "a"}}, r"fit\.rgb\.teachr: unknown key"),
        ({"rgb": {"kind": "pdn", "pretrain": 5}}, r"fit\.rgb\.pretrain: Input should be an object"),
        (
            {"rgb": {"kind": "pdn", "pretrain": {"stepss": 5}}},
            r"fit\.rgb\.pretrain\.stepss: unknown key; remove it or mend its spelling$",
        ),
        (
            {"rgb": {"weights": "a", "channels": 64}},
            r"fit\.rgb: channels means nothing beside weights; remove channels$",
        ),
        ({"rgb": {"licence": "MIT"}}, r"fit\.rgb: licence means nothing without weights"),
        (
            {"rgb": {"kind": "pdn", "teacher": "a", "pretrain": {"steps": 5}}},
            r"fit\.rgb: pretrain means nothing beside teacher",
        ),
        ({"depth": {"weights": "a", "steps": 9}}, r"fit\.depth: steps means nothing beside"),
        ({"rgb": {"channels": 33}}, r"fit\.rgb\.channels: .*multiple of 32"),
        (
            {"depth": {"kind": "relief", "weights": "a.pth"}},
            r'fit\.depth\.weights: kind = "relief" does not take it, "point_mae" or "surface" does',
        ),
        ({"depth": {"place_mm": 5}}, r'fit\.depth\.place_mm: kind = "point_mae" .* "relief" does'),
        ({"depth": {"surface_steps": 5}}, r'fit\.depth\.surface_steps: .* "surface" does'),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        get_method("cmdiad", settings, 1, Path(), ("rgb",))
