"""The least bytes and operations that each GPU kernel can do with; run by itself, the table.

Bytes: every input read once and every output written once, from and to the device's memory. Where
a kernel must look at its points over and over, they are counted as often as it looks (from cache
or not), in a column of its own. Operations: additions, multiplications and comparisons of
coordinates, distances and keys, one each, whatever their width; loop counters are not counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from harness import RESULTS, say

from loupe_edge.cuda.tables import shares

RGB_WH, TO_WH = (640, 480), (256, 256)
N_POINTS, N_CENTRES, SIZE = 16_384, 1_024, 128
FLOAT, INT, KEY = 4, 4, 8
COLOUR = "colour, 640x480 to 256x256"  # what gpu_front.py runs, by its titles
CLOUD = "cloud, 640x480"
GROUPS = "groups, 16384 points, 1024 of 128"

DISTANCE = 8  # three differences, three squares, two sums
KEYED = DISTANCE + 2  # and the index below it


@dataclass(frozen=True, slots=True)
class Floor:
    """What one kernel cannot do without.

    Attributes:
        title: Of what gpu_front.py measures it in, at this size.
        kernel: Or several, with commas.
        n_bytes: Each input once, each output once.
        n_bytes_looked: With points counted as often as they are looked at.
        n_operations: Arithmetic.
    """

    title: str
    kernel: str
    n_bytes: int
    n_bytes_looked: int
    n_operations: int


def cloud(width: int, height: int) -> Floor:
    """Count `make_cloud`: three products a ray, nine fused ones (18), one comparison."""
    n = width * height
    n_bytes = n * (2 + 2 * FLOAT + 3 * FLOAT + 1)
    return Floor(CLOUD, "make_cloud", n_bytes, n_bytes, n * 22)


def shrink(from_wh: tuple[int, int], to_wh: tuple[int, int]) -> Floor:
    """Count `shrink`: a product and a sum an entry, along rows and then down."""
    n_from, n_to = (width * height for width, height in (from_wh, to_wh))
    n_across, n_down = (len(shares(a, b).source) for a, b in zip(from_wh, to_wh, strict=True))
    n_values = 3 * n_across * n_down  # read for one output value or another
    n_operations = 2 * n_values + 2 * 3 * to_wh[0] * n_down
    return Floor(COLOUR, "shrink", 3 * (n_from + n_to), n_values + 3 * n_to, n_operations)


def gather(n_px: int) -> Floor:
    """Count `count_valid` and `gather_points` with every pixel valid: three products each."""
    n_bytes = n_px * (2 * 1 + 3 * FLOAT + 3 * INT)
    return Floor(GROUPS, "count_valid, gather_points", n_bytes, n_bytes, n_px * 3 * 2)


def sample(n: int, n_chosen: int) -> Floor:
    """Count `sample_farthest`: for each chosen point a distance to every point, two comparisons."""
    n_bytes = n * 3 * INT + n_chosen * INT
    looked = n_chosen * n * (3 * INT + 2 * KEY)
    return Floor(GROUPS, "sample_farthest", n_bytes, looked, n_chosen * n * (KEYED + 2))


def group(n: int, n_centres: int, size: int) -> Floor:
    """Count `group_nearest`: every key at least twice, to find the bound and to keep what is in."""
    n_bytes = n * 3 * INT + n_centres * (size + 1) * 3 * FLOAT
    looked = 2 * n_centres * n * 3 * INT + n_centres * (size + 1) * 3 * FLOAT
    return Floor(GROUPS, "group_nearest", n_bytes, looked, 2 * n_centres * n * (KEYED + 2))


def nearest(n_px: int, n_centres: int) -> Floor:
    """Count `nearest_centres`: for each pixel a distance to every centre, one comparison."""
    n_bytes = n_px * (1 + 3 * FLOAT + 3 * INT + 3 * FLOAT) + n_centres * 3 * INT
    looked = n_bytes + n_px * n_centres * 3 * INT
    return Floor(GROUPS, "nearest_centres", n_bytes, looked, n_px * n_centres * (KEYED + 1))


def floors() -> list[Floor]:
    """Give every kernel's floor at the sizes that the benchmark runs."""
    return [
        cloud(*RGB_WH),
        shrink(RGB_WH, TO_WH),
        gather(N_POINTS),
        sample(N_POINTS, N_CENTRES),
        group(N_POINTS, N_CENTRES, SIZE),
        nearest(N_POINTS, N_CENTRES),
    ]


def measured(results: Path) -> dict[str, str]:
    """Say what gpu_front.py has measured, by kernel; nothing where it has not run."""
    path = results / "gpu_front.json"
    if not path.exists():
        return {}
    figures = json.loads(path.read_text("utf-8"))["figures"]
    said = {}
    for one in floors():
        kernels = figures[one.title]["kernels"]
        p50_ms = sum(kernels[name]["p50_ms"] for name in one.kernel.split(", "))
        said[one.kernel] = f"{p50_ms:.3f} ms p50, {figures['gpu']}"
    return said


def table(results: Path = RESULTS) -> str:
    """Lay the floors out as the documentation has them."""
    lines = [
        "| Kernel | MB, each once | MB, as often as looked at | million operations | measured |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    said = measured(results)
    for one in floors():
        figures = (one.n_bytes, one.n_bytes_looked, one.n_operations)
        numbers = " | ".join(f"{figure / 1e6:,.2f}" for figure in figures)
        lines.append(f"| `{one.kernel}` | {numbers} | {said.get(one.kernel, 'not run')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    say(table())
