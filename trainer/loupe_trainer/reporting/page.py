"""The page itself: what comes first, what follows, and the words that explain it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from loupe_models.atomic import write_text
from loupe_models.bundle import Bundle
from loupe_trainer.bootstrap import LEVEL, N_RESAMPLES, SEED
from loupe_trainer.evaluate import Evaluation, Exam
from loupe_trainer.outcomes import Outcome
from loupe_trainer.reporting.figures import curves, histogram
from loupe_trainer.reporting.headline import by_defect, headline, summary
from loupe_trainer.reporting.over_seeds import over_seeds
from loupe_trainer.reporting.pictures import scale_bar
from loupe_trainer.reporting.provenance import latency, provenance
from loupe_trainer.reporting.side_by_side import side_by_side
from loupe_trainer.reporting.style import STYLE
from loupe_trainer.reporting.words import Metrics, counted
from loupe_trainer.reporting.worst import worst_tables

METHOD = f"""<dl>
<dt>part and frame</dt><dd>A part is the physical object, a frame one picture of it. Rates count
parts, a part by its worst answer; the ranking numbers count frames.</dd>
<dt>escape and false reject</dt><dd>A defective part that was called good; a good part that was
not. Unknown, the answer where nothing could be measured, stops a part: it is a false reject of a
good one and no escape of a defective one. It has no score and is left out of the ranking.</dd>
<dt>95 % interval</dt><dd>Percentile bootstrap: the tested parts are drawn anew {N_RESAMPLES:,}
times, good and defective ones apart, a part with all its frames, and the middle {LEVEL:.0%} of the
results is shown (random seed {SEED}). An interval without width means that this test was too
small to show an error, not that there is none; the exact interval of a rate (Clopper and
Pearson) says how large it may be all the same. Neither covers defects of kinds that were not
tested.</dd>
<dt>AUROC, AU-PRO</dt><dd>Computed exactly from every score, equal scores joined by a straight
line; never turned around where below a half. For AU-PRO regions are connected over edges and
corners. The intervals and the drawn overlap curve come from 1,500 bins of scores.</dd>
<dt>nothing is tuned here</dt><dd>Network, scale and threshold are the bundle's. The test's labels
choose nothing but F1-max's own cut.</dd>
</dl>"""


def write_report(
    path: Path, bundle: Bundle, by_mode: Mapping[str, Metrics], sections: Mapping[str, str],
    exam: Exam,
) -> None:  # fmt: skip
    """Write the page, pictures and all in one file; it needs no script and no network.

    Args:
        path: HTML.
        bundle: What was evaluated.
        by_mode: The metrics of each mode.
        sections: From `mode_section`; several follow a table that puts them side by side.
        exam: What was asked.
    """
    title = f"{escape(bundle.manifest.id)}: how well it inspects"
    absent = [mode for mode in bundle.manifest.modes if mode not in by_mode]
    body = [
        f"<h1>{title}</h1>",
        side_by_side(by_mode) if len(by_mode) > 1 else "",
        *sections.values(),
        "<h2>Where it comes from</h2>",
        _left_out(absent),
        provenance(bundle, list(by_mode), exam),
        "<h2>How to read the numbers</h2>",
        METHOD,
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width">'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    write_text(path, page)


def mode_section(
    bundle: Bundle, evaluation: Evaluation, metrics: Metrics, exam: Exam, *, is_alone: bool
) -> str:
    """Lay out all that is known of one mode.

    Args:
        bundle: What was evaluated.
        evaluation: What came of it in this mode.
        metrics: From `summarise`.
        exam: Where the pictures of the worst mistakes are read from.
        is_alone: No other mode is on the page, so that it needs no heading.
    """
    (missed, misses), (rejected, rejects) = worst_tables(evaluation, exam)
    level = "h2" if is_alone else "h3"

    def heading(words: str) -> str:
        return f"<{level}>{words}</{level}>"

    return "".join([
        "" if is_alone else f'<h2 id="mode-{evaluation.mode}">Mode {evaluation.mode}</h2>',
        f'<p class="what">{_inspected(bundle, evaluation)}</p>',
        summary(metrics, bundle.mode(evaluation.mode).threshold),
        heading("The numbers"),
        headline(metrics, evaluation),
        heading("By kind of defect"),
        by_defect(metrics),
        over_seeds(metrics, level),
        heading("Scores and the threshold"),
        histogram(evaluation),
        heading("Curves"),
        curves(evaluation),
        heading(missed),
        "<p>Defective parts, lowest score first. The yellow line is the truth.</p>"
        f'<p class="scale">{scale_bar()} Colours of the map: its lowest value on the left, the '
        f"threshold in the middle. A white line surrounds what lies above the threshold.</p>",
        misses,
        heading(rejected),
        "<p>Good parts, unknown ones first, then the highest score.</p>",
        rejects,
        heading("Time taken"),
        latency(evaluation),
    ])  # fmt: skip


def _left_out(absent: Sequence[str]) -> str:
    if not absent:
        return ""
    return (
        f"<p>The bundle also serves {escape(', '.join(absent))}, which this page does not "
        f"judge: {'it was' if len(absent) == 1 else 'they were'} not asked for, or the data lacks "
        f"a stream that {'it needs' if len(absent) == 1 else 'they need'}.</p>"
    )


def _inspected(bundle: Bundle, evaluation: Evaluation) -> str:
    """Say what was asked of what."""
    good = [p for p in evaluation.parts if p.kind == "good"]
    bad = [p for p in evaluation.parts if p.kind == "defect"]
    kinds = sorted({p.defect or "unnamed" for p in bad})
    of_kinds = f" ({', '.join(escape(kind) for kind in kinds)})" if kinds else ""
    return (
        f"Evaluation of the bundle <b>{escape(bundle.manifest.id)}</b>, method "
        f"{escape(bundle.manifest.method)}, mode {escape(evaluation.mode)}, on "
        f"{_amount(evaluation.parts, evaluation)}: {counted(len(good), 'good part')} and "
        f"{counted(len(bad), 'defective part')}{of_kinds}."
    )


def _amount(parts: tuple[Outcome, ...], evaluation: Evaluation) -> str:
    n_frames = counted(len(evaluation.frames), "inspected frame")
    return f"{counted(len(parts), 'part')} in {n_frames}"
