"""An early look: a few held-out good parts as the networks see them while they learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_edge.lettering import write
from loupe_models.atomic import write_bytes
from loupe_trainer.compute import autocast
from loupe_trainer.methods.base import Samples
from loupe_trainer.methods.efficientad.area import InspectedArea
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.methods.efficientad.pictures import Rgb
from loupe_trainer.spread import spread

MAX_PICTURES: Final = 4
MAX_WINDOWS: Final = 12  # of all pictures together; a tiled picture has many
FIRST_STEP: Final = 100
# A window costs about a third of a step, so that looks stay under a hundredth of the time.
STEPS_PER_WINDOW: Final = 50

# The colours stand for the same values at every step, or no progress would show. In units of the
# teacher's variance: 1 is what a student that says nothing gets beside the teacher.
LOW, HIGH = 0.01, 1.0
PANEL_PX: Final = 256
GAP_PX: Final = 8
LINE_PX: Final = 30
PAPER: Final = 255
INK: Final = (38, 46, 58)
OUTSIDE: Final = (214, 219, 226)
COLUMNS: Final = ("held-out good part", "student against teacher", "against autoencoder")
SCALE: Final = ("squared difference: dark is 0.01,", "bright is 1 and more")


@dataclass(frozen=True, slots=True)
class EarlyLook:
    """Draws one sheet at steps 100, 200, 400 and so on, and at the last.

    Attributes:
        detector: Of the networks in training; its maps are taken before any scale.
        pictures: (N, H, W, 3), good, and never learnt from.
        folder: Takes one PNG a look, named after its step.
        n_steps: Of the whole training.
    """

    detector: EfficientAdDetector
    pictures: Rgb
    folder: Path
    n_steps: int

    @property
    def first_step(self) -> int:
        """When the first look is due."""
        return max(FIRST_STEP, STEPS_PER_WINDOW * len(self.pictures) * self.detector.n_windows)

    def is_due(self, step: int) -> bool:
        """Tell whether this many steps done call for a look."""
        times, rest = divmod(step, self.first_step)
        is_doubled = rest == 0 and times > 0 and times & (times - 1) == 0
        return is_doubled or step == self.n_steps

    def draw(self, step: int) -> None:
        """Write the sheet of a step; the networks are left in training."""
        detector = self.detector
        device = detector.student.last.weight.device
        detector.eval()
        rows = []
        for picture in self.pictures:
            with torch.no_grad(), autocast(device):
                maps = detector.raw_maps(torch.from_numpy(picture[None]).to(device))
            rows.append(_row(picture, maps, detector.area))
        detector.train()
        header = (f"step {step} of {self.n_steps}", *SCALE)
        sheet = _lines((COLUMNS, header), rows[0].shape[1])
        _, png = cv2.imencode(".png", np.concatenate([sheet, *rows])[..., ::-1])
        write_bytes(self.folder / f"step-{step:06d}.png", png.tobytes())


def early_look(
    detector: EfficientAdDetector, held_out: Samples, folder: Path, n_steps: int
) -> EarlyLook | None:
    """Choose what to look at, spread over the held-out pictures; None where there is none."""
    n = min(len(held_out), MAX_PICTURES, max(1, MAX_WINDOWS // detector.n_windows))
    if n == 0:
        return None
    chosen = [held_out[i] for i in spread(len(held_out), n)]
    pictures = np.concatenate([np.asarray(sample["rgb"], np.uint8) for sample in chosen])
    return EarlyLook(detector, pictures, folder, n_steps)


def _row(picture: Rgb, maps: tuple[Tensor, Tensor], area: InspectedArea) -> Rgb:
    """Set a picture and its maps side by side, with their means below."""
    inside = area.inside[0, 0].cpu().numpy()
    size_px = (picture.shape[1], picture.shape[0])
    zoom = PANEL_PX / max(size_px)
    to_wh = (round(size_px[0] * zoom), round(size_px[1] * zoom))
    panels, captions = [cv2.resize(picture, to_wh, interpolation=cv2.INTER_AREA)], [""]
    for raw_map in maps:
        panel = np.full((*inside.shape, 3), OUTSIDE, np.uint8)
        panel[inside] = _colour(area.pixels(raw_map).float().cpu().numpy())
        panels.append(cv2.resize(panel, to_wh, interpolation=cv2.INTER_NEAREST))
        captions.append(f"mean {float(area.pixels(raw_map).mean()):.3g}")
    gap = np.full((to_wh[1], GAP_PX, 3), PAPER, np.uint8)
    framed = [part for panel in panels for part in (gap, panel)]
    row = np.concatenate([*framed, gap], axis=1)
    return np.concatenate([row, _lines((tuple(captions),), row.shape[1])])


def _colour(values: npt.NDArray[np.float32]) -> Rgb:
    """Colour (N,) squared differences by their logarithm; what is not a number is bright."""
    known = np.nan_to_num(values, nan=HIGH, posinf=HIGH)
    place = np.log(np.clip(known, LOW, HIGH) / LOW) / np.log(HIGH / LOW)
    column = (255 * place).astype(np.uint8)[:, None]  # OpenCV makes a row of (N,)
    coloured = cv2.applyColorMap(column, cv2.COLORMAP_VIRIDIS)
    return np.asarray(coloured[:, 0, ::-1], np.uint8)


def _lines(lines: tuple[tuple[str, ...], ...], width_px: int) -> Rgb:
    """Letter lines of captions, one a column."""
    strip = np.full((LINE_PX * len(lines), width_px, 3), PAPER, np.uint8)
    for i, captions in enumerate(lines):
        pitch_px = (width_px - GAP_PX) / len(captions)
        for j, caption in enumerate(captions):
            at_px = (GAP_PX + int(j * pitch_px), LINE_PX // 2 + i * LINE_PX)
            write(strip, caption, at_px, 9, INK)
    return strip
