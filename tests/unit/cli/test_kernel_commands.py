from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jupyter_mlops.cli.app import mlops


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    profiles = {"gpu": {"runner": "kubernetes", "image": "a/b:1", "gpus": 1}, "small": {"cpus": 1}}
    (tmp_path / "config" / "jupyter_mlops_config.py").write_text(f"c.MLOps.profiles = {profiles!r}\n")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(mlops, ["kernels", *arguments], prog_name="jupyter mlops")


def test_kernelspecs_are_installed_listed_and_removed() -> None:
    assert "mlops-gpu: Python on gpu (1 GPU, Kubernetes)" in invoke("install").output
    listed = invoke("list")
    assert listed.exit_code == 0
    assert "mlops-gpu" in listed.output
    # Kernelspecs are shown although the Kubernetes cannot be asked, and that it cannot is said.
    assert "There is no kubeconfig" in listed.output
    found = json.loads(invoke("list", "--json").output)
    assert [each["profile"] for each in found["kernelspecs"]] == ["gpu"]
    assert found["kernels"] == []
    assert "Removed mlops-gpu" in invoke("remove", "gpu").output
    assert json.loads(invoke("list", "--json").output)["kernelspecs"] == []


def test_a_profile_of_this_machine_has_no_kernel_in_a_pod() -> None:
    found = invoke("install", "small")
    assert found.exit_code == 2
    assert "'small' is not on Kubernetes" in found.output
