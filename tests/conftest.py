"""Fixtures that more than one department's tests use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run from."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs and RGB-D frames, which is never part of the repository."""
    told = os.environ.get("LOUPE_DATA")
    folder = Path(told) if told else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set LOUPE_DATA to the folder that holds it")
    return folder
