"""The examples: tidy as files, and they run, with us and in plain Jupyter."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
CURVES = {
    "classification": "val_loss",
    "regression_dask": "cv_error",
    "time_series": "model_error",
}
"""A metric of each with more than one step."""
CO2_SHA256 = "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f"


def test_every_example_is_known_here() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(CURVES)


def test_the_data_is_the_file_that_was_published() -> None:
    data = (EXAMPLES / "data" / "mauna_loa_co2_weekly.csv").read_bytes()
    assert hashlib.sha256(data).hexdigest() == CO2_SHA256
    assert CO2_SHA256 in (EXAMPLES / "data" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_example_is_a_clean_notebook(path: Path) -> None:
    nb = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(nb)
    assert (nb.nbformat, nb.nbformat_minor) == (4, 5)
    assert nb.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in nb.cells]
    assert len(set(ids)) == len(ids)
    for cell in nb.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            compile(cell.source, f"{path.name}:{cell.id}", "exec")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_parameters_of_an_example_have_types_and_help(path: Path) -> None:
    nb = nbformat.read(path, as_version=4)
    [cell] = [cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    lines = cell.source.splitlines()
    for statement in ast.parse(cell.source).body:
        line = lines[statement.lineno - 1]
        assert "  # " in line, line
        assert isinstance(statement, ast.AnnAssign) or line.startswith("client = None"), line


def _copied(path: Path, directory: Path) -> Path:
    shutil.copytree(EXAMPLES, directory, ignore=shutil.ignore_patterns("mlruns", ".ipynb_checkpoints"))
    return directory / path.name


def _steps(uri: str, metric: str) -> int:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    [run] = client.search_runs(experiments)
    return len(client.get_metric_history(run.info.run_id, metric))


@pytest.mark.integration
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_example_runs_in_plain_jupyter(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    copy = _copied(path, tmp_path / "examples")
    nb = nbformat.read(copy, as_version=4)
    NotebookClient(nb, timeout=300, resources={"metadata": {"path": str(copy.parent)}}).execute()
    assert _steps(uri, CURVES[path.stem]) > 1


@pytest.mark.integration
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_example_runs_with_the_command(path: Path, tmp_path: Path) -> None:
    copy = _copied(path, tmp_path / "examples")
    jupyter = [sys.executable, "-m", "jupyter_mlops.cli"]
    trained = subprocess.run(
        [*jupyter, "train", str(copy), "--wait"], capture_output=True, text=True, timeout=300, check=False
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    shown = subprocess.run([*jupyter, "show", "@last", "--json"], capture_output=True, text=True, check=True)
    record = json.loads(shown.stdout)
    assert record["state"] == "succeeded"
    uri = f"sqlite:///{Path(os.environ['JUPYTER_MLOPS_DATA_DIR']) / 'mlflow.db'}"
    assert _steps(uri, CURVES[path.stem]) > 1
