"""Which graph of a bundle runs, and what runs it. No runtime is imported to say so."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from loupe_edge.machine import MAX_THREADS
from loupe_models.checked import Checked
from loupe_models.manifest import Precision

EngineKind = Literal["onnxruntime", "openvino", "tensorrt"]
FrontKind = Literal["cpu", "gpu"]

DEFAULT_THREADS: Final = 2
DEFAULT_VARIANT: Final[Precision] = "fp32"  # the reference
TYPED_VARIANT: Final[Precision] = "fp16"  # whose graph says every type itself, as TensorRT wants it
NEEDS_TENSORRT: Final = (
    'front = "gpu" works in TensorRT\'s context: choose kind = "tensorrt", or front = "cpu"'
)


class EngineSettings(Checked):
    """One engine, as a station's table `[engine]` and the commands' options name it.

    Attributes:
        kind: The runtime. OpenVINO computes the variant `fp16` in bfloat16 where the processor has
            it. TensorRT builds a plan first where none is kept, which takes minutes.
        variant: Where it is not given, `fp16` for TensorRT and `fp32`, the reference, otherwise.
        threads: Of the CPU, for one inference; stated rather than guessed by the runtime.
        cache: Where TensorRT's plans are kept; by default `$CACHE_DIRECTORY`, which systemd sets,
            or the user's own.
        front: What makes the graph's tensors. `gpu` runs Loupe's own kernels in TensorRT's context.
    """

    kind: EngineKind = "onnxruntime"
    variant: Precision = DEFAULT_VARIANT
    threads: int = Field(default=DEFAULT_THREADS, ge=1, le=MAX_THREADS)
    cache: Path | None = None
    front: FrontKind = "cpu"

    @model_validator(mode="before")
    @classmethod
    def _typed_for_tensorrt(cls, told: object) -> object:
        if isinstance(told, dict) and told.get("kind") == "tensorrt":
            return {"variant": TYPED_VARIANT, **told}
        return told

    @field_validator("front")
    @classmethod
    def _on_the_engines_gpu(cls, front: FrontKind, info: ValidationInfo) -> FrontKind:
        if front == "gpu" and info.data.get("kind", "tensorrt") != "tensorrt":
            raise ValueError(NEEDS_TENSORRT)
        return front


REFERENCE: Final = EngineSettings()  # what serves every bundle on every machine
