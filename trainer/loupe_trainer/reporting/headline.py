"""What the reader wants first: the verdict in words, and every number with its interval."""

from __future__ import annotations

from loupe_models.threshold import Threshold
from loupe_trainer.bootstrap import exact_interval
from loupe_trainer.evaluate import Evaluation
from loupe_trainer.reporting.words import (
    NOTHING,
    Metrics,
    count_of,
    counted,
    interval_of,
    number_of,
    percent,
    percent_span,
    rows_of,
    section_of,
    share,
    span,
    table,
    text,
)

# fmt: off
RANKED = (
    ("image AUROC", "image_auroc",
     "The chance that a defective frame scores above a good one; 0.5 is guessing, 1 is perfect."),
    ("average precision", "average_precision",
     "The share of defects among the frames above a cut, averaged over all cuts; it depends on "
     "how many defects the test holds."),
    ("F1-max", "f1_max",
     "The best balance of caught and rightly called defects that any cut reaches. The test's own "
     "labels choose that cut: it describes the ranking, not the shipped threshold."),
)
LOCATED = (
    ("pixel AUROC", "pixel_auroc",
     "The chance that a pixel on a defect scores above a pixel that is not."),
    ("AU-PRO to 30&nbsp;%", "au_pro_30",
     "How much of each defect region the map covers, small regions counting as much as large, "
     "while at most 30 % of the normal pixels are marked."),
    ("AU-PRO to 5&nbsp;%", "au_pro_05",
     "The same while at most 5 % of the normal pixels are marked: the stricter test."),
)
# fmt: on


def summary(metrics: Metrics, threshold: Threshold) -> str:
    """Say in words what escaped, what was rejected falsely, and whether the promise was kept."""
    parts = section_of(metrics, "parts")
    sentences = [_escapes(parts), _false_rejects(parts), _promise(parts, threshold)]
    auroc = number_of(metrics, "image_auroc")
    if auroc is not None:
        found = interval_of(metrics, "image_auroc_interval")
        interval = "too few parts for an interval" if found is None else f"95 %: {span(found)}"
        sentences.append(
            f"Whatever the threshold, a defective frame scores above a good one with a chance of "
            f"<strong>{share(auroc)}</strong> (image AUROC; {interval})."
        )
    n_unknown = count_of(parts, "n_unknown")
    if n_unknown:
        sentences.append(
            f"{counted(n_unknown, 'part')} could not be judged and "
            f"{'was' if n_unknown == 1 else 'were'} called unknown: counted as rejected where "
            f"good, as caught where defective."
        )
    sentences.append(
        "No part of the test was learnt from: it was held against the record of the training run."
        if metrics.get("is_checked_against_learnt")
        else "<strong>Not checked:</strong> the record of the training run was not at hand, so "
        "nobody can say from this page that no part of the test was learnt from."
    )
    return '<div class="summary">' + "".join(f"<p>{s}</p>" for s in sentences) + "</div>"


def headline(metrics: Metrics, evaluation: Evaluation) -> str:
    """Lay out all numbers; rates count parts, areas count frames or pixels."""
    parts = section_of(metrics, "parts")
    rows = [
        _rate_row("escape rate", parts, "escape_rate", "n_escapes", "n_defect",
                  "Defective parts that were called good."),
        _rate_row("false-reject rate", parts, "false_reject_rate", "n_false_rejects", "n_good",
                  "Good parts that were called defect or unknown."),
        *_frame_rates(metrics, evaluation),
        *([name, share(number_of(metrics, key)), span(interval_of(metrics, f"{key}_interval")),
           f"<small>{why}</small>"] for name, key, why in RANKED + LOCATED),
    ]  # fmt: skip
    baseline = number_of(metrics, "gaussian_baseline_image_auroc")
    if baseline is not None:
        why = (
            "The plainest detector there is, a mean and a spread for every pixel, on the same "
            "frames: where it does well, the test is easy."
        )
        rows.append(["image AUROC of a per-pixel Gaussian", share(baseline), NOTHING,
                     f"<small>{why}</small>"])  # fmt: skip
    return table(("", "measured", "95 % interval", "what it says"), rows, "numbers") + _why(metrics)


def by_defect(metrics: Metrics) -> str:
    """Hold each kind of defect against all good frames."""
    rows = rows_of(metrics, "defects")
    if not rows:
        return "<p>The test holds no defect, so nothing can be said of any kind.</p>"
    heads = (
        "kind", "parts", "escaped", "escape rate", "image AUROC", "AU-PRO to 30&nbsp;%",
        "AU-PRO to 5&nbsp;%",
    )  # fmt: skip
    return table(heads, [_defect_row(row) for row in rows], "defects") + (
        '<p class="note">Each kind is held against all good frames. In small print the 95 % '
        "interval: exact for the escape rate, bootstrap for the areas. A kind without truth masks "
        "has no AU-PRO.</p>"
    )


