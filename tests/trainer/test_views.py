"""What each mode of a recipe is given of a frame, and what is learnt from."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from belt_parts import ALL, BELT, TENSORS, UNIT_M, exposure, spec_of

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.pictures import read_rgb
from loupe_models.errors import FrameError
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.gate import ByHeight, GateSpec
from loupe_models.manifest import Mode
from loupe_models.preprocess import PreprocessSpec
from loupe_trainer.cache import cache_tensors
from loupe_trainer.data.item import Item
from loupe_trainer.errors import DataError, RecipeError
from loupe_trainer.golden import GoldenRule, spoil
from loupe_trainer.methods import get_method
from loupe_trainer.progress import SilentProgress
from loupe_trainer.views import View, Views

QUIET = SilentProgress()


class Frames:
    """Frames that are there already, as a data set."""

    belt_from_camera = None
    min_depth_valid = 0.5

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self.items = [Item(f"{i}", f"p{i}", "good", Path("f")) for i in range(len(frames))]
        self.files: Mapping[str, Path] = {}

    def frames(self, items: Sequence[Item]) -> Generator[tuple[Item, Frame], None, None]:
        yield from ((item, self._frames[int(item.key)]) for item in items)

    def mask(self, item: Item) -> None: ...


def views_of(
    gates: Mapping[Mode, GateSpec], specs: Mapping[Mode, PreprocessSpec], belt: Transform = BELT
) -> Views:
    modes = {
        mode: View(gate=gates.get(mode, GateSpec()), preprocess=spec, belt_from_camera=belt)
        for mode, spec in specs.items()
    }
    widest = View(gate=GateSpec(), preprocess=specs["rgbd"], belt_from_camera=belt)
    return Views(modes=modes, widest=widest)


SPECS: Mapping[Mode, PreprocessSpec] = {mode: spec_of(mode) for mode in ALL}


@pytest.fixture(scope="module")
def real_frames(real_data: Path) -> list[Frame]:
    """Structured light over a heap of parts: metres, holes and all, beside its colour."""
    folder = real_data / "rgbd_real" / "clutter_phoxi_dex-net_4.0"
    frames = []
    for i in range(5):
        rgb = np.ascontiguousarray(read_rgb(folder / f"color_{i}.png")[::2, ::2])
        with np.load(folder / f"depth_m_{i}.npz") as held:
            depth_m = held["depth"]
        height, width = depth_m.shape
        depth = (depth_m / UNIT_M).round().astype(np.uint16)
        lens = Intrinsics(width, height, 552.5, 552.5, 255.5, 191.75)
        frames.append(Frame(i, 0, CameraTime(i, "system"), rgb, depth, UNIT_M, lens))
    assert all(0.2 < (f.depth > 0).mean() < 1 for f in frames if f.depth is not None)
    return frames


def test_on_real_frames_a_mode_gets_the_very_bytes_of_the_widest(
    real_frames: list[Frame], tmp_path: Path
) -> None:
    below = belt_from_camera((0.0, 0.0, -1.0), (0.0, 0.0, 1.2))
    views, data = views_of({}, SPECS, below), Frames(real_frames)
    samples = cache_tensors(tmp_path / "c", data, data.items, views, "0" * 64, QUIET)
    assert tuple(samples[0]) == TENSORS["rgbd"]
    assert 0 < samples[0]["valid"].mean() < 1
    for mode in ALL:
        own = samples.of_mode(data.items, mode, TENSORS[mode])
        assert len(own) == 5
        for i, frame in enumerate(real_frames):
            alone = views.modes[mode].tensors(frame)
            assert alone is not None
            assert tuple(own[i]) == tuple(alone) == TENSORS[mode]
            for name, array in alone.items():
                assert own[i][name].dtype == array.dtype
                assert own[i][name].tobytes() == samples[i][name].tobytes() == array.tobytes()


def test_modes_whose_tensors_differ_are_refused(tmp_path: Path) -> None:
    odd = {**SPECS, "depth": spec_of("depth", 24)}
    data = Frames([exposure(i) for i in range(4)])
    with pytest.raises(RecipeError, match="mode depth: its preprocessing makes another xyz"):
        cache_tensors(tmp_path / "c", data, data.items, views_of({}, odd), "0" * 64, QUIET)


def test_each_mode_is_calibrated_on_what_its_own_gate_sees(tmp_path: Path) -> None:
    flat = exposure(1)
    assert flat.depth is not None
    flat = replace(flat, depth=np.full_like(flat.depth, 5200))  # a sheet of paper: no height
    data = Frames([exposure(0), flat, exposure(2)])
    gates: Mapping[Mode, GateSpec] = {"depth": GateSpec(occupied=ByHeight())}
    views = views_of(gates, {mode: spec_of(mode, min_share=0) for mode in ALL})
    samples = cache_tensors(tmp_path / "c", data, data.items, views, "0" * 64, QUIET)
    assert [i.key for i in samples.of(data.items).items] == ["0", "2"]  # learnt by all together
    assert [len(samples.of_mode(data.items, m, TENSORS[m])) for m in ALL] == [3, 2, 3]


def test_a_part_that_depth_does_not_show_is_not_learnt_from(tmp_path: Path) -> None:
    flat = exposure(1)
    assert flat.depth is not None
    data = Frames([exposure(0), replace(flat, depth=np.full_like(flat.depth, 5200))])
    with pytest.raises(DataError, match=r"f, 1: 0.0% of the region stands above the belt"):
        cache_tensors(tmp_path / "c", data, data.items, views_of({}, SPECS), "0" * 64, QUIET)


def test_a_frame_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    data = Frames([exposure(0), replace(exposure(1), depth=None)])
    with pytest.raises(DataError, match="f, 1: the bundle looks at depth") as refused:
        cache_tensors(tmp_path / "c", data, data.items, views_of({}, SPECS), "0" * 64, QUIET)
    assert isinstance(refused.value.__cause__, FrameError)


@pytest.mark.parametrize(("factor", "unit"), [(1000, "millimetres"), (0.001, "metres that were")])
def test_nothing_is_learnt_from_depth_in_another_unit(
    tmp_path: Path, factor: float, unit: str
) -> None:
    data = Frames([exposure(0), replace(exposure(1), depth_scale_m=UNIT_M * factor)])
    told = rf"f, 1: depths of .* m; are these {unit}.*The depth scale is {UNIT_M * factor:g} m"
    with pytest.raises(DataError, match=told):
        cache_tensors(tmp_path / "c", data, data.items, views_of({}, SPECS), "0" * 64, QUIET)


def test_a_part_without_colour_is_spoiled_in_depth() -> None:
    rule = GoldenRule(views_of({}, SPECS).modes["depth"], None, 0.0, 0.0)  # type: ignore[arg-type]
    frame = rule.less_unused(exposure(0))
    assert frame.rgb is None
    assert frame.depth is not None
    frame = replace(frame, depth=np.where(np.eye(48, 64) > 0, 0, frame.depth).astype(np.uint16))
    spoiled = [s.depth.astype(int) for s in spoil(frame, Rect(8, 6, 48, 36)) if s.depth is not None]
    assert len(spoiled) == 15
    assert frame.depth is not None
    moved = [frame.depth.astype(int) - s for s in spoiled]
    assert all((m >= 0).all() for m in moved)  # nearer, and holes stay holes
    assert [int(m.max()) for m in moved[:5]] == sorted(int(m.max()) for m in moved[:5])
    assert moved[4].max() == 300  # 3 cm
    assert not any(m[:6].any() or m[42:].any() for m in moved)


def test_a_mode_that_a_method_does_not_serve(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="modes: efficientad serves rgb, not 'depth'"):
        get_method("efficientad", {}, 0, tmp_path, ("rgb", "depth"))
