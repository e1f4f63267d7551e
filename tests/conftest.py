"""Fixtures for every test: a temporary home, a scrubbed environment, notebooks made from cells."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# A slow or busy machine is no fault of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PYTEST_CURRENT_TEST",
        "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "VIRTUAL_ENV", "CI", "COVERAGE_PROCESS_START")  # fmt: skip


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own and none of the caller's variables, so that nothing of the user's is read or written."""
    for name in list(os.environ):
        if name not in KEPT:
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": home,
        "JUPYTER_MLOPS_DATA_DIR": tmp_path / "data",
        "JUPYTER_CONFIG_DIR": tmp_path / "config",
        "JUPYTER_RUNTIME_DIR": tmp_path / "runtime",
        "IPYTHONDIR": tmp_path / "ipython",
        "MPLCONFIGDIR": tmp_path / "matplotlib",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "JUPYTER_MLOPS_WARM_SECONDS": "0",  # nothing of a test may stay; tests of engines that wait set it
    }.items():
        monkeypatch.setenv(name, str(value))
    return home


@pytest.fixture
def make_notebook(tmp_path: Path) -> Callable[..., Path]:
    """Write a notebook from code cells; a cell given as (source, tag) is tagged.

    Called as `make_notebook("x = 1", ("lr = 0.1", "parameters"), name="train.ipynb")`.
    """

    def make(*cells: str | tuple[str, str], name: str = "notebook.ipynb", kernel: str = "python3") -> Path:
        from nbformat import v4

        nb = v4.new_notebook()
        nb.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        nb.metadata["language_info"] = {"name": "python"}
        for cell in cells:
            source, tags = (cell, []) if isinstance(cell, str) else (cell[0], [cell[1]])
            nb.cells.append(v4.new_code_cell(source, metadata={"tags": tags} if tags else {}))
        import nbformat

        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, path)
        return path

    return make
