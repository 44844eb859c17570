"""Open one engine in this process, answer once, and say how long that took and what it holds.

`engines.py` calls it: `start_engine.py GRAPH KIND` prints seconds and resident megabytes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loupe_edge.protocols import Engine

BEGAN = time.perf_counter()
THREADS = 2


def main() -> int:
    """Time the imports as well: a service pays for them too."""
    import numpy as np
    import stand_in

    from loupe_edge.machine import resident_bytes

    engine = open_engine(Path(sys.argv[1]), sys.argv[2])
    (spec,) = stand_in.INPUTS["rgb"]
    engine.infer({spec.name: np.zeros(spec.shape, spec.dtype)})
    seconds = time.perf_counter() - BEGAN
    sys.stdout.write(f"{seconds:.2f} {resident_bytes() / 1e6:.0f}\n")
    return 0


def open_engine(graph: Path, kind: str) -> Engine:
    """Open one of Loupe's engines on a graph of colour; imports no other's runtime."""
    import stand_in

    if kind == "onnxruntime fp32":
        from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(graph, stand_in.INPUTS["rgb"], stand_in.OUTPUTS, THREADS)
    from loupe_edge.engines.openvino import OpenVinoEngine

    half = kind == "openvino bf16"
    return OpenVinoEngine(graph, stand_in.INPUTS["rgb"], stand_in.OUTPUTS, THREADS, half=half)


if __name__ == "__main__":
    sys.exit(main())
