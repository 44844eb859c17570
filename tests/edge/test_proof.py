"""A bundle speaks only where its golden frames give their answers."""

from __future__ import annotations

import pytest

from loupe_edge.engines import open_engine
from loupe_edge.proof import prove
from loupe_models.bundle import Bundle


@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
def test_golden_frames_repeat_on_this_device(tiny_bundle: Bundle, mode: str):
    engine = open_engine(tiny_bundle, mode)
    report = prove(tiny_bundle, mode, engine)
    assert report.n_golden == 2
    assert max(report.errors) <= report.tolerance
    engine.close()
