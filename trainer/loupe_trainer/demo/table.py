"""The table that ends the demo."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from loupe_trainer.demo.failover import stretches
from loupe_trainer.demo.outcome import Outcome, Part


def print_tables(console: Console, outcome: Outcome, gaussian_auroc: float) -> None:
    """Print what was found, what was missed, how sure the ranking is, and how long it took."""
    console.print(_found(outcome))
    console.print(_ranking(outcome, gaussian_auroc))
    console.print(_stages(outcome))


def print_failover(console: Console, outcome: Outcome) -> None:
    """Print which mode looked when, and what each of them found."""
    console.print(_stretches(outcome))
    console.print(_found_by_mode(outcome))


def _stretches(outcome: Outcome) -> Table:
    table = Table(title=f"{len(outcome.verdicts)} verdicts, one after the other")
    table.add_column("mode", no_wrap=True)
    table.add_column("because")
    for name in ("verdicts", "defect", "good", "unknown"):
        table.add_column(name, justify="right")
    for stretch in stretches(outcome.verdicts):
        counts = [stretch.decisions.get(name, 0) for name in ("defect", "good", "unknown")]
        numbers = [str(n) for n in (sum(counts), *counts)]
        table.add_row(stretch.mode, stretch.why or "both streams are well", *numbers)
    return table


def _found_by_mode(outcome: Outcome) -> Table:
    """A part belongs to the mode that gave its highest score."""
    table = _of_parts("Parts, by the mode that judged them", "mode", "truth")
    for mode in sorted({part.verdict.mode for part in outcome.parts}, reverse=True):
        looked = [part for part in outcome.parts if part.verdict.mode == mode]
        for truth, parts in _by_truth(looked).items():
            table.add_row(mode, truth, *_counts(parts))
        table.add_section()
    return table


def _by_truth(parts: list[Part]) -> dict[str, list[Part]]:
    """Tell defects that depth alone shows from those that colour shows."""
    groups: dict[str, list[Part]] = {"shows in colour": [], "shows in depth only": [], "good": []}
    for part in parts:
        in_colour = "shows in colour" if "rgb" in part.label.visible_in else "shows in depth only"
        groups["good" if part.label.kind == "good" else in_colour].append(part)
    return groups


def _found(outcome: Outcome) -> Table:
    table = _of_parts("Parts", "truth", "visible in")
    for defect, parts in outcome.defects().items():
        table.add_row(
            defect.replace("_", " "), " + ".join(parts[0].label.visible_in), *_counts(parts)
        )
    defects = outcome.of_kind("defect")
    table.add_section()
    table.add_row("all defects", "", *_counts(defects), style="bold")
    table.add_row("good", "", *_counts(outcome.of_kind("good")), style="bold")
    return table


def _of_parts(title: str, *names: str) -> Table:
    """Make the head of a table whose rows end with `_counts`."""
    table = Table(title=title)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in ("parts", "called defect", "called good", "unknown"):
        table.add_column(name, justify="right")
    return table


def _counts(parts: list[Part]) -> list[str]:
    decisions = [part.decision for part in parts]
    return [
        str(len(parts)),
        str(decisions.count("defect")),
        str(decisions.count("good")),
        str(decisions.count("unknown")),
    ]


def _ranking(outcome: Outcome, gaussian_auroc: float) -> Table:
    table = Table(title="Image AUROC, good parts against defects visible in colour")
    table.add_column("detector")
    table.add_column("AUROC", justify="right")
    table.add_row("EfficientAD, as exported and replayed", f"{outcome.colour_auroc():.3f}")
    table.add_row("per-pixel Gaussian, same crops", f"{gaussian_auroc:.3f}")
    return table


def _stages(outcome: Outcome) -> Table:
    table = Table(title=f"Milliseconds a frame, over {len(outcome.verdicts)} verdicts")
    table.add_column("stage")
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    for stage, (p50, p99) in outcome.stage_times_ms().items():
        style = "bold" if stage == "all" else ""
        table.add_row(stage, f"{p50:.2f}", f"{p99:.2f}", style=style)
    return table
