"""What ails a station is told once."""

from __future__ import annotations

import logging

import pytest

from loupe_edge.health import Health


@pytest.fixture
def health(caplog: pytest.LogCaptureFixture) -> Health:
    caplog.set_level(logging.INFO, logger="loupe_edge.health")
    return Health()


def test_one_cause_is_told_once(health: Health, caplog: pytest.LogCaptureFixture) -> None:
    health.ail("camera", "fault", "camera 1 is not connected")
    health.ail("service", "fault", "camera 1 is not connected")
    assert caplog.messages == ["camera is fault: camera 1 is not connected"]
    health.ail("journal", "degraded", "disk full")
    assert len(caplog.messages) == 2


def test_a_first_start_is_no_recovery(health: Health, caplog: pytest.LogCaptureFixture) -> None:
    health.ail("service", "starting", "proving the bundle")
    health.heal("service")
    assert caplog.messages == ["service is starting: proving the bundle"]
    health.ail("camera", "degraded", "no rgb")
    health.heal("camera")
    assert caplog.messages[-1] == "camera is well again"
