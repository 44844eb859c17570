"""The primary context: current while it is open, and what was current before it afterwards."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from loupe_edge.cuda.context import PrimaryContext, cuda_explained, gpu_arch
from loupe_edge.errors import EngineError


def test_it_is_retained_once_and_left_current_by_nobody(nvidia: Any) -> None:
    """PyCUDA's detach would leave it current; so none happens before the process ends."""
    for _ in range(2):
        with closing(PrimaryContext()):
            assert len(nvidia.gpu.stack) == 1
        assert nvidia.gpu.stack == []
    assert nvidia.gpu.asked == ["retain", "push", "pop", "push", "pop"]


def test_what_was_current_before_is_so_again(nvidia: Any) -> None:
    other = nvidia.driver.Context()
    other.push()
    with closing(PrimaryContext()):
        assert nvidia.gpu.stack[0] is other
        assert len(nvidia.gpu.stack) == 2
    assert nvidia.gpu.stack == [other]


@pytest.mark.parametrize("integrated", [False, True])
def test_it_says_what_it_stands_on(nvidia: Any, integrated: bool) -> None:
    nvidia.gpu.integrated = integrated
    with closing(PrimaryContext()) as primary:
        assert primary.is_integrated is integrated
        assert gpu_arch() == "sm_87"


def test_a_lost_context_is_told_and_closing_it_still_ends(
    nvidia: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(PrimaryContext()) as primary:
        assert not primary.is_lost()
        nvidia.gpu.is_lost = True
        assert primary.is_lost()
    assert "cannot be given back" in caplog.text


def test_an_error_of_cuda_is_one_of_ours(nvidia: Any) -> None:
    said = r"nothing works \(invalid.*loupe-edge doctor"
    with pytest.raises(EngineError, match=said), cuda_explained("nothing works"):
        raise nvidia.driver.LogicError("invalid device context")
