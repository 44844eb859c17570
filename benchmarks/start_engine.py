"""Open one engine in this process, answer once, and say how long that took and what it holds.

`engines.py` calls it: `start_engine.py GRAPH KIND` prints seconds and resident megabytes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()
PAGE_BYTES = 4096


def main() -> int:
    """Time the imports as well: a service pays for them too."""
    import numpy as np
    import stand_in

    from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
    from loupe_edge.protocols import Engine

    graph, kind = Path(sys.argv[1]), sys.argv[2]
    inputs, outputs = stand_in.INPUTS["rgb"], stand_in.OUTPUTS
    engine: Engine
    if kind == "onnxruntime fp32":
        engine = OnnxRuntimeEngine(graph, inputs, outputs)
    else:
        from loupe_edge.engines.openvino import OpenVinoEngine

        engine = OpenVinoEngine(graph, inputs, outputs, 2, half=kind.endswith("bf16"))
    engine.infer({"rgb": np.zeros(inputs[0].shape, np.uint8)})
    seconds = time.perf_counter() - BEGAN
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    sys.stdout.write(f"{seconds:.2f} {pages * PAGE_BYTES / 1e6:.0f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
