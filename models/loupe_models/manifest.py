"""The bundle's machine-readable contract."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_models.checked import Checked
from loupe_models.frame import Rect
from loupe_models.gate import GateSpec
from loupe_models.preprocess import Group, PreprocessSpec, SamplePoints
from loupe_models.threshold import MAX_STORED_SCORES, Threshold

SCHEMA_VERSION: Final = 1

Mode = Literal["rgb", "depth", "rgbd"]
Precision = Literal["fp32", "fp16", "int8"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# One plain name, or one folder and a name: nothing that climbs out of the bundle.
FileName = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*$")
]


class TensorSpec(Checked):
    """A named input or output of the graph, with its static shape."""

    name: str
    dtype: Literal["uint8", "int32", "float32"]
    shape: tuple[int, ...]


class Golden(Checked):
    """A raw frame whose answer is known, replayed on every device before it may speak."""

    rgb: FileName | None = None
    depth: FileName | None = None
    depth_scale_m: float | None = None
    intrinsics: Intrinsics | None = None
    belt_from_camera: Transform | None = None
    rect_px: Rect | None = None
    image_score: float
    decision: Literal["good", "defect"]


class Variant(Checked):
    """One graph file of a mode.

    Attributes:
        tolerance: Largest score error against the reference, in the sense of law 8.
        relative_tolerance: Share of a score that may be lost where that is more: far from the
            good parts the number format has no digits for the other.
        parity: Measured score errors of this variant, of the reference against the trainer's
            network and of others against the reference, and what else its proof counted.
        threshold: Only where the variant shifts it beyond its tolerance.
    """

    file: FileName
    precision: Precision
    tolerance: float = Field(gt=0, le=0.1)
    relative_tolerance: float = Field(default=0.0, ge=0, le=0.01)
    parity: dict[str, float] = Field(default_factory=dict)
    threshold: Threshold | None = None


class ModeManifest(Checked):
    """Everything needed to serve one mode.

    Attributes:
        calibration_scores: Sorted good-part scores that the threshold rests on, at most 2,000.
        refused: Variants that the trainer made and would not ship, each with the reason.
    """

    gate: GateSpec
    preprocess: PreprocessSpec
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    threshold: Threshold
    calibration_scores: tuple[float, ...] = Field(min_length=2, max_length=MAX_STORED_SCORES)
    variants: dict[Precision, Variant] = Field(min_length=1)
    refused: dict[Precision, str] = Field(default_factory=dict)
    golden: tuple[Golden, ...] = Field(min_length=1)

    def threshold_of(self, variant: Precision) -> Threshold:
        """Give the variant's own threshold, or the mode's."""
        own = self.variants.get(variant)
        return own.threshold if own and own.threshold else self.threshold

    def why_not(self, variant: Precision) -> str:
        """Give the trainer's reason against a variant, in brackets; empty where none is told."""
        return f" ({self.refused[variant]})" if variant in self.refused else ""

    @model_validator(mode="after")
    def _scores_are_sorted(self) -> ModeManifest:
        if list(self.calibration_scores) != sorted(self.calibration_scores):
            raise ValueError("calibration_scores must be sorted")
        if self.calibration_scores[0] == self.calibration_scores[-1]:
            raise ValueError("calibration_scores are all the same; export the bundle again")
        return self

    @model_validator(mode="after")
    def _threshold_is_one_of_the_scores(self) -> ModeManifest:
        scores, cut = self.calibration_scores, self.threshold
        if len(scores) != min(cut.n_parts, MAX_STORED_SCORES):
            raise ValueError(f"{len(scores)} calibration_scores of {cut.n_parts} parts")
        is_whole = len(scores) == cut.n_parts
        low, high = (scores[cut.rank - 1],) * 2 if is_whole else (scores[0], scores[-1])
        if not low <= cut.value <= high:
            raise ValueError(
                f"threshold {cut.value:g} is not the score of rank {cut.rank} that "
                f"calibration_scores tell; export the bundle again"
            )
        return self

    @model_validator(mode="after")
    def _inputs_are_what_preprocessing_makes(self) -> ModeManifest:
        names = {spec.name for spec in self.inputs}
        if names != set(self.preprocess.tensors):
            raise ValueError(
                f"inputs {sorted(names)}, but preprocess makes {sorted(self.preprocess.tensors)}"
            )
        return self

    @model_validator(mode="after")
    def _groups_are_of_the_size_that_the_steps_say(self) -> ModeManifest:
        shapes = {spec.name: spec.shape for spec in self.inputs}
        steps = {step.step: step for step in self.preprocess.steps}
        sample, group = steps.get("sample_points"), steps.get("group")
        if not isinstance(sample, SamplePoints) or not isinstance(group, Group):
            return self
        said = {"groups": (1, sample.n_points, group.size, 3), "centres": (1, sample.n_points, 3)}
        for name, shape in said.items():
            if shapes.get(name, shape) != shape:
                raise ValueError(f"input {name} is {shapes[name]}, preprocess makes {shape}")
        return self

    @model_validator(mode="after")
    def _variants_are_what_they_are_called(self) -> ModeManifest:
        for name, variant in self.variants.items():
            if variant.precision != name:
                raise ValueError(f"variant {name} says it is {variant.precision}")
        if both := sorted(set(self.variants) & set(self.refused)):
            raise ValueError(f"variants both served and refused: {', '.join(both)}")
        return self


class Backbone(Checked):
    """Whose weights the method learnt from."""

    name: str
    licence: str
    sha256: str


class Provenance(Checked):
    """Where the bundle comes from."""

    created_at: str
    code_version: str
    data_sha256: Sha256
    config: dict[str, object]
    seed: int
    backbone: Backbone | None = None


class Manifest(Checked):
    """The whole contract; `files` covers every file of the bundle but this one."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    method: str
    modes: dict[Mode, ModeManifest] = Field(min_length=1)
    files: dict[FileName, Sha256]
    provenance: Provenance

    @model_validator(mode="after")
    def _graphs_are_named_after_mode_and_precision(self) -> Manifest:
        for mode, contract in self.modes.items():
            for precision, variant in contract.variants.items():
                if variant.file != f"{mode}.{precision}.onnx":
                    raise ValueError(
                        f"the graph of {mode} in {precision} is {mode}.{precision}.onnx, not "
                        f"{variant.file}"
                    )
        return self

    @model_validator(mode="after")
    def _named_files_are_listed(self) -> Manifest:
        named = {
            name
            for mode in self.modes.values()
            for name in [
                *(variant.file for variant in mode.variants.values()),
                *(golden.rgb for golden in mode.golden),
                *(golden.depth for golden in mode.golden),
            ]
            if name is not None
        }
        missing = sorted(named - set(self.files))
        if missing:
            raise ValueError(f"not listed under files: {', '.join(missing)}")
        return self