def _escapes(parts: Metrics) -> str:
    n, n_defect = count_of(parts, "n_escapes"), count_of(parts, "n_defect")
    if not n_defect:
        return "<strong>No defective part was tested</strong>, so nothing is known of escapes."
    return (
        f"<strong>{n} of {counted(n_defect, 'defective part')} escaped</strong> "
        f"({percent(number_of(parts, 'escape_rate'))}). With 95 % confidence the true rate lies "
        f"between {_between(n, n_defect)}, as far as the tested defects are like those to come."
    )


def _false_rejects(parts: Metrics) -> str:
    n, n_good = count_of(parts, "n_false_rejects"), count_of(parts, "n_good")
    if not n_good:
        return "<strong>No good part was tested</strong>, so nothing is known of false rejects."
    were = "was" if n == 1 else "were"
    return (
        f"<strong>{n} of {counted(n_good, 'good part')} {were} rejected falsely</strong> "
        f"({percent(number_of(parts, 'false_reject_rate'))}). With 95 % confidence the true rate "
        f"lies between {_between(n, n_good)}."
    )


def _promise(parts: Metrics, threshold: Threshold) -> str:
    promised = (
        f"The threshold was chosen so that at most {100 * threshold.false_reject_rate:.3g} % of "
        f"good parts are rejected, with {threshold.confidence:.0%} confidence, from "
        f"{threshold.n_parts} good parts kept apart for that."
    )
    if threshold.rank == threshold.n_parts:
        promised += (
            " It is the highest of their scores, so that one odd part among them sets it for all; "
            "more parts would not need the highest."
        )
    rate = number_of(parts, "false_reject_rate")
    exact = interval_of(parts, "false_reject_rate_exact")
    if rate is None or exact is None:
        return promised
    if rate <= threshold.false_reject_rate:
        return f"{promised} This test agrees with it."
    if exact[0] <= threshold.false_reject_rate:
        return f"{promised} This test lies above it, by no more than chance explains."
    return (
        f"{promised} <strong>This test breaks that promise</strong>, beyond what chance explains."
    )


def _between(n_hits: int, n: int) -> str:
    found = exact_interval(n_hits, n)
    return NOTHING if found is None else percent_span(found).replace(" to ", " and ")


def _rate_row(name: str, rates: Metrics, key: str, n_key: str, of_key: str, why: str) -> list[str]:
    n, of = count_of(rates, n_key), count_of(rates, of_key)
    if not of:
        return [name, NOTHING, NOTHING, f"<small>{why}</small>"]
    intervals = f"{percent_span(interval_of(rates, f'{key}_interval'))}"
    exact = interval_of(rates, f"{key}_exact")
    if exact is not None:
        intervals += f"<br><small>exact: {percent_span(exact)}</small>"
    measured = f"{percent(number_of(rates, key))}<br><small>{n} of {of}</small>"
    return [name, measured, intervals, f"<small>{why}</small>"]


def _frame_rates(metrics: Metrics, evaluation: Evaluation) -> list[list[str]]:
    """Give the rates of frames too, where a part has several."""
    if len(evaluation.frames) == len(evaluation.parts):
        return []
    return [
        _rate_row("escape rate of frames", metrics, "escape_rate", "n_escapes", "n_defect",
                  "Defective frames that were called good."),
        _rate_row("false-reject rate of frames", metrics, "false_reject_rate",
                  "n_false_rejects", "n_good", "Good frames that were called defect or unknown."),
    ]  # fmt: skip


def _why(metrics: Metrics) -> str:
    """Say why a number stands without its interval, or is missing."""
    keys = [key for _, key, _ in RANKED + LOCATED]
    lone = [k for k in keys if metrics.get(k) is not None and metrics.get(f"{k}_interval") is None]
    absent = [key for _, key, _ in LOCATED if metrics.get(key) is None]
    words = []
    if lone:
        words.append(
            "A number without an interval rests on a single part of one kind: there is nothing to "
            "draw anew."
        )
    if absent:
        words.append("Where defects are was not measured: no tested defect has a truth mask.")
    return "".join(f'<p class="note">{word}</p>' for word in words)


def _defect_row(row: Metrics) -> list[str]:
    def area(key: str) -> str:
        value, found = number_of(row, key), interval_of(row, f"{key}_interval")
        return share(value) + ("" if found is None else f"<br><small>{span(found)}</small>")

    exact = percent_span(interval_of(row, "part_escape_rate_exact"))
    return [
        text(row.get("defect") or "unnamed"),
        str(count_of(row, "n_parts")),
        str(count_of(row, "n_escaped_parts")),
        f"{percent(number_of(row, 'part_escape_rate'))}<br><small>{exact}</small>",
        area("image_auroc"),
        area("au_pro_30"),
        area("au_pro_05"),
    ]
