"""Sampling, grouping and the nearest centres: index for index the reference's, ties and all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from clouds import CLOUDS, RNG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.layout import Layout, make_layout
from loupe_edge.cuda.memory import Memory
from loupe_edge.cuda.steps import group_around_centres
from loupe_models.errors import FrameError
from loupe_models.frame import Rect
from loupe_models.groups import group_points
from loupe_models.points import Grid, grid_points, sample_farthest
from loupe_models.preprocess import PreprocessSpec

Arrays = Mapping[str, npt.NDArray[np.generic]]
MORE_CLOUDS = CLOUDS | {
    "far off": RNG.integers(-30, 30, (300, 3)) + 900_000,
    "many": RNG.integers(-2_000, 2_000, (2_900, 3)),
}
Cloud = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]


def cloud_of(points: Grid, width: int = 20, hole_share: float = 0.0) -> Cloud:
    """Lay points out row by row, with invalid pixels among them that must not matter."""
    rng = np.random.default_rng(0)
    n_px = -(-int(len(points) / (1 - hole_share)) // width) * width
    where = np.sort(rng.permutation(n_px)[: len(points)])
    xyz, valid = np.zeros((n_px, 3), np.float32), np.zeros(n_px, np.uint8)
    xyz[where], valid[where] = points / 1e5, 1
    return xyz.reshape(-1, width, 3), valid.reshape(-1, width)


def layout_of(cloud: Cloud, n_centres: int, size: int) -> Layout:
    height, width = cloud[1].shape
    plain = make_layout((width, height), Rect(0, 0, width, height), PreprocessSpec(steps=()))
    return dataclasses.replace(plain, n_centres=n_centres, group_size=size)


def on_device(device: PyCudaDevice, cloud: Cloud, n_centres: int, size: int) -> Arrays:
    memory = Memory(device)
    there = {"xyz": memory.frame("xyz", cloud[0]), "valid": memory.frame("valid", cloud[1])}
    made = group_around_centres(memory, there, layout_of(cloud, n_centres, size))
    read = device.read(list(made.values()))
    memory.close()
    return {name: array[0] for name, array in zip(made, read, strict=True)}


def reference(cloud: Cloud, n_centres: int, size: int) -> Arrays:
    return group_points(*cloud, sample_farthest(grid_points(*cloud), n_centres), size)


def differing(front: GpuFront, cloud: Cloud, n_centres: int, size: int) -> set[str]:
    """Name the tensors that are not the reference's, to the byte and to the type."""
    ours = on_device(front.device, cloud, n_centres, size)
    right = reference(cloud, n_centres, size)
    return set(ours) ^ set(right) | {
        name
        for name in set(ours) & set(right)
        if ours[name].dtype != right[name].dtype or ours[name].tobytes() != right[name].tobytes()
    }


@pytest.mark.parametrize("points", MORE_CLOUDS.values(), ids=MORE_CLOUDS.keys())
@pytest.mark.parametrize(("n_centres", "size"), [(60, 32), (8, 2), (33, 130)])
def test_equal_to_the_reference(front: GpuFront, points: Grid, n_centres: int, size: int) -> None:
    assert not differing(front, cloud_of(points), n_centres, size)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=8, max_size=60),
    size=st.integers(2, 8),
)
def test_equal_whatever_the_ties(
    front: GpuFront, places: list[tuple[int, int, int]], size: int
) -> None:
    assert not differing(
        front, cloud_of(np.array(places, np.int64), width=7, hole_share=0.3), 8, size
    )


def test_holes_are_no_points(front: GpuFront) -> None:
    for hole_share in (0.1, 0.5, 0.9):
        assert not differing(front, cloud_of(CLOUDS["random"], 17, hole_share), 40, 16)


def test_more_centres_than_pass_through_shared_memory_at_once(front: GpuFront) -> None:
    assert not differing(front, cloud_of(MORE_CLOUDS["many"][:400], 50), 300, 8)


def test_the_largest_group(front: GpuFront) -> None:
    assert not differing(front, cloud_of(MORE_CLOUDS["many"], 50), 8, 1024)
    assert not differing(
        front, cloud_of(CLOUDS["random"][:90]), 90, 90
    )  # every point a centre, in every group


def test_a_real_cloud(front: GpuFront, real_data: Path) -> None:
    folder = real_data / "rgbd_real" / "clutter_phoxi_dex-net_4.0"
    with np.load(folder / "depth_m_0.npz") as file:
        z = file[file.files[0]].astype(np.float32)[100:280:3, 120:400:5]
    v, u = np.mgrid[100:280:3, 120:400:5]
    xyz = np.stack([(u - 255.5) / 552.5 * z, (v - 191.75) / 552.5 * z, z], axis=-1)
    valid = (z > 0).astype(np.uint8)
    assert 1000 < valid.sum() < valid.size
    assert not differing(front, (xyz.astype(np.float32), valid), 64, 32)


@pytest.mark.parametrize("n_points", [0, 5, 20])
def test_too_few_points_are_refused_in_the_same_words(front: GpuFront, n_points: int) -> None:
    cloud = cloud_of(CLOUDS["random"])
    cloud[1].ravel()[n_points:] = 0
    with pytest.raises(FrameError) as ours:
        on_device(front.device, cloud, 16, 64)
    with pytest.raises(FrameError) as right:
        reference(cloud, 16, 64)
    assert str(ours.value) == str(right.value)


def test_points_too_far_apart_are_refused_in_the_same_words(front: GpuFront) -> None:
    points = CLOUDS["random"].copy()
    points[7, 1] = 10**8
    cloud = cloud_of(points)
    with pytest.raises(FrameError) as ours:
        on_device(front.device, cloud, 8, 8)
    with pytest.raises(FrameError) as right:
        reference(cloud, 8, 8)
    assert str(ours.value) == str(right.value)
    cloud[0][..., 2] = 1e9
    with pytest.raises(FrameError, match="are these millimetres"):
        on_device(front.device, cloud, 8, 8)
