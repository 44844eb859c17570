"""Gate, preprocess, infer, decide: what turns a frame into an answer, wherever frames come from.

The service on the line, `inspect` on pictures and the trainer's `evaluate` all call this, so that
a bundle means the same everywhere. Silence is never good: whatever is not a score is `unknown`.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import BadInputError
from loupe_calibration.transform import Transform
from loupe_calibration.units import doubt_units
from loupe_edge.camera_settings import Stream
from loupe_edge.depth_evidence import depth_valid_fraction, measure_region
from loupe_edge.engine_settings import DEFAULT_VARIANT
from loupe_edge.errors import EngineError, EngineLostError
from loupe_edge.protocols import Engine, Outputs
from loupe_edge.stopwatch import Stopwatch
from loupe_edge.verdict import Decision, WireRegion
from loupe_models.bundle import Bundle
from loupe_models.errors import FrameError
from loupe_models.frame import Frame, Rect
from loupe_models.gate import ByHeight, GateSpec, gate
from loupe_models.manifest import ModeManifest, Precision
from loupe_models.preprocess import Prepared, PxMap
from loupe_models.scoring import find_regions, p_value

DEFAULT_MIN_DEPTH_VALID = 0.5
ABOVE = "score above threshold"
UNITS_STEP_PX = 8  # of each axis; whether depth is a thousand times off shows in a few pixels


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in one frame.

    Attributes:
        reason: Why, in a few words; empty for good in the preferred mode.
        mode: The mode that looked.
        score: None exactly where nothing was measured.
        regions: Areas above the threshold, strongest first; only a defect has any.
        region: Where the gate looked, frame pixels.
        anomaly_map: (H, W) on the graph's grid; None where nothing was measured.
        frame_px_from_map_px: From the map's pixels to the frame's; None likewise.
        depth_valid_fraction: Share of the region's pixels with a depth; None without depth.
        stage_us: Microseconds by stage.
    """

    decision: Decision
    reason: str
    score: float | None
    mode: str
    threshold: float
    p_value: float | None
    regions: tuple[WireRegion, ...]
    region: Rect
    anomaly_map: npt.NDArray[np.float32] | None
    frame_px_from_map_px: PxMap | None
    depth_valid_fraction: float | None
    stage_us: dict[str, int]


@dataclass(slots=True)
class Inspector:
    """One mode of a bundle on an open engine.

    Attributes:
        gate: A station's own gate instead of the manifest's.
        threshold: A station's own threshold instead of the manifest's.
        belt_from_camera: The station's belt; a gate or cloud that needs one fails without it.
        min_depth_valid: Least share of valid depth in the region, where depth is used at all.
        variant: Which of the mode's variants the engine runs; it may bring its own threshold.
        contract: The mode's part of the manifest.
        n_engine_errors: Frames in a row, up to the last one inspected, that the engine failed.
        is_engine_lost: No frame will ever get an answer in this process.

    Raises:
        BundleError: The bundle does not serve the mode.
        BadInputError: The threshold is not finite: every part would pass, or none.
    """

    bundle: Bundle
    mode: str
    engine: Engine
    _: KW_ONLY
    gate: GateSpec | None = None
    threshold: float | None = None
    belt_from_camera: Transform | None = None
    min_depth_valid: float = DEFAULT_MIN_DEPTH_VALID
    variant: Precision = DEFAULT_VARIANT
    contract: ModeManifest = field(init=False)
    n_engine_errors: int = field(default=0, init=False)
    is_engine_lost: bool = field(default=False, init=False)
    _calibration_scores: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.contract = self.bundle.mode(self.mode)
        self._calibration_scores = np.asarray(self.contract.calibration_scores)
        if not math.isfinite(self.cut):
            raise BadInputError(f"threshold {self.cut}: give a finite number")

    @property
    def gate_spec(self) -> GateSpec:
        """The gate in force."""
        return self.gate or self.contract.gate

    @property
    def cut(self) -> float:
        """The threshold in force: the station's, else the variant's, else the mode's."""
        if self.threshold is not None:
            return self.threshold
        return self.contract.threshold_of(self.variant).value

    @property
    def ailment(self) -> str:
        """Why another mode should look; a single mode has no other."""
        return ""

    @property
    def streams(self) -> frozenset[Stream]:
        """What graph and gate look at."""
        return frozenset(streams_needed(self.contract, self.gate_spec))

    def inspect(self, frame: Frame) -> Inspection | None:
        """Answer for one frame; None where the gate sees no whole part to inspect."""
        watch = Stopwatch()
        try:
            with watch.stage("gate"):
                region = self._gate(frame)
            if region is None:
                return None
            with watch.stage("preprocess"):
                prepared = self.engine.preprocess(
                    frame, region, self.contract.preprocess, self.belt_from_camera
                )
            with watch.stage("infer"):
                outputs = self.engine.infer(prepared.tensors)
            with watch.stage("decide"):
                found = self._decide(frame, region, prepared, outputs)
            self.n_engine_errors = 0
        except FrameError as error:
            found = self.unknown(frame, str(error))
        except EngineError as error:
            self.n_engine_errors += 1
            self.is_engine_lost = isinstance(error, EngineLostError)
            found = self.unknown(frame, str(error))
        return replace(found, stage_us=watch.stage_us)

    def _gate(self, frame: Frame) -> Rect | None:
        """Find the region; depth that is mostly holes can neither show a part nor its absence."""
        uses_depth = "depth" in self.streams
        if ("rgb" in self.streams and frame.rgb is None) or (uses_depth and frame.depth is None):
            missing = "colour" if frame.rgb is None else "depth"
            raise FrameError(f"the frame has no {missing}, which mode {self.mode} needs here")
        region = gate(frame, self.gate_spec, self.belt_from_camera)
        looked = region or self.gate_spec.region_px or Rect(0, 0, *frame.size_wh)
        fraction = depth_valid_fraction(frame, looked)
        if uses_depth and fraction is not None and fraction < self.min_depth_valid:
            raise FrameError(
                f"depth is known for {fraction:.0%} of the region, "
                f"{self.min_depth_valid:.0%} is required"
            )
        if uses_depth:
            refuse_units(frame, looked)
        return region

    def _decide(
        self, frame: Frame, region: Rect, prepared: Prepared, outputs: Outputs
    ) -> Inspection:
        score, anomaly_map = read_outputs(outputs)
        is_defect = score > self.cut
        regions: tuple[WireRegion, ...] = ()
        if is_defect:
            areas = find_regions(
                anomaly_map, self.cut, prepared.frame_px_from_map_px, frame.size_wh
            )
            regions = tuple(measure_region(a, frame, self.belt_from_camera) for a in areas)
        return Inspection(
            decision="defect" if is_defect else "good",
            reason=ABOVE if is_defect else "",
            score=score,
            mode=self.mode,
            threshold=self.cut,
            p_value=p_value(score, self._calibration_scores),
            regions=regions,
            region=region,
            anomaly_map=anomaly_map,
            frame_px_from_map_px=prepared.frame_px_from_map_px,
            depth_valid_fraction=depth_valid_fraction(frame, region),
            stage_us={},
        )

    def unknown(self, frame: Frame, reason: str) -> Inspection:
        """Give the answer for a frame that cannot be looked at."""
        whole = Rect(0, 0, *frame.size_wh)
        return Inspection(
            decision="unknown",
            reason=reason,
            score=None,
            mode=self.mode,
            threshold=self.cut,
            p_value=None,
            regions=(),
            region=whole,
            anomaly_map=None,
            frame_px_from_map_px=None,
            depth_valid_fraction=depth_valid_fraction(frame, whole),
            stage_us={},
        )


