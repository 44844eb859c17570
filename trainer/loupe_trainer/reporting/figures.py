"""The drawn part: ROC, region overlap, and the scores against the threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loupe_trainer.evaluate import Evaluation, Shown
from loupe_trainer.metrics import region_sizes
from loupe_trainer.outcomes import Outcome, has_both_kinds, ranking, scored
from loupe_trainer.reporting.plot import Plot
from loupe_trainer.reporting.style import DEFECT, GOOD
from loupe_trainer.summary import histograms, known_maps

N_BINS = 48
FIFTHS = [(v / 5, f"{20 * v} %") for v in range(6)]
PRO_RANGE = 0.30
OPERATING = "at the shipped threshold"


def curves(evaluation: Evaluation) -> str:
    """Draw both curves with the operating point; say why where one cannot be drawn."""
    return f'<div class="figures">{_roc(evaluation)}{_pro(evaluation)}</div>'


def histogram(evaluation: Evaluation) -> str:
    """Draw the scores of good frames above the axis and of defective ones below it."""
    found = scored(evaluation.frames)
    if not found:
        return "<p>No frame was scored, so there is nothing to draw.</p>"
    edges, is_cut = _edges(found, evaluation.threshold)
    counts = {kind: _counts(found, kind, edges) for kind in ("good", "defect")}
    top, depth = (max(1, int(counts[kind].max())) for kind in ("good", "defect"))
    room = max(top, depth) / 8
    y_range = -max(depth, room) * 1.1, max(top, room) * 1.2  # the threshold's name stands on top
    plot = Plot(900, 330, (float(edges[0]), float(edges[-1])), y_range)
    x_ticks = [(v, f"{v:.4g}") for v in _ticks(*plot.x_range)]
    y_ticks = [(v, f"{abs(v):.0f}") for v in _ticks(*plot.y_range) if v == int(v)]
    plot.axes(x_ticks, y_ticks, "image score", "frames")
    for kind, sign, colour in (("good", 1, GOOD), ("defect", -1, DEFECT)):
        for i, count in enumerate(counts[kind]):
            if count:
                plot.bar(float(edges[i]), float(edges[i + 1]), sign * float(count), colour)
    is_left = evaluation.threshold > (edges[0] + edges[-1]) / 2
    plot.upright(evaluation.threshold, f"threshold {evaluation.threshold:.4g}", is_left)
    beyond = " The last bar on the right holds everything beyond it too." if is_cut else ""
    return (
        f"<figure>{plot.svg('Histogram of image scores')}<figcaption>{_swatch(GOOD)} good "
        f"frames, upwards, and {_swatch(DEFECT)} defective frames, downwards, by their image "
        f"score. What lies to the right of the threshold is called defect.{beyond}"
        f"</figcaption></figure>"
    )


def _roc(evaluation: Evaluation) -> str:
    found = scored(evaluation.frames)
    if not has_both_kinds(found):
        return _no_figure("ROC curve", "it needs good frames and defective frames with a score")
    good, defects = (c[0] for c in ranking(found).curve(np.ones((1, len(found)))))
    plot = Plot(440, 340, (0, 1), (0, 1))
    plot.axes(FIFTHS, FIFTHS, "good frames called defect", "defective frames called defect")
    plot.line(good / good[-1], defects / defects[-1], GOOD)
    above = [o for o in found if (o.score or 0.0) > evaluation.threshold]
    n_good = sum(o.kind == "good" for o in above)
    plot.dot(n_good / good[-1], (len(above) - n_good) / defects[-1], OPERATING)
    return (
        f"<figure>{plot.svg('ROC curve')}<figcaption>ROC: every threshold's trade of false "
        f"rejects for caught defects, over scored frames. The area under it is the image AUROC."
        f"</figcaption></figure>"
    )


def _pro(evaluation: Evaluation) -> str:
    told = known_maps(evaluation)
    cut = histograms(told)
    if not cut.n_regions.sum() or not cut.normal.sum():
        return _no_figure("region-overlap curve", "no defect of the test has a truth mask")
    false, overlap = (c[0] for c in cut.pro_curve(np.ones((1, len(told)))))
    inside = false <= PRO_RANGE
    xs = np.append(false[inside], PRO_RANGE)
    ys = np.append(overlap[inside], np.interp(PRO_RANGE, false, overlap))
    plot = Plot(440, 340, (0, PRO_RANGE), (0, 1))
    x_ticks = [(v / 20, f"{5 * v} %") for v in range(7)]
    plot.axes(x_ticks, FIFTHS, "normal pixels above the cut", "share of each defect region found")
    plot.line(xs, ys, DEFECT)
    x, y = _operating_point(told, evaluation.threshold)
    where = ""
    if x <= PRO_RANGE:
        plot.dot(x, y, OPERATING)
    else:
        where = f" The shipped threshold lies beyond the right edge, at {100 * x:.0f} %."
    return (
        f"<figure>{plot.svg('Region-overlap curve')}<figcaption>Region overlap (PRO): for every "
        f"cut of the anomaly map, the mean share of a defect region that lies above it. The areas "
        f"under it up to 30 % and 5 % are AU-PRO.{where}</figcaption></figure>"
    )


def _operating_point(told: Sequence[Shown], threshold: float) -> tuple[float, float]:
    """Give the false-positive rate and the mean overlap where the map is cut at the threshold."""
    n_false = n_normal = n_regions = 0
    overlap = 0.0
    for shown in told:
        if shown.mask is not None:
            above = shown.anomaly_map > threshold
            sizes, count = region_sizes(shown.mask)
            n_false += int(np.count_nonzero(above & ~shown.mask))
            n_normal += int(np.count_nonzero(~shown.mask))
            overlap += float(np.sum(above[shown.mask] / sizes))
            n_regions += count
    return n_false / n_normal, overlap / n_regions


def _edges(found: Sequence[Outcome], threshold: float) -> tuple[npt.NDArray[np.float64], bool]:
    """Choose bins with the threshold on an edge; far outliers must not squeeze the rest."""
    values = np.array([o.score for o in found], dtype=np.float64)
    low = min(float(values.min()), threshold - 1e-6)
    wanted = min(max(float(values.max()), threshold), low + 3.5 * (threshold - low))
    n_below = max(1, min(N_BINS - 1, round(N_BINS * (threshold - low) / max(wanted - low, 1e-9))))
    width = (threshold - low) / n_below
    edges = np.asarray(low + width * np.arange(N_BINS + 1), dtype=np.float64)
    return edges, bool(values.max() > edges[-1])


def _ticks(low: float, high: float) -> list[float]:
    """Give four to ten round values in a range, zero among them where it is inside."""
    rough = (high - low) / 5
    unit = 10.0 ** np.floor(np.log10(rough))
    step = float(unit * next(f for f in (1, 2, 5, 10) if f * unit >= rough * 0.99))
    first, last = int(np.ceil(low / step)), int(np.floor(high / step))
    return [step * i for i in range(first, last + 1)]


def _counts(
    found: Sequence[Outcome], kind: str, edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    values = np.array([o.score for o in found if o.kind == kind], dtype=np.float64)
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].astype(np.int64)


def _swatch(colour: str) -> str:
    return f'<span style="color:{colour}">&#9632;</span>'


def _no_figure(name: str, why: str) -> str:
    return f"<figure><figcaption>No {name}: {why}.</figcaption></figure>"
