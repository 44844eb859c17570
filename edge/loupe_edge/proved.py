"""An engine as it is asked for, and proved as it will run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from loupe_edge.engine_settings import EngineSettings
from loupe_edge.engines import open_engine
from loupe_edge.proof import ProofReport, prove
from loupe_edge.protocols import Engine
from loupe_models.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Proved:
    """An engine whose answers agree with the trainer's."""

    engine: Engine
    report: ProofReport


@contextmanager
def open_proved(bundle: Bundle, mode: str, settings: EngineSettings) -> Iterator[Proved]:
    """Open one graph of a bundle, prove it on this device, and close it again.

    Raises:
        BundleError: The bundle lacks the mode or the variant.
        BadInputError: What the settings name is not installed, or its folder cannot be used.
        EngineError: The runtime refuses the graph, or the device the kernels.
        ProofError: The bundle does not answer here as it did at its trainer's.
    """
    reports: list[ProofReport] = []

    def proof(engine: Engine) -> None:
        reports.append(prove(bundle, mode, engine, settings.variant))

    with closing(open_engine(bundle, mode, settings, proof)) as engine:
        yield Proved(engine, reports[0])
