"""One recipe learnt several times from different seeds: how much of a number is luck.

Same data, same test, other seeds. The spread over seeds says what the intervals cannot: they hold
one network and vary the parts that it is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from loupe_models.bundle import Bundle
from loupe_trainer.errors import RunError

LEAST_SEEDS: Final = 3
OF_FRAMES: Final = (
    "image_auroc", "average_precision", "f1_max", "pixel_auroc", "au_pro_30", "au_pro_05",
    "false_reject_rate", "escape_rate",
)  # fmt: skip
OF_PARTS: Final = ("auroc", "false_reject_rate", "escape_rate")
OF_DEFECTS: Final = ("image_auroc", "au_pro_30", "part_escape_rate")
FREE: Final = frozenset({"seed", "name"})  # what may differ between the runs' recipes

Metrics = Mapping[str, object]
Spread = dict[str, dict[str, object]]


def require_same_recipe(bundles: Sequence[Bundle]) -> None:
    """Make sure that bundles differ by their seed alone.

    Raises:
        RunError: Fewer than three, a seed twice, or another recipe, method or data.
    """
    first = bundles[0].manifest
    seeds = [bundle.manifest.provenance.seed for bundle in bundles]
    if len(seeds) < LEAST_SEEDS:
        raise RunError(
            f"{len(seeds)} bundles say little of how seeds differ: give {LEAST_SEEDS} at least, "
            f"with two --also or more"
        )
    if len(set(seeds)) < len(seeds):
        raise RunError(
            f"the seeds are {', '.join(map(str, seeds))}: train each run with a seed of its own"
        )
    for bundle in bundles[1:]:
        manifest = bundle.manifest
        if manifest.provenance.data_sha256 != first.provenance.data_sha256:
            raise RunError(f"{bundle.path}: learnt from other data; train it on the same")
        if _recipe(manifest.provenance.config) != _recipe(first.provenance.config):
            raise RunError(f"{bundle.path}: of another recipe; only the seed may differ")


def spread_over_seeds(each: Sequence[Metrics]) -> dict[str, object]:
    """Give mean and spread of each number over several seeds' metrics.

    Returns:
        `seeds`, and by name each seed's `values`, their `mean`, and `std`, the sample standard
        deviation; a number that some seed lacks is left out.
    """
    rows = [_by_defect(metrics) for metrics in each]
    return {
        "seeds": [metrics["seed"] for metrics in each],
        "frames": _spread(each, OF_FRAMES),
        "parts": _spread([_section(metrics, "parts") for metrics in each], OF_PARTS),
        "defects": {
            name: _spread([row.get(name, {}) for row in rows], OF_DEFECTS) for name in rows[0]
        },
    }


def _spread(each: Sequence[Metrics], names: Sequence[str]) -> Spread:
    told: Spread = {}
    for name in names:
        found = [metrics.get(name) for metrics in each]
        values = [float(v) for v in found if isinstance(v, (int, float))]
        if len(values) == len(each):
            told[name] = {
                "values": values,
                "mean": float(np.mean(values)),
                "std": float(np.std(values, ddof=1)),
            }
    return told


def _section(metrics: Metrics, name: str) -> Metrics:
    section = metrics.get(name)
    return section if isinstance(section, dict) else {}


def _by_defect(metrics: Metrics) -> dict[str, Metrics]:
    rows = metrics.get("defects")
    return {row["defect"]: row for row in rows} if isinstance(rows, list) else {}


def _recipe(config: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in config.items() if key not in FREE}
