"""Filling the cache of TensorRT plans ahead of time, so that a station starts in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loupe_edge.engine_settings import EngineSettings
from loupe_edge.engines import require_tensorrt
from loupe_edge.proof import prove
from loupe_models.bundle import Bundle


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


def build_plans(
    bundle: Bundle, mode: str | None = None, folder: Path | None = None
) -> Iterator[BuiltPlan]:
    """Build, prove and keep the plans of a bundle's typed graphs, one after the other.

    Args:
        bundle: Verified; nothing is written into it.
        mode: Only this one; all that the bundle serves by default.
        folder: Where plans are kept; the user's or service's own place by default.

    Raises:
        BadInputError: TensorRT is not installed, the bundle has no such graph, or the folder
            cannot be written.
        EngineError: There is no GPU, TensorRT refuses the graph, or the plan does not run.
        ProofError: A new plan does not answer as the trainer did; it is not kept.
    """
    modes = (mode,) if mode is not None else tuple(bundle.manifest.modes)
    settings = EngineSettings(kind="tensorrt", cache=folder)
    graphs = {each: bundle.variant(each, settings.variant) for each in modes}
    require_tensorrt()
    from loupe_edge.engines.tensorrt.opening import open_planned

    for each, graph in graphs.items():
        proof = partial(prove, bundle, each, variant=settings.variant)
        planned = open_planned(bundle, each, settings, proof)
        planned.engine.close()
        yield BuiltPlan(graph.name, planned.place, planned.built_s)
