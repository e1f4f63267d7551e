from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import pytest

from jupyter_mlops.doctor.check import Check, State
from jupyter_mlops.doctor.pod import gpu_check, judge, mlflow_check, names_check, pulled, scratch_check, versions_check
from jupyter_mlops.kubernetes import contract
from jupyter_mlops.kubernetes.versions import TOLD
from jupyter_mlops.profile import Profile


def profile(**fields: Any) -> Profile:
    return Profile(**{"name": "cluster", "runner": "kubernetes", "image": "a/b:1", **fields})


def report(**fields: Any) -> dict[str, Any]:
    return {
        "version": contract.VERSION, "python": platform.python_version(),
        "packages": {name: version(name) for name in TOLD}, "node": "n", "gpus": None, "driver": "",
        "scratch": {"/work": {"error": "", "free": 2**30}}, "names": {"kubernetes.default.svc": ""},
        "mlflow": {"message": "", "hint": ""}, **fields,
    }  # fmt: skip


def test_a_pod_in_which_all_is_well_is_ok_in_every_line() -> None:
    assert {check.state for check in judge(report(), profile())} == {State.OK}


def test_what_is_known_of_mlflow_without_asking_stands() -> None:
    known = Check("MLflow from the pod", State.PROBLEM, "It is on this machine.")
    assert known in judge(report(mlflow=None), profile(), known)


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"python": "3.8.1"}, State.PROBLEM, "Python 3.8"),
        ({"version": "0"}, State.PROBLEM, "another version of the pods' contract"),
        ({"packages": {"dask": "1.0"}}, State.OK, "dask 1.0 (not"),
    ],
)
def test_versions_are_a_problem_where_something_cannot_work(changes: dict[str, Any], state: State, words: str) -> None:
    found = versions_check(report(**changes), profile())
    assert (found.state, words in found.message) == (state, True), found


@pytest.mark.parametrize(
    ("gpus", "asked", "state", "words"),
    [
        (None, 0, State.OK, "asks for none"),
        ([], 0, State.OK, "asks for none"),
        (None, 2, State.PROBLEM, "no NVIDIA driver answers"),
        (["H100"], 2, State.PROBLEM, "sees 1"),
        (["H100", "H100"], 2, State.OK, "2 visible: H100, H100, driver 550"),
        (["H100"], 0, State.PROBLEM, "given 0 GPUs and sees 1"),
    ],
)
def test_gpus_are_those_that_were_given(gpus: list[str] | None, asked: int, state: State, words: str) -> None:
    found = gpu_check(report(gpus=gpus, driver="550"), profile(gpus=asked))
    assert (found.state, words in found.message) == (state, True), found


def test_an_mlflow_that_refuses_the_pod_names_the_secrets_that_log_it_in() -> None:
    refusal = {"message": "MLflow does not accept the login.", "hint": ""}
    found = mlflow_check(refusal, profile(env_from_secrets=["mlflow-login"]))
    assert found.state is State.PROBLEM
    assert "mlflow-login" in found.remedy


def test_directories_and_names_are_told_by_name() -> None:
    found = scratch_check({"/work": {"error": "Read-only file system", "free": 0}, "/tmp": {"error": "", "free": 1}})
    assert (found.state, "/work (Read-only file system)" in found.message, "/tmp" in found.message) == (
        State.PROBLEM, True, False
    )  # fmt: skip
    assert scratch_check({}).state is State.PROBLEM
    assert "mlflow.example.org (no address)" in names_check({"mlflow.example.org": "no address"}).message
    assert names_check({"a": ""}).state is State.OK


def test_how_long_the_pull_took_is_read_from_the_events() -> None:
    pull = {"reason": "Pulled", "message": 'Successfully pulled image "a/b:1" in 12.3s (14s including waiting). Image'}
    assert pulled([{"reason": "Scheduled"}, pull]) == "its image was pulled in 12.3s"
    there = {"reason": "Pulled", "message": 'Container image "a/b:1" already present on machine'}
    assert "already" in pulled([there])
    assert pulled([]) == "its image was there"
