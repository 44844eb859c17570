"""A recipe brought together with its data: everything that can be refused, before the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loupe_trainer.data.item import DataSet
from loupe_trainer.data.opening import Reading, open_data, require_streams
from loupe_trainer.errors import RecipeError, SplitError
from loupe_trainer.index import Index, index_data
from loupe_trainer.methods import get_method
from loupe_trainer.methods.base import Method
from loupe_trainer.named_files import with_named_files
from loupe_trainer.progress import Progress
from loupe_trainer.recipe import OF_MODE, Recipe
from loupe_trainer.split import Split, split_parts
from loupe_trainer.views import Views, make_views


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe brought together with its data.

    Attributes:
        recipe_file: Where the recipe lay; relative paths in it start there.
        place: Where the data lies.
    """

    recipe: Recipe
    recipe_file: Path
    place: Path
    data: DataSet
    index: Index
    split: Split
    method: Method
    views: Views

    @property
    def data_sha256(self) -> str:
        """Of the data, and of the files that the method's settings name."""
        fit = self.recipe.fit
        return with_named_files(self.index.data_sha256, fit, self.recipe_file.parent)


def make_plan(recipe: Recipe, recipe_file: Path, place: Path | None, progress: Progress) -> Plan:
    """Open and hash the data, deal the parts, find the method: everything that can be refused.

    Raises:
        RecipeError: No data given, or the method does not serve a mode.
        DataError: The data is missing, not what it should be, or lacks a stream of some mode.
        SplitError: Too few parts.
    """
    where = place_of(recipe, recipe_file, place)
    folder = recipe_file.parent
    method = get_method(recipe.method, recipe.fit, recipe.seed, folder, recipe.modes)
    how = reading(recipe, method)
    learnt_from = how.streams if method.learnt_from() else ()
    require_streams(
        where, how, {mode: (*recipe.streams_of(mode), *learnt_from) for mode in recipe.modes}
    )
    data = open_data(where, how)
    index = index_data(data, progress)
    try:
        split = split_parts(index.items, recipe.split, recipe.threshold, recipe.seed)
    except SplitError as error:
        if not index.n_copies:
            raise
        raise SplitError(
            f"{error} ({index.n_copies + index.n_originals} of the {len(index.items)} files hold "
            f"the same bytes as another, and count as {index.n_originals})"
        ) from error
    views = make_views(recipe, method, data.belt_from_camera)
    return Plan(recipe, recipe_file, where, data, index, split, method, views)


def reading(recipe: Recipe, method: Method) -> Reading:
    """Say how a recipe's data is to be read: with the streams that are learnt from, too."""
    spec = method.learnt_from()
    needed = set(recipe.streams)
    if spec is not None:
        needed |= {"rgb"} if "rgb" in spec.tensors else set()
        needed |= {"depth"} if spec.needs_depth else set()
    return Reading(
        recipe.data.reader,
        recipe.data.part_pattern,
        tuple(stream for stream in OF_MODE["rgbd"] if stream in needed),
        recipe.gate_of(recipe.modes[0]),
        recipe.belt_from_camera,
    )


def place_of(recipe: Recipe, recipe_file: Path, place: Path | None) -> Path:
    """Say where the data lies: what the command line names wins over the recipe.

    Raises:
        RecipeError: Neither names a place.
    """
    if place is not None:
        return place.resolve()
    if recipe.data.path is None:
        raise RecipeError(
            f"{recipe_file}: data.path: the recipe names no data; add `--data PLACE`, or set path"
        )
    return (recipe_file.parent / recipe.data.path.expanduser()).resolve()
