import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loupe_models.threshold import parts_needed
from loupe_trainer.data.item import Item
from loupe_trainer.errors import SplitError
from loupe_trainer.recipe import Role, SplitSettings, ThresholdSettings
from loupe_trainer.split import ROLES, Split, split_parts, write_split

SHARES = SplitSettings(fit=0.5, quantiles=0.1, threshold=0.3, test=0.1)
PROMISE = ThresholdSettings(false_reject_rate=0.1)


def good(part: int, frame: int = 0, is_test_only: bool = False) -> Item:
    key = f"{part}/{frame}.png"
    return Item(key, str(part), "good", Path("/d") / key, is_test_only=is_test_only)


def bad(part: int, frame: int = 0) -> Item:
    key = f"{part}/{frame}-bad.png"
    return Item(key, str(part), "defect", Path("/d") / key, defect="crack")


def parts_of(split: Split) -> dict[Role, set[str]]:
    return {role: {item.part_id for item in split.role(role)} for role in ROLES}


@settings(max_examples=40, deadline=None)
@given(
    n_good=st.integers(150, 300), n_frames=st.integers(1, 4), n_mixed=st.integers(0, 20),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_parts_are_dealt_whole(n_good: int, n_frames: int, n_mixed: int, seed: int) -> None:
    items = [good(p, f) for p in range(n_good) for f in range(n_frames)]
    items += [bad(p) for p in range(n_mixed)]
    parts = parts_of(split_parts(items, SHARES, PROMISE, seed))
    assert sum(len(p) for p in parts.values()) == n_good
    assert set.union(*parts.values()) == {str(p) for p in range(n_good)}
    assert {str(p) for p in range(n_mixed)} <= parts["test"]
    n_pure = n_good - n_mixed
    assert abs(len(parts["fit"]) - 0.5 * n_pure) <= 1
    assert abs(len(parts["threshold"]) - 0.3 * n_pure) <= 1


def test_the_deal_depends_on_ids_and_seed_only() -> None:
    items = [good(p) for p in range(120)]
    first = parts_of(split_parts(items, SHARES, PROMISE, seed=3))
    assert parts_of(split_parts(items[::-1], SHARES, PROMISE, seed=3)) == first
    assert parts_of(split_parts(items, SHARES, PROMISE, seed=4)) != first
    # Written down once: a change of the hash would silently mix up old and new runs.
    assert sorted(first["quantiles"], key=int)[:4] == ["10", "30", "36", "42"]


def test_the_same_parts_are_kept_for_the_end_by_every_seed() -> None:
    items = [good(p) for p in range(400)] + [bad(p) for p in range(400, 600)]
    shares = SHARES.model_copy(update={"keep_final": True})
    first, other = (parts_of(split_parts(items, shares, PROMISE, seed)) for seed in (1, 2))
    defective = {str(p) for p in range(400, 600)}
    assert first["final"] & defective == other["final"] & defective
    assert len(first["final"] & defective) == pytest.approx(100, abs=20)
    tested = (first["test"] | first["final"]) - defective
    assert len(first["final"] - defective) == pytest.approx(len(tested) * 2 / 3, abs=8)
    # A good part that both seeds test is kept back by both or by neither.
    assert not (first["final"] & other["test"] | first["test"] & other["final"])
    # Written down before anything was trained on real parts: the kept half never changes.
    kept = sorted(first["final"] & defective, key=int)
    assert kept[:6] == ["400", "401", "402", "403", "405", "406"]


def test_a_test_folder_of_its_own_takes_no_share_of_the_others() -> None:
    items = [good(p) for p in range(100)] + [good(p, is_test_only=True) for p in range(100, 110)]
    parts = parts_of(split_parts(items, SHARES, PROMISE, seed=0))
    assert parts["test"] == {str(p) for p in range(100, 110)}
    assert len(parts["fit"]) + len(parts["quantiles"]) + len(parts["threshold"]) == 100


def test_shares_without_a_test() -> None:
    shares = SplitSettings(fit=2, quantiles=1, threshold=2, test=0)
    parts = parts_of(split_parts([good(p) for p in range(100)], shares, PROMISE, seed=0))
    assert [len(parts[role]) for role in ROLES] == [40, 20, 40, 0, 0]


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_too_few_parts_for_the_promise_says_how_many(rate: float) -> None:
    promise = ThresholdSettings(false_reject_rate=rate)
    needed = parts_needed(rate)
    with pytest.raises(SplitError, match=rf"takes {needed}: collect about \d+ good parts"):
        split_parts([good(p) for p in range(60)], SHARES, promise, seed=0)


def test_the_number_asked_for_is_enough() -> None:
    with pytest.raises(SplitError) as refused:
        split_parts([good(p) for p in range(5)], SHARES, PROMISE, seed=0)
    in_all = int(str(refused.value).split("collect about ")[1].split()[0])
    split = split_parts([good(p) for p in range(in_all)], SHARES, PROMISE, seed=0)
    assert len(split.threshold) >= parts_needed(0.1)


@pytest.mark.parametrize("items", [[], [bad(0)]])
def test_no_good_part(items: Sequence[Item]) -> None:
    with pytest.raises(SplitError, match="no good part"):
        split_parts(items, SHARES, PROMISE, seed=0)


def test_one_good_part() -> None:
    with pytest.raises(SplitError, match="1 good part, "):
        split_parts([good(0, f) for f in range(50)], SHARES, PROMISE, seed=0)


def test_too_few_for_quantiles() -> None:
    shares = SplitSettings(fit=0.5, quantiles=0.001, threshold=0.499, test=0)
    with pytest.raises(SplitError, match="fewer than 2 for quantiles"):
        split_parts([good(p) for p in range(100)], shares, PROMISE, seed=0)


def test_two_roles_that_share_a_part_are_refused() -> None:
    with pytest.raises(SplitError, match="part 7 is in both fit and test"):
        Split(fit=(good(7, 0),), quantiles=(), threshold=(), test=(good(7, 1),))


def test_written_as_json_lines(tmp_path: Path) -> None:
    items = [good(p) for p in range(100)] + [
        Item("b", "b", "defect", Path("/d/b.png"), "crack", mask=Path("/d/b_mask.png"))
    ]
    sha256 = {item.source: f"hash of {item.key}" for item in items}
    write_split(tmp_path, split_parts(items, SHARES, PROMISE, seed=0), sha256)
    lines = {r: (tmp_path / f"{r}.jsonl").read_text().splitlines() for r in ROLES}
    assert sum(len(told) for told in lines.values()) == 101
    defect = next(d for d in map(json.loads, lines["test"]) if d["label"] == 1)
    assert defect == {
        "filename": "/d/b.png", "label": 1, "label_name": "crack", "clsname": "d", "part": "b",
        "maskname": "/d/b_mask.png", "mask_cut": 127, "sha256": "hash of b",
    }  # fmt: skip
