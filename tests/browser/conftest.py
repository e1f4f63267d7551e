"""What every browser test shares: a Chromium, a JupyterLab, and a place for pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import kill_processes_of
from tests.integration.conftest import mlflow_database as mlflow_database  # noqa: PLC0414 - a fixture here too

from .lab import Lab, find_chromium, running_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
BUILT = REPOSITORY / "jupyter_mlops" / "labextension" / "package.json"

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


@pytest.fixture(scope="module")
def panel_data(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Path:
    """The data directory of `panel_lab`; MLflow's database is there already."""
    data = tmp_path_factory.mktemp("data")
    shutil.copy(mlflow_database, data / "mlflow.db")
    return data


@pytest.fixture(scope="module")
def panel_lab(chromium: str, tmp_path_factory: pytest.TempPathFactory, panel_data: Path) -> Iterator[Lab]:
    """A JupyterLab with the built extension and a data directory of its own."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)  # the machine may be slow: what is expected comes late, or not at all
    if not BUILT.is_file():
        pytest.fail(f"{BUILT.relative_to(REPOSITORY)} is missing: make labextension builds it")
    with running_lab(tmp_path_factory.mktemp("root"), {"JUPYTER_MLOPS_DATA_DIR": str(panel_data)}) as running:
        yield running
    kill_processes_of(panel_data)
