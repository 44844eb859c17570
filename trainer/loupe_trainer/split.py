"""Who learns from what: parts, never frames, are dealt into fit, quantiles, threshold and test.

A recipe may keep a share of the test back, `final`: what is read after every trial is learnt from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loupe_models.atomic import write_text
from loupe_models.threshold import parts_needed
from loupe_trainer.data.item import Item
from loupe_trainer.errors import SplitError
from loupe_trainer.recipe import Role, SplitSettings, ThresholdSettings

LEARNING: tuple[Role, ...] = ("fit", "quantiles", "threshold")
DEALT: tuple[Role, ...] = (*LEARNING, "test")
ROLES: tuple[Role, ...] = (*DEALT, "final")
KEPT_OF_DEFECTIVE, KEPT_OF_GOOD = 1 / 2, 2 / 3
LEAST_PARTS = 2  # for fit and for quantiles: one part says nothing of how parts differ


@dataclass(frozen=True, slots=True)
class Split:
    """The items of each role; no part appears in two roles.

    Raises:
        SplitError: Two roles share a part.
    """

    fit: tuple[Item, ...]
    quantiles: tuple[Item, ...]
    threshold: tuple[Item, ...]
    test: tuple[Item, ...]
    final: tuple[Item, ...] = ()

    def __post_init__(self) -> None:
        role_of: dict[str, Role] = {}
        for role in ROLES:
            for item in self.role(role):
                if role_of.setdefault(item.part_id, role) != role:
                    raise SplitError(
                        f"part {item.part_id} is in both {role_of[item.part_id]} and {role}: "
                        f"what is measured on parts that were learnt from means nothing"
                    )

    def role(self, role: Role) -> tuple[Item, ...]:
        """Give the items of one role."""
        roles = {
            "fit": self.fit,
            "quantiles": self.quantiles,
            "threshold": self.threshold,
            "test": self.test,
            "final": self.final,
        }
        return roles[role]

    @property
    def learning(self) -> tuple[Item, ...]:
        """Everything that is not for the test; good parts all."""
        return self.fit + self.quantiles + self.threshold


def split_parts(
    items: Sequence[Item], shares: SplitSettings, promise: ThresholdSettings, seed: int
) -> Split:
    """Deal the parts.

    Good parts are put in an order that depends on their id and the seed alone, and dealt by the
    shares; a seed of the shares' own wins over the one given. A part with any defective item goes
    to the test whole, its good frames too; so does a part that the data's own layout holds for
    the test. Parts that it holds for validation serve quantiles and threshold, all others fit;
    where they cannot carry the highest rate that may be promised, as many of the others as are
    missing join them.

    Raises:
        SplitError: Too few good parts for the shares, or for the promise.
    """
    for_test = {item.part_id for item in items if item.kind == "defect" or item.is_test_only}
    deal = seed if shares.seed is None else shares.seed
    good = sorted({item.part_id for item in items} - for_test, key=lambda p: _rank(p, deal))
    has_good_test = any(item.is_test_only and item.kind == "good" for item in items)
    held = {item.part_id for item in items if item.is_validation} - for_test
    good.sort(key=lambda part: part in held)  # dealt last, when quantiles and threshold are
    counts = (
        _counts_beside(len(held), len(good), shares, promise)
        if held
        else _counts(len(good), shares, has_good_test)
    )
    _check(len(good), counts, shares, promise)
    role_of: dict[str, Role] = dict.fromkeys(for_test, "test")
    at = 0
    for role in DEALT:
        role_of |= dict.fromkeys(good[at : at + counts[role]], role)
        at += counts[role]
    if shares.keep_final:
        defective = {item.part_id for item in items if item.kind == "defect"}
        tested = [part for part, role in role_of.items() if role == "test"]
        kept = (part for part in tested if _is_kept(part, is_defective=part in defective))
        role_of |= dict.fromkeys(kept, "final")
    dealt: dict[Role, list[Item]] = {role: [] for role in ROLES}
    for item in items:
        dealt[role_of[item.part_id]].append(item)
    return Split(*(tuple(dealt[role]) for role in ROLES))


def write_split(folder: Path, split: Split, sha256: Mapping[Path, str]) -> None:
    """Write one JSON Lines file a role, in the format that `loupe-edge record --from` reads.

    Args:
        folder: Made where it is missing.
        split: What to write.
        sha256: Of each item's file: a line keeps it, so that no copy is tested on later.
    """
    for role in ROLES:
        described = (split_line(i) | {"sha256": sha256[i.source]} for i in split.role(role))
        lines = (json.dumps(line) + "\n" for line in described)
        write_text(folder / f"{role}.jsonl", "".join(lines))


def _rank(part_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{part_id}".encode()).digest()


def _is_kept(part_id: str, *, is_defective: bool) -> bool:
    digest = hashlib.sha256(f"final:{part_id}".encode()).digest()
    share = KEPT_OF_DEFECTIVE if is_defective else KEPT_OF_GOOD
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _counts(n: int, shares: SplitSettings, has_good_test: bool) -> Mapping[Role, int]:
    """Divide n parts by largest remainder, so that the counts add up and nobody is lost."""
    asked: dict[Role, float] = {role: float(getattr(shares, role)) for role in DEALT}
    if has_good_test:
        asked["test"] = 0.0
    total = sum(asked.values())
    exact = {role: n * share / total for role, share in asked.items()}
    counts = {role: math.floor(value) for role, value in exact.items()}
    left = n - sum(counts.values())
    for role in sorted(DEALT, key=lambda r: counts[r] - exact[r])[:left]:
        counts[role] += 1
    return counts


def _counts_beside(
    n_held: int, n: int, shares: SplitSettings, promise: ThresholdSettings
) -> Mapping[Role, int]:
    """Count for data with a validation set; it has a test set too, which takes no share."""
    for_both = shares.quantiles + shares.threshold
    needed = parts_needed(promise.limit, promise.confidence)
    enough = math.ceil(round(needed * for_both / shares.threshold, 6))
    n_calibrating = min(n, max(n_held, enough))
    n_threshold = round(n_calibrating * shares.threshold / for_both)
    return {
        "fit": n - n_calibrating,
        "quantiles": n_calibrating - n_threshold,
        "threshold": n_threshold,
        "test": 0,
    }


def _check(
    n: int, counts: Mapping[Role, int], shares: SplitSettings, promise: ThresholdSettings
) -> None:
    if n == 0:
        raise SplitError("no good part to learn from: give pictures of good parts")
    needed = parts_needed(promise.limit, promise.confidence)
    if counts["threshold"] < needed:
        total = sum(float(getattr(shares, role)) for role in DEALT)
        in_all = math.ceil(needed * total / shares.threshold)
        raise SplitError(
            f"{n} good part{'s' * (n > 1)}, {counts['threshold']} of them for the threshold, "
            f"cannot carry a false-reject rate of {promise.limit:.3g} at "
            f"{promise.confidence:.0%} confidence, which takes {needed}: collect about {in_all} "
            f"good parts in all, raise split.threshold (shares count beside each other), promise a "
            f"higher threshold.false_reject_rate, or say in threshold.at_worst how high it may be "
            f"where parts are few"
        )
    few: list[Role] = [r for r in ("fit", "quantiles") if counts[r] < LEAST_PARTS]
    if few:
        raise SplitError(
            f"{n} good parts leave fewer than {LEAST_PARTS} for {' and '.join(few)}: "
            f"collect more good parts, or raise split.{few[0]}"
        )


def split_line(item: Item) -> dict[str, object]:
    """Describe an item as one line of an index; frames of a recording carry number and time."""
    line: dict[str, object] = {
        "filename": str(item.source.resolve()),
        "label": int(item.kind == "defect"),
        "label_name": item.defect or item.kind,
        "clsname": item.source.parent.name,
        "part": item.part_id,
    }
    if item.mask is not None:
        line["maskname"] = str(item.mask.resolve())
        line["mask_cut"] = item.mask_cut
    if item.stamp is not None:
        line |= {"frame": item.stamp.frame_id, "camera_ns": item.stamp.camera_ns}
    return line
