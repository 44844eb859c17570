"""What other seeds of the recipe made of the same parts."""

from __future__ import annotations

from loupe_trainer.reporting.headline import LOCATED, RANKED
from loupe_trainer.reporting.words import Metrics, number_of, section_of, share, table, text

NAMES = {key: name for name, key, _ in RANKED + LOCATED} | {
    "auroc": "AUROC",
    "escape_rate": "escape rate",
    "part_escape_rate": "escape rate of parts",
    "false_reject_rate": "false-reject rate",
}


def over_seeds(metrics: Metrics, level: str) -> str:
    """Lay out each seed's numbers with mean and spread; nothing where one seed was evaluated.

    Args:
        metrics: Of one mode.
        level: Of the heading, `h2` or `h3`.
    """
    told = section_of(metrics, "over_seeds")
    seeds = told.get("seeds")
    if not isinstance(seeds, list):
        return ""
    kinds = section_of(told, "defects")
    groups = [("all frames", section_of(told, "frames")), ("all parts", section_of(told, "parts"))]
    groups += [(name or "unnamed", section_of(kinds, name)) for name in kinds]
    rows = [row for group, measures in groups for row in _rows(group, measures)]
    heads = ("", "mean ± standard deviation", *(f"seed {text(seed)}" for seed in seeds))
    return (
        f"<{level}>Over {len(seeds)} seeds</{level}><p>The same recipe learnt from the same data "
        f"with other seeds, asked the same parts: how much of a number is the luck of learning. "
        f"Everything else on this page is of seed {text(seeds[0])}.</p>" + table(heads, rows)
    )


def _rows(group: str, measures: Metrics) -> list[list[str]]:
    rows = []
    for key in measures:
        found = section_of(measures, key)
        values = found.get("values")
        each = [f"{v:.3f}" for v in values] if isinstance(values, list) else []
        spread = f"{share(number_of(found, 'mean'))} ± {share(number_of(found, 'std'))}"
        rows.append([f"{NAMES[key]} <small>{text(group)}</small>", spread, *each])
    return rows
