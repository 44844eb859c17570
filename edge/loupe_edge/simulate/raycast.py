"""The one door to Open3D's ray-caster: triangles in, distances out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import open3d as o3d

Metres = npt.NDArray[np.float32]
Triangles = npt.NDArray[np.uint32]
Corner = tuple[float, float, float]

# The twelve triangles of a box whose corner 4 i + 2 j + k has x, y, z low or high by i, j, k.
_BOX = np.array(
    [
        (0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1),
        (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3),
    ],
    np.uint32,
)  # fmt: skip


class Scene:
    """Triangles that rays can meet; building it takes longer than many casts.

    Args:
        vertices_m: (n, 3).
        triangles: (m, 3) indices of vertices.
    """

    def __init__(self, vertices_m: Metres, triangles: Triangles) -> None:
        self._scene = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            o3d.core.Tensor.from_numpy(np.ascontiguousarray(vertices_m, np.float32)),
            o3d.core.Tensor.from_numpy(np.ascontiguousarray(triangles, np.uint32)),
        )

    def cast(self, origin: Metres, directions: Metres) -> tuple[Metres, Metres]:
        """Send rays from one point.

        Args:
            origin: (3,) metres.
            directions: (H, W, 3), of any length.

        Returns:
            How many of its own lengths each direction must go to meet the surface, (H, W), inf
            for a miss; and the surface's unit normals there, (H, W, 3).
        """
        rays = np.empty((*directions.shape[:2], 6), np.float32)
        rays[..., :3] = origin
        rays[..., 3:] = directions
        hit = self._scene.cast_rays(o3d.core.Tensor.from_numpy(rays))
        return hit["t_hit"].numpy(), hit["primitive_normals"].numpy()


def boxes(corners: Iterable[tuple[Corner, Corner]]) -> Scene:
    """Make a scene of boxes, each given by its lowest and highest corner, metres."""
    vertices, triangles = [], []
    for k, (low, high) in enumerate(corners):
        ends = np.array((low, high), np.float32)
        chosen = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        vertices.append(np.array([[ends[c[axis], axis] for axis in range(3)] for c in chosen]))
        triangles.append(_BOX + np.uint32(8 * k))
    return Scene(np.concatenate(vertices), np.concatenate(triangles))
