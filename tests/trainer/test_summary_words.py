"""What the terminal says of an evaluation: honest intervals, and when a bundle is no good."""

from io import StringIO

import pytest
from rich.console import Console

from loupe_trainer.metrics_table import metrics_table
from loupe_trainer.summary import what_is_worse


def metrics(
    auroc: float | None, baseline: float | None, interval: list[float] | None = None
) -> dict[str, object]:
    return {
        "mode": "rgb", "image_auroc": auroc, "image_auroc_interval": interval,
        "gaussian_baseline_image_auroc": baseline,
        "parts": {
            "false_reject_rate": 0.0, "false_reject_rate_interval": [0.0, 0.0],
            "false_reject_rate_exact": [0.0, 0.247], "auroc": 0.9, "auroc_interval": [0.8, 1.0],
        },
    }  # fmt: skip


def test_a_rate_is_shown_with_its_exact_interval() -> None:
    """None of 13 rejected does not mean that none ever will be."""
    console = Console(file=StringIO(), width=80)
    console.print(metrics_table(metrics(0.9, 0.6)))
    assert isinstance(console.file, StringIO)
    row = next(r for r in console.file.getvalue().splitlines() if "false reject" in r)
    assert "0.000–0.247" in row
    assert "0.000–0.000" not in row


@pytest.mark.parametrize(
    ("auroc", "interval", "baseline"),
    [
        (0.9, [0.8, 1.0], 0.6),
        (0.6, [0.4, 0.8], 0.6),
        (None, None, 0.6),
        (0.6, [0.4, 0.8], None),
    ],
)
def test_nothing_is_told_where_nothing_is_worse_than_a_mean_picture(
    auroc: float | None, interval: list[float] | None, baseline: float | None
) -> None:
    assert what_is_worse(metrics(auroc, baseline, interval)) == []


@pytest.mark.parametrize(
    ("interval", "doubt"),
    [
        ([0.41, 0.69], ""),
        ([0.4, 0.95], ", as far as so few parts can tell"),
        (None, ", as far as so few parts can tell"),  # one part alone
    ],
)
def test_a_bundle_worse_than_a_mean_picture_is_told(
    interval: list[float] | None, doubt: str
) -> None:
    (told,) = what_is_worse(metrics(0.552, 0.944, interval))
    assert "(AUROC 0.552)" in told
    assert f"(0.944){doubt}: do not ship it; train longer, and" in told
