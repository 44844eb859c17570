from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loupe_edge.camera_settings import Stream
from loupe_models.manifest import Mode
from loupe_trainer.errors import RecipeError
from loupe_trainer.methods import get_method
from loupe_trainer.recipe import Recipe, load_recipe, parse_recipe

MINIMAL = 'name = "r"\nmethod = "efficientad"\n'


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "r.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, MINIMAL))
    assert recipe.modes == ("rgb",)
    assert recipe.threshold.confidence == 0.95
    assert recipe.fit == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL + "[split]\nfitt = 0.5\n", "split.fitt: unknown key"),
        (MINIMAL + "colour = 1\n", "colour: unknown key"),
        (MINIMAL + "[threshold]\nfalse_reject_rate = 2\n", "threshold.false_reject_rate"),
        (MINIMAL + "seed = -1\n", "seed"),
        (
            MINIMAL + "seed = 9223372036854775808\n",
            "seed: Input should be less",
        ),
        (
            MINIMAL + "[split]\nseed = 9999999999\n",
            "split.seed: Input should be less",
        ),
        (
            MINIMAL + "[split]\nfit = 1e308\n",
            "split.fit: Input should be less",
        ),
        (
            MINIMAL + "[split]\nthreshold = 1e-300\n",
            "split.threshold: Input should be greater",
        ),
        (
            MINIMAL + "[threshold]\nfalse_reject_rate = 1e-300\n",
            "reject_rate: Input should be greater",
        ),
        (MINIMAL + "[data]\nreader = 'mvtek'\n", "data.reader"),
        (MINIMAL + "seed = true\n", "seed: Input should be a valid integer"),
        (MINIMAL + "[split]\nfit = true\n", "split.fit: Input should be a valid number"),
        (MINIMAL + "[split]\nkeep_final = 1\n", "split.keep_final: Input should be a valid bool"),
        (MINIMAL + "[threshold]\nat_worst = 0.01\n", "threshold: at_worst must not be below"),
        ('method = "efficientad"\n', "name: Field required"),
        ("name = \n", "not valid TOML"),
    ],
)
def test_refusals_name_file_key_and_reason(tmp_path: Path, text: str, says: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(RecipeError) as refused:
        load_recipe(file)
    assert str(refused.value).startswith(str(file))
    assert says in str(refused.value)
    assert refused.value.exit_status == 2


def test_a_missing_recipe_and_a_binary_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "absent.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a readable recipe"):
        load_recipe(tmp_path / "b.toml")


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, MINIMAL + "[fit]\nsteps = 5\n")
    recipe = load_recipe(
        file, {"fit.steps": "7", "fit.corpus": "pictures", "threshold.confidence": "0.9"}
    )
    assert recipe.fit == {"steps": 7, "corpus": "pictures"}
    assert recipe.threshold.confidence == 0.9
    with pytest.raises(RecipeError, match="name is a value"):
        load_recipe(file, {"name.x": "1"})
    with pytest.raises(RecipeError, match="unknown key"):
        load_recipe(file, {"fitt.steps": "1"})


@pytest.mark.parametrize(
    ("mode", "gate", "streams"),
    [
        ("rgb", {}, ("rgb",)),
        ("rgb", {"occupied": {"by": "height"}}, ("rgb", "depth")),
        ("depth", {}, ("depth",)),
        ("rgbd", {}, ("rgb", "depth")),
    ],
)
def test_streams_follow_from_mode_and_gate(
    mode: Mode, gate: dict[str, object], streams: tuple[Stream, ...]
) -> None:
    recipe = Recipe.model_validate({"name": "r", "method": "m", "modes": [mode], "gate": gate})
    assert recipe.streams == streams


def test_shipped_recipes_are_valid(repository: Path) -> None:
    files = sorted((repository / "trainer" / "recipes").glob("*.toml"))
    assert {"folder.toml", "magnetic_tile.toml"} <= {f.name for f in files}
    for file in files:
        recipe = load_recipe(Path(file))
        method = get_method(recipe.method, recipe.fit, recipe.seed, file.parent, recipe.modes)
        assert method.name == recipe.method


BASE: Mapping[str, object] = {"name": "r", "method": "m"}
HEIGHT = {"occupied": {"by": "height"}}
COLOUR = {"occupied": {"by": "colour", "belt_rgb": [0, 0, 0]}}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"modes": []}, "modes: "),
        ({"modes": ["rgb", "rgb"]}, "each mode may be named once"),
        ({"mode": "depth"}, r'mode: write modes = \["depth"\] instead'),
        ({"modes": ["rgb", "ir"]}, "modes.1"),
        ({"gates": {"depth": {}}}, "'depth' is not among modes"),
        ({"modes": ["rgb", "rgbd"], "gate": HEIGHT}, "the gate of rgb looks at depth"),
        ({"modes": ["rgb", "depth"], "gate": COLOUR}, "the gate of depth looks at rgb"),
        (
            {"modes": ["rgb", "depth"], "gates": {"depth": {"region_px": [0, 0, 9, 9]}}},
            r"depth looks at \(0, 0, 9, 9\), that of rgb at the whole picture",
        ),
        (
            {"modes": ["rgb", "rgbd"], "preprocess": {"steps": []}},
            "several modes take the method's own",
        ),
    ],
)
def test_recipes_of_modes_that_do_not_go_together(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        parse_recipe({**BASE, **keys}, "r.toml")


def test_streams_are_those_of_all_modes() -> None:
    def streams(**keys: object) -> tuple[str, ...]:
        return parse_recipe({**BASE, **keys}, "r.toml").streams

    assert streams(modes=["depth", "rgb"]) == ("rgb", "depth")
    assert streams(modes=["rgb"]) == ("rgb",)
    assert streams(modes=["rgb"], gates={"rgb": HEIGHT}) == ("rgb", "depth")
    assert streams(modes=["depth"], gate=COLOUR) == ("rgb", "depth")
    assert streams(modes=["depth"], gate=COLOUR, gates={"depth": HEIGHT}) == ("depth",)
