"""A bundle is proved on this device before it speaks: its golden frames must give their answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from loupe_edge.engine_settings import DEFAULT_VARIANT
from loupe_edge.errors import ProofError
from loupe_edge.inspector import Inspector
from loupe_edge.protocols import Engine
from loupe_models.bundle import Bundle
from loupe_models.errors import BundleError, FrameError
from loupe_models.frame import CameraTime, Frame, Label
from loupe_models.gate import GateSpec
from loupe_models.manifest import Golden, ModeManifest, Precision, Variant
from loupe_models.scoring import score_error, score_unit

WARM_UPS = 2  # first inferences do lazy work and would miss a deadline

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProofReport:
    """How well this device repeats the trainer's answers.

    Attributes:
        errors: One score error a golden frame, in the sense of law 8.
        tolerance: The variant's; a frame far from the good parts may be allowed more.
    """

    n_golden: int
    errors: tuple[float, ...]
    tolerance: float


def prove(
    bundle: Bundle,
    mode: str,
    engine: Engine,
    variant: Precision = DEFAULT_VARIANT,
) -> ProofReport:
    """Replay a mode's golden frames through an engine, and what prepares for it, on this device.

    Args:
        bundle: Verified.
        mode: The one that the engine runs.
        engine: Open; warm afterwards.
        variant: Which of the mode's variants the engine runs.

    Raises:
        ProofError: A decision differs, or a score is off by more than the variant's tolerance.
        BundleError: A golden picture cannot be read.
    """
    contract = bundle.mode(mode)
    spec = contract.variants[variant]
    frames = [golden_frame(bundle, golden) for golden in contract.golden]
    errors: list[float] = []
    for i, (golden, frame) in enumerate(zip(contract.golden, frames, strict=True)):
        inspector = Inspector(
            bundle,
            mode,
            engine,
            gate=GateSpec(),  # the golden frame names its region itself
            belt_from_camera=golden.belt_from_camera,
            min_depth_valid=0.0,
            variant=variant,
        )
        for _ in range(WARM_UPS if i == 0 else 0):
            inspector.inspect(frame)
        name = f"{bundle.manifest.id}, mode {mode}, golden frame {i}"
        errors.append(_compare(name, golden, inspector, frame, _allowed(spec, golden, contract)))
    log.info("%s, mode %s: proved on %d golden frames", bundle.manifest.id, mode, len(errors))
    return ProofReport(len(errors), tuple(errors), spec.tolerance)


def golden_frame(bundle: Bundle, golden: Golden) -> Frame:
    """Rebuild a golden frame from its pictures.

    Raises:
        BundleError: A picture cannot be read, or the pieces do not fit together.
    """
    rgb = None if golden.rgb is None else _read(bundle, golden.rgb, cv2.IMREAD_COLOR)
    depth = None if golden.depth is None else _read(bundle, golden.depth, cv2.IMREAD_UNCHANGED)
    try:
        return Frame(
            frame_id=0,
            captured_at_ns=0,
            camera_time=CameraTime(ns=0, domain="system"),
            rgb=None if rgb is None else np.ascontiguousarray(rgb[..., ::-1]).astype(np.uint8),
            depth=None if depth is None else depth.astype(np.uint16, casting="safe"),
            depth_scale_m=golden.depth_scale_m,
            intrinsics=golden.intrinsics,
            label=Label(rect_px=golden.rect_px),
        )
    except (FrameError, TypeError) as error:  # the latter where depth is not 16 bits
        pictures = " and ".join(name for name in (golden.rgb, golden.depth) if name is not None)
        raise BundleError(
            f"{bundle.path}: golden frame of {pictures or 'no picture'}: {error}; "
            f"export the bundle again"
        ) from error


def _allowed(variant: Variant, golden: Golden, contract: ModeManifest) -> float:
    """Give the largest score error of one golden frame, in the sense of law 8."""
    unit = score_unit(contract.calibration_scores)
    return max(variant.tolerance, variant.relative_tolerance * abs(golden.image_score) / unit)


def _compare(
    name: str, golden: Golden, inspector: Inspector, frame: Frame, tolerance: float
) -> float:
    found = inspector.inspect(frame)
    if found is None or found.score is None:
        reason = found.reason if found else "the gate sees no part"
        raise ProofError(f"{name}: no answer on this device ({reason})")
    scores = inspector.contract.calibration_scores
    error = float(score_error(found.score, golden.image_score, scores))
    if found.decision != golden.decision or not error <= tolerance:
        is_default = inspector.variant == DEFAULT_VARIANT
        instead = "" if is_default else f"; its variant {DEFAULT_VARIANT} may do"
        raise ProofError(
            f"{name}: this device says {found.decision} {found.score:.5f}, the trainer said "
            f"{golden.decision} {golden.image_score:.5f} (they differ by {error:.3g} of the good "
            f"parts' spread, s95 - s50; at most {tolerance:.2g} is allowed): do not use this "
            f"bundle with this engine on this device{instead}"
        )
    return error


def _read(bundle: Bundle, name: str, how: int) -> npt.NDArray[np.generic]:
    picture = cv2.imread(str(bundle.file(name)), how)
    if picture is None:
        raise BundleError(f"{bundle.path}: {name} is not a picture; export the bundle again")
    return picture
