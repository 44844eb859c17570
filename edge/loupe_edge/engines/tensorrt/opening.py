"""From a bundle's graph to a running engine: the plan that is kept, or a new one that is proved."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from loupe_edge.cuda.context import gpu_arch
from loupe_edge.cuda.kernels import cached_cubin
from loupe_edge.cuda.layout import refuse_unknown
from loupe_edge.engine_settings import EngineSettings
from loupe_edge.engines.tensorrt.building import FLAGS, Built, build_plan
from loupe_edge.engines.tensorrt.cache import PlanCache, default_cache
from loupe_edge.engines.tensorrt.device import device_key
from loupe_edge.engines.tensorrt.engine import TensorRtEngine
from loupe_edge.engines.tensorrt.key import PlanKey
from loupe_edge.engines.tensors import passed
from loupe_edge.errors import PlanError
from loupe_edge.progress import progress
from loupe_edge.protocols import Engine, Proof
from loupe_models.bundle import Bundle

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """An engine, and where its plan comes from.

    Attributes:
        place: Folder of the plan, where it is kept.
        built_s: Seconds that the build took; None where the plan was there already.
    """

    engine: TensorRtEngine
    place: Path
    built_s: float | None


def open_planned(
    bundle: Bundle, mode: str, settings: EngineSettings, proof: Proof | None
) -> Planned:
    """Open the engine of one graph, and build its plan first where none is kept.

    Args:
        bundle: Verified.
        mode: One of those it serves.
        settings: Which of the mode's graphs, where plans are kept, and whether the GPU prepares
            the tensors.
        proof: Called once with the engine, whose plan, where it is new, is kept after it; without
            one a new plan is not kept.

    Raises:
        BundleError: The bundle lacks the mode or the variant.
        EngineError: There is no GPU, TensorRT refuses the graph, the plan does not run, or the
            kernels do not compile or load.
        StationError: The GPU is to prepare the tensors, and NVRTC is not installed, or no kernel
            does one of the bundle's steps.
        PlanCacheError: A plan must be built, and cannot be kept.
        LoupeError: As the proof raises; the engine is closed then.
    """
    graph = bundle.variant(mode, settings.variant)
    if settings.front == "gpu":
        refuse_unknown(bundle.mode(mode).preprocess)
    cache = PlanCache(settings.cache or default_cache())
    key = PlanKey(bundle.manifest.files[graph.name], device_key(), FLAGS)
    kernels = cached_cubin(gpu_arch(), cache.kernels) if settings.front == "gpu" else None
    engine = _kept(bundle, mode, cache, key, kernels)
    if engine is not None:
        return Planned(passed(engine, proof), cache.place(key), None)
    with cache.making(key) as keep:
        engine = _kept(bundle, mode, cache, key, kernels)  # another process may have built it
        if engine is not None:
            return Planned(passed(engine, proof), cache.place(key), None)
        built, took_s = _build(graph, cache.timing(key.device))

        def prove_and_keep(engine: Engine) -> None:
            if proof is not None:
                proof(engine)
                keep(built.plan)
                cache.keep_timing(key.device, built.timing)

        engine = passed(_opened(bundle, mode, built.plan, kernels), prove_and_keep)
    log.info("%s: built in %.0f s for %s", graph.name, took_s, key.digest)
    return Planned(engine, cache.place(key), took_s)


def _kept(
    bundle: Bundle, mode: str, cache: PlanCache, key: PlanKey, kernels: bytes | None
) -> TensorRtEngine | None:
    plan = cache.load(key)
    if plan is None:
        return None
    try:
        return _opened(bundle, mode, plan, kernels)
    except PlanError as error:
        log.warning("the plan that is kept as %s is built again: %s", key.digest, error)
        return None


def _build(graph: Path, timing: bytes) -> tuple[Built, float]:
    """Build a plan, and say how many seconds it took."""
    began = time.monotonic()
    with progress(f"building {graph.name}") as report:
        built = build_plan(graph, timing, report)
    return built, time.monotonic() - began


def _opened(bundle: Bundle, mode: str, plan: bytes, kernels: bytes | None) -> TensorRtEngine:
    contract = bundle.mode(mode)
    return TensorRtEngine(plan, contract.inputs, contract.outputs, kernels)