def refuse_units(frame: Frame, looked: Rect) -> None:
    """Refuse a camera or recording whose depth scale is wrong by a thousand.

    Args:
        frame: One without depth passes.
        looked: The region that counts.

    Raises:
        FrameError: Depth lies where no camera over a belt measures; the message names its range,
            the unit that it may be in, and the scale.
    """
    if frame.depth is None or frame.depth_scale_m is None:
        return
    x, y, width, height = looked
    some = frame.depth[y : y + height : UNITS_STEP_PX, x : x + width : UNITS_STEP_PX]
    doubt = doubt_units(some.astype(np.float32) * np.float32(frame.depth_scale_m))
    if doubt:
        raise FrameError(f"{doubt} The depth scale is {frame.depth_scale_m:g} m a unit")


def streams_needed(contract: ModeManifest, gate: GateSpec) -> set[Stream]:
    """Give the camera streams that the graph's tensors and the gate are made from."""
    needed: set[Stream] = {
        "rgb" if name == "rgb" else "depth" for name in contract.preprocess.tensors
    }
    if gate.occupied is not None:
        needed.add("depth" if isinstance(gate.occupied, ByHeight) else "rgb")
    return needed


def read_outputs(outputs: Outputs) -> tuple[float, npt.NDArray[np.float32]]:
    """Take the image score and the (H, W) anomaly map out of an engine's answer.

    Raises:
        EngineError: An output is missing, misshapen, or not finite: not an answer at all.
    """
    missing = {"anomaly_map", "image_score"} - set(outputs)
    if missing:
        raise EngineError(f"the engine gave no {' and no '.join(sorted(missing))}")
    anomaly_map, score = outputs["anomaly_map"], outputs["image_score"]
    if score.shape != (1,) or anomaly_map.ndim != 4 or anomaly_map.shape[:2] != (1, 1):
        raise EngineError(
            f"outputs of shape {anomaly_map.shape} and {score.shape}, "
            f"expected (1, 1, H, W) and (1,)"
        )
    if not np.isfinite(score[0]):
        raise EngineError(f"the image score is {score[0]}, which is not a score")
    if not np.isfinite(anomaly_map).all():
        raise EngineError("the anomaly map holds values that are not finite")
    return float(score[0]), anomaly_map[0, 0]
