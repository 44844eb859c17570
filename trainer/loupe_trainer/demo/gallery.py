"""The gallery page: what a person opens to judge the demo for themselves."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import cv2
import numpy as np

from loupe_models.atomic import write_text
from loupe_trainer.demo.outcome import Outcome, Part
from loupe_trainer.demo.pictures import Picture, Views

JPEG_QUALITY = 85
CAPTIONS = ("colour", "height above belt", "anomaly map", "truth")

PAGE = Template(files(__package__).joinpath("gallery.html").read_text(encoding="utf-8"))


def write_gallery(
    path: Path,
    outcome: Outcome,
    views: Mapping[str, Views],
    line: Picture,
    gaussian_auroc: float,
) -> None:
    """Write one self-contained page.

    Args:
        path: Of the page.
        outcome: Verdicts and truth.
        views: By part id; parts without views are left out.
        line: The whole station's view, for the top of the page.
        gaussian_auroc: Of the per-pixel baseline on the same parts.
    """
    wrong = [p for p in outcome.parts if not _is_right(p)]
    found = [p for p in outcome.parts if _is_right(p) and p.label.kind == "defect"]
    passed = [p for p in outcome.parts if _is_right(p) and p.label.kind == "good"]
    sections = [
        _section("Wrong, or not answered", wrong, views),
        _section("Defects found", found, views),
        _section("Good parts passed", passed, views),
    ]
    page = PAGE.substitute(
        n_parts=len(outcome.parts),
        lead=(
            f"{len(outcome.parts)} simulated parts passed the camera. Each verdict below is the "
            "one a subscriber received over ZeroMQ; pictures show the part's highest-scoring frame."
        ),
        line=_data_uri(line),
        numbers=_numbers(outcome, gaussian_auroc),
        sections="\n".join(s for s in sections if s),
    )
    write_text(path, page)


def _is_right(part: Part) -> bool:
    return part.decision == part.label.kind


def _numbers(outcome: Outcome, gaussian_auroc: float) -> str:
    defects = outcome.of_kind("defect")
    in_colour = [part for part in defects if "rgb" in part.label.visible_in]
    in_depth_only = [part for part in defects if "rgb" not in part.label.visible_in]
    cells = [
        (_called_defect(in_colour), "defects found that colour shows"),
        (
            _called_defect(in_depth_only),
            "defects found that only depth, unused here, shows",
        ),
        (_called_defect(outcome.of_kind("good")), "good parts rejected"),
        (str(sum(p.decision == "unknown" for p in outcome.parts)), "unknown"),
        (f"{outcome.colour_auroc():.3f}", "AUROC, defects visible in colour"),
        (f"{gaussian_auroc:.3f}", "AUROC of a per-pixel Gaussian"),
        (f"{outcome.stage_times_ms()['all'][0]:.0f} ms", "frame to verdict, p50, this machine"),
    ]
    return "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in cells)


def _called_defect(parts: list[Part]) -> str:
    return f"{sum(part.decision == 'defect' for part in parts)} / {len(parts)}"


def _section(title: str, parts: list[Part], views: Mapping[str, Views]) -> str:
    shown = [p for p in parts if p.part_id in views]
    if not shown:
        return ""
    ordered = sorted(shown, key=lambda p: -np.inf if p.score is None else p.score, reverse=True)
    cards = "\n".join(_card(part, views[part.part_id]) for part in ordered)
    count = f"{len(parts)}" if len(parts) == len(shown) else f"{len(shown)} of {len(parts)} shown"
    return f"<h2>{title} ({count})</h2>\n{cards}"


def _card(part: Part, views: Views) -> str:
    truth = part.label.defect or part.label.kind or "?"
    seen_in = f" (visible in {' + '.join(part.label.visible_in)})" if part.label.visible_in else ""
    score = "no score" if part.score is None else f"score {part.score:.3f}"
    pictures = (views.colour, views.height, views.anomaly, views.truth)
    figures = "".join(
        f'<figure><img src="{_data_uri(p)}" alt="{c}"><figcaption>{c}</figcaption></figure>'
        for p, c in zip(pictures, CAPTIONS, strict=True)
    )
    return (
        f'<div class="part {"right" if _is_right(part) else "wrong"}"><header>'
        f'<span class="chip {part.decision}">{part.decision}</span>'
        f"<span>truth: <b>{escape(truth)}</b>{escape(seen_in)}, part {escape(part.part_id)}</span>"
        f'<span class="score">{score}, threshold {part.verdict.threshold:.3f}</span></header>'
        f'<div class="views">{figures}</div></div>'
    )


def _data_uri(picture: Picture) -> str:
    done, jpeg = cv2.imencode(
        ".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise ValueError(f"cannot encode a picture of shape {picture.shape}")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")
