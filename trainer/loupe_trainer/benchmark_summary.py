"""What came of training on every category, beside what is published, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.table import Table

from loupe_trainer.published_results import Figures, Published

NOTHING = Figures(None, None)


@dataclass(frozen=True, slots=True)
class Row:
    """One category.

    Attributes:
        measured: Here, over the published test set.
        false_reject_rate: What its bundle promises; None where there is no bundle.
        n_unknown: Test pictures without an answer, which the areas leave out.
        error: Why there is no result, else empty.
        exit_status: Of the error, else 0.
    """

    category: str
    measured: Figures = NOTHING
    published: Figures = NOTHING
    false_reject_rate: float | None = None
    n_good: int = 0
    n_defect: int = 0
    n_unknown: int = 0
    error: str = ""
    exit_status: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """All categories in one mode.

    Attributes:
        published: None for a data set of one's own.
        absent: Categories of the published data set that the folder lacks.
    """

    recipe: str
    method: str
    mode: str
    rows: Sequence[Row]
    published: Published | None
    absent: Sequence[str]

    @property
    def done(self) -> Sequence[Row]:
        """The categories that were measured."""
        return [row for row in self.rows if row.measured.image_auroc is not None]

    @property
    def means(self) -> tuple[Figures, Figures]:
        """Measured and published, over the categories that were measured: the same in both."""
        return _mean([r.measured for r in self.done]), _mean([r.published for r in self.done])

    @property
    def published_mean(self) -> Figures:
        """The data set's mean as its source gives it, once each of its categories is measured."""
        whole = self.published is not None and {r.category for r in self.done} == set(
            self.published.names
        )
        return self.published.mean if self.published is not None and whole else NOTHING


def summary_document(summaries: Sequence[Summary]) -> dict[str, object]:
    """Give what `summary.json` holds: of several modes, `modes` has the same for each by itself."""
    each = {summary.mode: _of_mode(summary) for summary in summaries}
    return {"modes": each} if len(summaries) > 1 else _of_mode(summaries[0])


def exit_status(summaries: Sequence[Summary]) -> int:
    """0 where every category has a result, 1 after any fault, else 2."""
    told = {row.exit_status for summary in summaries for row in summary.rows}
    return 1 if 1 in told else max(told, default=0)


def _of_mode(summary: Summary) -> dict[str, object]:
    """Lay out one mode; areas are in 0..1, null where there is none."""
    measured, published = summary.means
    table = summary.published
    return {
        "recipe": summary.recipe,
        "method": summary.method,
        "mode": summary.mode,
        "dataset": table.dataset if table else None,
        "published_source": table.source if table else None,
        "categories": [asdict(row) for row in summary.rows],
        "mean": {"measured": asdict(measured), "published": asdict(published)},
        "published_dataset_mean": asdict(summary.published_mean),
        "absent": list(summary.absent),
        "n_failed": sum(row.exit_status != 0 for row in summary.rows),
    }


def summary_table(summary: Summary) -> Table:
    """Draw the table: areas in percent, as papers print them."""
    name = summary.published.dataset if summary.published else summary.recipe
    table = Table(title=f"{name}, mode {summary.mode}")
    table.add_column("category", no_wrap=True)
    for name in ("image AUROC", "published", "AU-PRO 30 %", "published", "promised rejects"):
        table.add_column(name, justify="right")
    for row in summary.rows:
        promise = "failed" if row.error else _percent(row.false_reject_rate)
        table.add_row(row.category, *_cells(row.measured, row.published), promise)
    table.add_section()
    name = f"mean of {len(summary.done)}"
    table.add_row(name, *_cells(*summary.means), "", style="bold")
    if summary.published_mean != NOTHING:
        table.add_row("data set's, as published", *_cells(NOTHING, summary.published_mean), "")
    return table


def _cells(measured: Figures, published: Figures) -> tuple[str, str, str, str]:
    return (
        _percent(measured.image_auroc), _percent(published.image_auroc),
        _percent(measured.au_pro), _percent(published.au_pro),
    )  # fmt: skip


def _mean(figures: Sequence[Figures]) -> Figures:
    """None where any is missing: the mean of the rest would be of other categories."""
    return Figures(
        _mean_of([f.image_auroc for f in figures]), _mean_of([f.au_pro for f in figures])
    )


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
