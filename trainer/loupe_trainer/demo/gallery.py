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

from loupe_models.atomic import write_bytes, write_text
from loupe_trainer.demo.acts import FirstAct, SecondAct
from loupe_trainer.demo.outcome import Outcome, Part
from loupe_trainer.demo.pictures import Picture, Views

JPEG_QUALITY = 85
CAPTIONS = ("colour", "height above belt", "anomaly map", "truth")

PAGE = Template(files(__package__).joinpath("gallery.html").read_text(encoding="utf-8"))


def write_page(out: Path, first: FirstAct, second: SecondAct) -> Path:
    """Write `line.png` and one self-contained page, `gallery.html`, to a folder; give the latter.

    Parts without views are left out.
    """
    done, png = cv2.imencode(".png", np.ascontiguousarray(first.line[..., ::-1]))
    if not done:
        raise ValueError("cannot encode the picture of the line")
    write_bytes(out / "line.png", png.tobytes())
    one, other = first.outcome, second.outcome
    page = PAGE.substitute(
        n_parts=len(one.parts) + len(other.parts),
        lead=(
            f"{len(one.parts)} simulated parts passed a camera whose colour was looked at, then "
            f"{len(other.parts)} a camera that lost its depth on the way. Each verdict below is "
            "the one a subscriber received over ZeroMQ; pictures show the part's highest-scoring "
            "frame."
        ),
        line=_data_uri(first.line),
        numbers=_numbers(one, first.gaussian_auroc),
        sections=_sections(one, first.views),
        second_lead=(
            f"One bundle that was taught by colour and depth. {len(other.verdicts)} of "
            f"{second.n_frames} frames show a whole part, and each of them got a verdict: with "
            "both streams while there are both, with colour alone while depth is off. A dent "
            "leaves no trace in colour, so colour alone passes it."
        ),
        strip=_strip(other),
        second_numbers=_second_numbers(other),
        second_sections=_sections(other, second.views),
    )
    write_text(out / "gallery.html", page)
    return out / "gallery.html"


def _sections(outcome: Outcome, views: Mapping[str, Views]) -> str:
    wrong = [p for p in outcome.parts if not _is_right(p)]
    found = [p for p in outcome.parts if _is_right(p) and p.label.kind == "defect"]
    passed = [p for p in outcome.parts if _is_right(p) and p.label.kind == "good"]
    sections = [
        _section("Wrong, or not answered", wrong, views),
        _section("Defects found", found, views),
        _section("Good parts passed", passed, views),
    ]
    return "\n".join(s for s in sections if s)


def _strip(outcome: Outcome) -> str:
    """Draw every verdict as a bar, in order: its colour what was decided, its height the mode."""
    return "".join(
        f'<i class="{v.decision} {v.mode}" title="frame {v.frame_id}: {v.decision}, {v.mode}'
        f'{escape(": " + v.reason) if v.reason else ""}"></i>'
        for v in outcome.verdicts
    )


def _second_numbers(outcome: Outcome) -> str:
    cells = []
    for mode, said in (("rgbd", "with both"), ("rgb", "without depth")):
        parts = [part for part in outcome.parts if part.verdict.mode == mode]
        defects = [part for part in parts if part.label.kind == "defect"]
        in_colour = [part for part in defects if "rgb" in part.label.visible_in]
        in_depth_only = [part for part in defects if "rgb" not in part.label.visible_in]
        good = [part for part in parts if part.label.kind == "good"]
        cells += [
            (_called_defect(in_colour), f"defects found that colour shows, {said}"),
            (_called_defect(in_depth_only), f"dents found, {said}"),
            (_called_defect(good), f"good parts rejected, {said}"),
        ]
    return "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in cells)


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
    reason = f"<span>{escape(part.verdict.reason)}</span>" if part.verdict.reason else ""
    return (
        f'<div class="part {"right" if _is_right(part) else "wrong"}"><header>'
        f'<span class="chip {part.decision}">{part.decision}</span>'
        f'<span class="mode">{part.verdict.mode}</span>'
        f"<span>truth: <b>{escape(truth)}</b>{escape(seen_in)}, part {escape(part.part_id)}</span>"
        f"{reason}"
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
