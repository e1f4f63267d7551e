"""What every browser test shares: a Chromium, a JupyterLab, and a place for pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .lab import Lab, find_chromium, running_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

# Read here, because each test runs in a scrubbed environment.
_PICTURES = os.environ.get("JUPYTER_MLOPS_SCREENSHOTS")


@pytest.fixture(scope="session")
def chromium() -> str:
    found = find_chromium()
    if found is None:
        reason = "no Chromium or Chrome on this machine: sh tests/chromium.sh says how to get one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if _PICTURES is None:
        return tmp_path_factory.mktemp("pictures")
    path = Path(_PICTURES)
    path.mkdir(parents=True, exist_ok=True)
    return path
