"""Filling the cache of TensorRT plans ahead of time, so that a station starts in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loupe_edge.engine_settings import TYPED_VARIANT, EngineSettings
from loupe_edge.engines import require_tensorrt
from loupe_edge.proof import prove
from loupe_models.bundle import Bundle
from loupe_models.errors import BundleError


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """One plan that is kept now.

    Attributes:
        graph: File of the bundle that it is of.
        place: Folder that holds it.
        built_s: Seconds that the build took; None where the plan was there already.
    """

    graph: str
    place: Path
    built_s: float | None

    @property
    def told(self) -> str:
        """What happened, for a person."""
        how = "was there already" if self.built_s is None else f"built in {self.built_s:.0f} s"
        return f"{self.graph}: {how}; proved here, kept in {self.place}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A mode without a typed graph, of which no plan can be built.

    Attributes:
        reason: The trainer's own, where it gave one.
    """

    mode: str
    reason: str

    @property
    def told(self) -> str:
        """What is missing, for a person."""
        return f"{self.mode}: left out, no {TYPED_VARIANT} graph: {self.reason}"


def build_plans(
    bundle: Bundle, mode: str | None = None, folder: Path | None = None
) -> Iterator[BuiltPlan]:
    """Build, prove and keep the plans of a bundle's typed graphs, one after the other.

    Modes without a typed graph are passed over; `left_out` names them.

    Args:
        bundle: Verified; nothing is written into it.
        mode: Only this one; all that the bundle serves by default.
        folder: Where plans are kept; the user's or service's own place by default.

    Raises:
        BadInputError: TensorRT is not installed, none of the modes has such a graph, or the folder
            cannot be written.
        EngineError: There is no GPU, TensorRT refuses the graph, or the plan does not run.
        ProofError: A new plan does not answer as the trainer did; it is not kept.
    """
    settings = EngineSettings(kind="tensorrt", cache=folder)
    missing = {each.mode: each.told for each in left_out(bundle, mode)}
    typed = [each for each in _asked(bundle, mode) if each not in missing]
    if not typed:
        told = "\n".join(missing.values())
        raise BundleError(
            f"{bundle.path}: no graph to build a plan of; run it on onnxruntime or openvino\n{told}"
        )
    require_tensorrt()
    from loupe_edge.engines.tensorrt.opening import open_planned

    for each in typed:
        proof = partial(prove, bundle, each, variant=settings.variant)
        planned = open_planned(bundle, each, settings, proof)
        planned.engine.close()
        graph = bundle.variant(each, settings.variant)
        yield BuiltPlan(graph.name, planned.place, planned.built_s)


def left_out(bundle: Bundle, mode: str | None = None) -> list[LeftOut]:
    """Name the modes of which no plan can be built, of one or of all that the bundle serves.

    Raises:
        BundleError: The bundle lacks the mode.
    """
    unsaid = "this bundle was made without one"
    contracts = {each: bundle.mode(each) for each in _asked(bundle, mode)}
    return [
        LeftOut(name, contract.refused.get(TYPED_VARIANT, unsaid))
        for name, contract in contracts.items()
        if TYPED_VARIANT not in contract.variants
    ]


def _asked(bundle: Bundle, mode: str | None) -> tuple[str, ...]:
    return (mode,) if mode is not None else tuple(bundle.manifest.modes)
