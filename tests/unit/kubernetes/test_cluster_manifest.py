from __future__ import annotations

import json
from typing import Any

import pytest

from jupyter_mlops.cluster_spec import ClusterSpec
from jupyter_mlops.errors import ProfileError, UsageError
from jupyter_mlops.kubernetes import cluster_manifest, contract, manifest, names

from .specs import RUN_ID, profile


def cluster(changes: dict[str, Any] | None = None, **fields: Any) -> ClusterSpec:
    told: dict[str, Any] = {
        "cluster_id": RUN_ID, "name": "gpus", "owner": "ann", "tracking_uri": "https://mlflow.example.org",
        "idle_timeout": 1800.0, "lifetime": 28800.0, "profile": profile(**(changes or {})),
    }  # fmt: skip
    return ClusterSpec(**{**told, **fields})


def variables(job: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("pods", [1, 3])
def test_a_cluster_has_a_service_and_a_certificate_whatever_its_size(pods: int) -> None:
    job = cluster_manifest.job_manifest(cluster({"pods": pods}))
    pod = job["spec"]["template"]["spec"]
    told = variables(job)
    assert pod["subdomain"] == told[contract.SERVICE_VARIABLE] == job["metadata"]["name"]
    assert told[contract.CERTIFICATES_VARIABLE] == contract.CERTIFICATE_DIR
    assert {"name": "certificates", "secret": {"secretName": job["metadata"]["name"], "defaultMode": 0o444}} in pod[
        "volumes"
    ]
    assert pod["containers"][0]["command"] == list(contract.CLUSTER_COMMAND)
    assert job["spec"]["parallelism"] == job["spec"]["completions"] == pods


def test_kubernetes_itself_ends_it_at_the_end_of_its_lifetime() -> None:
    job = cluster_manifest.job_manifest(cluster(lifetime=90.5))
    assert job["spec"]["activeDeadlineSeconds"] == 91
    assert job["spec"]["ttlSecondsAfterFinished"] <= 600


def test_until_it_is_released_it_asks_for_no_pod_and_fails_by_itself() -> None:
    held = cluster_manifest.job_manifest(cluster({"pods": 2}), held=True)
    assert held["spec"]["parallelism"] == 0
    assert held["spec"]["activeDeadlineSeconds"] == manifest.HOLD
    whole = cluster_manifest.job_manifest(cluster({"pods": 2}))
    assert manifest.release(whole) == {"spec": {"parallelism": 2, "activeDeadlineSeconds": 28800}}


def test_its_objects_are_told_from_those_of_runs() -> None:
    job = cluster_manifest.job_manifest(cluster())
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert labels[names.COMPONENT_LABEL] == "cluster"
        assert labels[names.CLUSTER_LABEL] == "gpus"
        assert labels[names.OWNER_LABEL] == "ann"


def test_the_pods_are_told_everything_but_where_the_client_found_them() -> None:
    told = ClusterSpec.model_validate(
        json.loads(variables(cluster_manifest.job_manifest(cluster({"context": "prod"})))[contract.CLUSTER_VARIABLE])
    )
    assert (told.name, told.idle_timeout, told.lifetime, told.profile.context) == ("gpus", 1800.0, 28800.0, None)


def test_what_it_owns_goes_with_it_and_only_the_scheduler_is_open() -> None:
    owner = {"metadata": {"name": "gpus-x", "uid": "u"}}
    owned = cluster_manifest.owned_manifests(
        cluster(), ca="a", certificate="b", key="c", namespace="team-a", owner=owner
    )
    assert set(owned) == {"secrets", "services", "networkpolicies"}
    for thing in owned.values():
        assert thing["metadata"]["ownerReferences"][0]["uid"] == "u"
    rules = owned["networkpolicies"]["spec"]["ingress"]
    assert rules[1] == {"ports": [{"port": 8786, "protocol": "TCP"}]}
    assert rules[0]["from"][0]["podSelector"]["matchLabels"][names.RUN_LABEL] == RUN_ID


def test_pods_that_would_speak_in_the_clear_are_refused() -> None:
    with pytest.raises(ProfileError, match="no certificates"):
        cluster_manifest.check(cluster({"protocol": "ucx"}))
    cluster_manifest.check(cluster())


@pytest.mark.parametrize(
    ("changes", "workers", "pods", "comes_to"),
    [
        ({"pods": 2, "gpus": 8}, 4, 1, 4),
        ({"pods": 2, "gpus": 8}, 5, 2, 8),
        ({"pods": 2, "workers": 2}, 5, 5, 5),
        ({"pods": 2, "workers": 6}, 4, 2, 6),
        ({"pods": 2, "workers": None, "cpus": 8.0, "memory": "64Gi"}, 3, 2, 4),
    ],
)
def test_workers_come_in_whole_pods(changes: dict[str, Any], workers: int, pods: int, comes_to: int) -> None:
    change, total = cluster_manifest.resize(profile(**changes), workers)
    assert change == {"spec": {"parallelism": pods, "completions": pods}}
    assert total == comes_to


def test_a_number_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        cluster_manifest.resize(profile(), 0)
    with pytest.raises(ProfileError, match="not known"):
        cluster_manifest.resize(profile(cpus=None, memory=None, pods=2), 4)
