from __future__ import annotations

from typing import Any

import pytest

from jupyter_mlops.doctor.check import State, settle
from jupyter_mlops.doctor.cluster import (
    image_check,
    pod_security_check,
    pods_mlflow_check,
    queue_check,
    quota_check,
    rights_check,
    secrets_check,
    version_check,
)
from jupyter_mlops.kubernetes.rights import RIGHTS
from jupyter_mlops.profile import Profile

DIGEST = "registry.example.org/team/train@sha256:" + "9f" * 32


def profile(**fields: Any) -> Profile:
    return Profile(**{"name": "cluster", "runner": "kubernetes", **fields})


def quota(**amounts: tuple[str, str]) -> dict[str, Any]:
    names = {"gpu": "requests.nvidia.com/gpu", "cpu": "requests.cpu", "memory": "requests.memory"}
    hard = {names[key]: value[0] for key, value in amounts.items()}
    used = {names[key]: value[1] for key, value in amounts.items()}
    return {"spec": {"hard": hard}, "status": {"hard": hard, "used": used}}


@pytest.mark.parametrize(
    ("image", "state", "words"),
    [
        (None, State.PROBLEM, "names no image"),
        ("registry.example.org/team/train:1", State.PROBLEM, "not pinned"),
        (DIGEST, State.OK, "pinned by digest"),
    ],
)
def test_an_image_is_given_and_pinned_by_digest(image: str | None, state: State, words: str) -> None:
    found = image_check(profile(image=image))
    assert (found.state, words in found.message) == (state, True)


def test_an_mlflow_that_no_pod_can_reach_is_a_problem_and_one_that_might_is_not_known() -> None:
    for uri in ("sqlite:////x/mlflow.db", "http://127.0.0.1:5000", "https://ann:secret@mlflow.example.org"):
        found = settle("MLflow from pods", lambda uri=uri: pods_mlflow_check(uri))
        assert found.state is State.PROBLEM
        assert "secret" not in found.message
    assert pods_mlflow_check("https://mlflow.example.org").state is State.UNKNOWN


def test_secrets_are_named_and_never_read() -> None:
    found = secrets_check(profile(env_from_secrets=["mlflow-login"], image_pull_secrets=["registry"]))
    assert found.state is State.UNKNOWN
    assert "mlflow-login, registry" in found.message


@pytest.mark.parametrize(
    ("version", "state", "words"),
    [
        ((1, 28), State.PROBLEM, "1.29 or newer"),
        ((1, 29), State.OK, "without successPolicy"),
        ((1, 31), State.OK, "Kubernetes is 1.31."),
        ((2, 0), State.OK, "Kubernetes is 2.0."),
    ],
)
def test_the_version_is_held_against_what_runs_need(version: tuple[int, int], state: State, words: str) -> None:
    found = version_check(version)
    assert (found.state, words in found.message) == (state, True)


def test_a_right_that_is_missing_is_named_with_the_command_that_prints_the_role() -> None:
    jobs = next(right for right in RIGHTS if right.resource == "jobs")
    quotas = next(right for right in RIGHTS if right.resource == "resourcequotas")
    found = rights_check([(jobs, "delete"), (quotas, "list")], namespace="team-a")
    assert found.state is State.PROBLEM
    assert "delete jobs.batch" in found.message
    assert "resourcequotas" not in found.message
    assert "jupyter mlops rbac --namespace team-a" in found.remedy
    optional = rights_check([(quotas, "list")], namespace="team-a")
    assert optional.state is State.OK
    assert "list resourcequotas" in optional.message
    assert rights_check([], namespace="team-a").remedy == ""


def test_a_quota_that_the_profile_does_not_fit_into_is_told_in_amounts() -> None:
    quotas = [quota(gpu=("4", "3"), memory=("64Gi", "32Gi"))]
    found = quota_check(profile(gpus=2, memory="16Gi"), quotas, namespace="team-a")
    assert found.state is State.PROBLEM
    assert "1 GPU left, 2 GPUs asked for" in found.message
    assert "memory" not in found.message
    assert "64 GiB memory asked for" in quota_check(profile(memory="64Gi"), quotas, namespace="n").message
    fits = quota_check(profile(gpus=1, memory="32Gi"), quotas, namespace="team-a")
    assert (fits.state, fits.message) == (State.OK, "Left in team-a: 1 GPU, 32 GiB memory.")


def test_quotas_that_are_not_there_or_not_readable_are_no_problem() -> None:
    assert quota_check(profile(gpus=8), [], namespace="n").state is State.OK
    assert quota_check(profile(gpus=8), None, namespace="n").state is State.UNKNOWN


def test_a_queue_must_be_there_and_admit() -> None:
    closed = {"status": {"conditions": [{"type": "Active", "status": "False", "reason": "ClusterQueueIsInactive"}]}}
    assert queue_check("q", None, namespace="n").state is State.PROBLEM
    assert "ClusterQueueIsInactive" in queue_check("q", closed, namespace="n").message
    assert queue_check("q", {"status": {}}, namespace="n").state is State.OK


def test_the_pod_security_level_is_told() -> None:
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    assert "'baseline'" in pod_security_check({"metadata": {"labels": labels}}, "n").message
    assert pod_security_check({"metadata": {}}, "n").state is State.OK
