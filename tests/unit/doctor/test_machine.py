from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.doctor import cluster, diagnose
from jupyter_mlops.doctor.check import Check, State, settle
from jupyter_mlops.doctor.machine import (
    LEAST_SPACE,
    data_directory_check,
    gpus_check,
    kernel_check,
    mlflow_check,
    packages_check,
    requirements_check,
    space_check,
    store_check,
)
from jupyter_mlops.errors import ConfigError
from jupyter_mlops.profile import Profile

REQUIRED = ["alembic>=1.13", "mlflow>=3.5", 'dask-cuda>=24.8; extra == "gpu"', 'pywin32>=1; sys_platform == "win32"']


@pytest.mark.parametrize(
    ("installed", "state", "words"),
    [
        ({"alembic": "1.13", "mlflow": "3.6rc1"}, State.OK, "MLflow 3.6rc1"),
        ({"alembic": "1.13", "mlflow": "3.4.9"}, State.PROBLEM, "mlflow 3.4.9 (needs >=3.5)"),
        ({"mlflow": "3.5"}, State.PROBLEM, "alembic is missing"),
        ({"alembic": "1.13", "mlflow": "3.5", "dask-cuda": "23.1"}, State.PROBLEM, "dask-cuda 23.1"),
    ],
)
def test_versions_are_held_against_what_is_asked_for_and_extras_only_where_they_are_installed(
    installed: dict[str, str], state: State, words: str
) -> None:
    found = requirements_check(REQUIRED, installed, about="jupyter-mlops 1")
    assert found.state is state
    assert words in found.message
    assert "pywin32" not in found.message or sys.platform == "win32"
    assert bool(found.remedy) is (state is State.PROBLEM)


def test_the_environment_of_these_tests_is_whole() -> None:
    assert packages_check().state is State.OK
    assert kernel_check().state is State.OK
    assert sys.executable in kernel_check().message


def test_a_kernel_whose_interpreter_cannot_start_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    program = tmp_path / "broken-python"
    program.write_text("#!/bin/sh\necho 'No module named ipykernel' >&2\nexit 1\n")
    program.chmod(0o755)
    place = tmp_path / "kernels" / "python3"
    place.mkdir(parents=True)
    for start, words in ((program, "No module named ipykernel"), (tmp_path / "gone", "which is not there")):
        spec = {"argv": [str(start), "{connection_file}"], "display_name": "x", "language": "python"}
        (place / "kernel.json").write_text(json.dumps(spec))
        found = kernel_check()
        assert found.state is State.PROBLEM
        assert words in found.message
        assert "ipykernel install" in found.remedy


def test_the_data_directory_is_written_to_and_measured(tmp_path: Path) -> None:
    assert data_directory_check(MLOps()).state is not State.UNKNOWN
    assert str(tmp_path / "data") in data_directory_check(MLOps()).message
    assert space_check(tmp_path, LEAST_SPACE).state is State.OK
    short = space_check(tmp_path, LEAST_SPACE // 2)
    assert (short.state, "512 MiB left" in short.message) == (State.PROBLEM, True)


def test_a_data_directory_that_cannot_be_made_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JUPYTER_MLOPS_DATA_DIR", str(tmp_path / "file" / "data"))
    found = settle("data directory", lambda: data_directory_check(MLOps()))
    assert found.state is State.PROBLEM
    assert "cannot be made" in found.message


def test_the_store_opens_or_says_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "schema" in store_check(MLOps()).message
    (tmp_path / "no.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("JUPYTER_MLOPS_STORE_URL", f"sqlite:///{tmp_path / 'no.db'}")
    assert settle("store", lambda: store_check(MLOps())).state is State.PROBLEM


def test_mlflow_that_is_away_is_a_problem_and_its_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mlflow_check(MLOps()).state is State.OK
    with socket.socket() as reserved:  # bound and not listening: refused at once, and nobody else gets the port
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{reserved.getsockname()[1]}")
        found = settle("MLflow", lambda: mlflow_check(MLOps(mlflow_wait=1)))
    assert found.state is State.PROBLEM
    assert "secret" not in found.message + found.remedy


@pytest.mark.parametrize(
    ("gpus", "asked", "state"),
    [
        (None, 0, State.OK), (None, 1, State.PROBLEM), (("H100",), 1, State.OK), (("H100",), 2, State.PROBLEM),
        ((), 0, State.OK),
    ],
)  # fmt: skip
def test_gpus_are_a_problem_only_where_the_profile_wants_more_than_there_are(
    gpus: tuple[str, ...] | None, asked: int, state: State
) -> None:
    assert gpus_check(gpus, asked).state is state


def _by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_one_failing_check_hides_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("JUPYTER_MLOPS_STORE_URL", f"sqlite:///{tmp_path / 'no.db'}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "no.db" / "x"))
    found = _by_name(diagnose(MLOps))
    assert list(found) == ["settings", "packages", "data directory", "store", "MLflow", "kernel", "GPU"]
    assert found["store"].state is found["MLflow"].state is State.PROBLEM
    assert found["packages"].state is found["kernel"].state is State.OK


def test_settings_that_cannot_be_read_are_a_finding_beside_what_needs_none() -> None:
    def load() -> MLOps:
        raise ConfigError("The configuration file fails.")

    found = _by_name(diagnose(load))
    assert found["settings"] == Check("settings", State.PROBLEM, "The configuration file fails.")
    assert set(found) == {"settings", "packages", "kernel"}


def test_a_kubernetes_profile_without_a_kubeconfig_is_looked_at_as_far_as_can_be() -> None:
    config = MLOps()
    config.profiles = {"far": {"runner": "kubernetes", "image": "registry.example.org/a/b:1", "queue": "team"}}
    os.environ.pop("KUBECONFIG", None)
    found = _by_name(diagnose(lambda: config, "far"))
    assert found["kubeconfig"].state is State.PROBLEM
    assert found["image"].state is State.PROBLEM
    assert found["MLflow from pods"].state is State.PROBLEM  # SQLite on this machine
    for name in ("API server", "version", "rights", "quota", "queue", "pod security"):
        assert found[name].state is State.UNKNOWN


def test_an_api_server_that_is_away_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.0)
    with socket.socket() as reserved:  # bound and not listening
        reserved.bind(("127.0.0.1", 0))
        kubeconfig = {
            "current-context": "a", "users": [],
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": ""}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{reserved.getsockname()[1]}"}}],
        }  # fmt: skip
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        found = _by_name(cluster.cluster_checks(Profile(name="far", runner="kubernetes"), "https://mlflow.example.org"))
    assert found["kubeconfig"].state is State.OK
    assert found["API server"].state is State.PROBLEM
    assert found["rights"].state is State.UNKNOWN
    assert "queue" not in found
