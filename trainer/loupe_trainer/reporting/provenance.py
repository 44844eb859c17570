"""How fast it was, and where everything comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import numpy as np

from loupe_edge.machine import describe_machine
from loupe_models.bundle import Bundle
from loupe_models.manifest import Backbone, ModeManifest
from loupe_models.threshold import Threshold
from loupe_trainer.evaluate import Evaluation, Exam
from loupe_trainer.reporting.words import table, text
from loupe_trainer.run import code_version

STAGES = ("gate", "preprocess", "infer", "decide")


def latency(evaluation: Evaluation) -> str:
    """Lay out p50 and p99 of each stage; the first frame also warms the engine, so it is left out.

    Times are this machine's, not the station's: `loupe-edge bench` takes those.
    """
    timed = evaluation.stage_us[1:] or evaluation.stage_us
    if not timed:
        return "<p>No frame was inspected, so nothing was timed.</p>"
    rows = [[stage, *_quantiles([us[stage] for us in timed if stage in us])] for stage in STAGES]
    rows.append(["all of these", *_quantiles([sum(us.values()) for us in timed])])
    machine = describe_machine()
    return table(("stage", "p50 in ms", "p99 in ms"), rows) + (
        f'<p class="note">Over {len(timed)} frames on the machine that made this page, '
        f"{text(machine['cpu'])}, {text(machine['cores'])} cores. Time on a device with "
        f"<code>loupe-edge bench</code>.</p>"
    )


def provenance(bundle: Bundle, modes: Sequence[str], exam: Exam) -> str:
    """Name data, recipe, seed, code, weights and each threshold's evidence."""
    origin = bundle.manifest.provenance
    rows = [
        ["bundle", f"{text(bundle.manifest.id)}<br>sha256 {bundle.sha256}"],
        ["made", f"{text(origin.created_at)} by loupe {text(origin.code_version)}"],
        [
            "method and mode" if len(modes) == 1 else "method and modes",
            f"{text(bundle.manifest.method)}, {text(', '.join(modes))}",
        ],
        ["training data", f"sha256 {origin.data_sha256}"],
        ["tested data", f"sha256 {exam.data_sha256}<br>{len(exam.items)} frames"],
        ["seed", str(origin.seed)],
        ["backbone", _backbone(origin.backbone)],
        *(
            ["threshold" if len(modes) == 1 else f"threshold of {text(mode)}", _evidence(t)]
            for mode in modes
            for t in [bundle.mode(mode).threshold]
        ),
        *(
            ["FP16 graph" if len(modes) == 1 else f"FP16 graph of {text(mode)}", _half(found)]
            for mode in modes
            for found in [bundle.mode(mode)]
        ),
        ["evaluated", f"{datetime.now(timezone.utc):%Y-%m-%d} by loupe {text(code_version())}"],
        ["recipe", f"<small><code>{text(_recipe(origin.config))}</code></small>"],
    ]
    return table(("", ""), rows, "facts")


def _evidence(threshold: Threshold) -> str:
    return (
        f"{threshold.value:.6g}: the {_ordinal(threshold.rank)} lowest score of "
        f"{threshold.n_parts} good parts, for at most {threshold.false_reject_rate:.3g} at "
        f"{threshold.confidence:.3g} confidence"
    )


def _half(mode: ModeManifest) -> str:
    variant = mode.variants.get("fp16")
    if variant is None:
        return text(f"none: {mode.refused.get('fp16', 'this bundle was made without one')}")
    told = variant.parity
    return (
        f"99 % of {told['n_inputs']:.0f} scores within {told['image_score']:.2g} of the good "
        f"parts' spread, with true rounding within {told['true_rounding']:.2g}; largest number "
        f"{told['largest_fp16']:,.0f} of 65,504; image AUROC {_loss(told)}"
    )


def _loss(told: Mapping[str, float]) -> str:
    if "auroc_loss" not in told:
        return "not compared: no defects, or no good parts, are held out"
    n_good, n_defects = told["n_ranked_good"], told["n_ranked_defects"]
    return f"lower by {told['auroc_loss']:.4f} over {n_good:.0f} good and {n_defects:.0f} defective"


def _quantiles(values_us: Sequence[int]) -> list[str]:
    if not values_us:
        return ["–", "–"]
    p50, p99 = np.quantile(np.asarray(values_us) / 1000, (0.5, 0.99))
    return [f"{p50:.2f}", f"{p99:.2f}"]


def _backbone(backbone: Backbone | None) -> str:
    if backbone is None:
        return "none: no pretrained weights were used"
    return f"{text(backbone.name)}, {text(backbone.licence)}<br>sha256 {backbone.sha256}"


def _recipe(config: Mapping[str, object]) -> str:
    return json.dumps(config, sort_keys=True)


def _ordinal(n: int) -> str:
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
