"""What `jupyter_mlops.kubernetes` decides without a cluster holds on a real one: the API server takes the manifests, and
the words that `explain` reads are those that Kubernetes says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes import client as k

from jupyter_mlops.kubernetes import contract, manifest, names
from jupyter_mlops.kubernetes.capacity import capacity
from jupyter_mlops.kubernetes.reasons import Reason, Stage, explain
from jupyter_mlops.kubernetes.rights import role_manifest
from jupyter_mlops.states import FailureCode
from tests.unit.kubernetes import golden
from tests.unit.kubernetes.specs import spec

from . import access
from .pods import PATIENCE

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from .context import Context

pytestmark = pytest.mark.cluster

GPU = "nvidia.com/gpu"
PATHS = {
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Service": "/api/v1/namespaces/{}/services",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
}


class Cluster:
    """Calls to the API server that give and take its own JSON."""

    def __init__(self, admin: ApiClient, namespace: str, image: str) -> None:
        self.admin, self.namespace, self.image = admin, namespace, image
        self.runs = 0

    def call(self, method: str, path: str, body: Any = None, query: str = "") -> dict[str, Any]:
        answer = self.admin.rest_client.request(
            method,
            f"{self.admin.configuration.host}{path}{query}",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=body,
        )
        found: dict[str, Any] = json.loads(answer.read())
        assert answer.status < 400, found.get("message")
        return found

    def create(self, thing: dict[str, Any], query: str = "") -> dict[str, Any]:
        return self.call("POST", PATHS[thing["kind"]].format(self.namespace), thing, query)

    def items(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", path)["items"]
        return found

    def run(self, profile: dict[str, Any] | None = None, *command: str, **changes: Any) -> str:
        """Make the Job of a run whose container does this instead of ours; returns its name."""
        self.runs += 1
        asked = {"image": self.image, "cpus": 0.1, "memory": "64Mi", "namespace": self.namespace, **(profile or {})}
        run = spec(asked, run_id=f"{self.runs:012x}", **changes)
        job = manifest.job_manifest(run)
        template = job["spec"]["template"]["spec"]
        template["terminationGracePeriodSeconds"] = 1
        if command:
            template["containers"][0]["command"] = list(command)
            template["securityContext"]["runAsUser"] = 65534
        self.create(job)
        return names.job_name(run)

    def look(self, name: str) -> Reason:
        inside = f"/api/v1/namespaces/{self.namespace}"
        return explain(
            self.call("GET", f"{PATHS['Job'].format(self.namespace)}/{name}"),
            pods=self.items(f"{inside}/pods?labelSelector={names.JOB_LABEL}%3D{name}"),
            events=self.items(f"{inside}/events"),
            nodes=self.items("/api/v1/nodes"),
            all_pods=self.items("/api/v1/pods"),
        )

    def wait(self, name: str, fits: Callable[[Reason], bool]) -> Reason:
        until = time.monotonic() + PATIENCE
        while not fits(found := self.look(name)):
            assert time.monotonic() < until, f"{name} came only to {found}"
            time.sleep(0.3)
        return found

    def cause(self, name: str, *causes: str) -> Reason:
        return self.wait(name, lambda reason: reason.cause in causes)


@pytest.fixture
def cluster(context: Context, admin: ApiClient, namespace: str) -> Iterator[Cluster]:
    yield Cluster(admin, namespace, context.base_image)
    # First: a Job replaces the pods that are deleted with the namespace.
    k.BatchV1Api(admin).delete_collection_namespaced_job(namespace, propagation_policy="Background")


@pytest.fixture
def gpus(own: Context, admin: ApiClient) -> Iterator[int]:
    """A node that says that it has four."""
    access.advertise(admin, GPU, 4)
    yield 4
    access.advertise(admin, GPU, None)


@pytest.mark.parametrize("name", golden.CASES)
def test_the_api_server_takes_every_manifest_whole_where_the_restricted_standard_holds(
    cluster: Cluster, name: str
) -> None:
    for each in golden.CASES[name]:
        thing = json.loads(json.dumps(each))
        thing["metadata"]["namespace"] = cluster.namespace
        thing["metadata"].pop("ownerReferences", None)
        held = cluster.create(thing, "?dryRun=All&fieldValidation=Strict")
        assert held["metadata"]["name"] == thing["metadata"]["name"]
        if each["kind"] == "Job":  # the standard is one of pods: have one checked
            template = thing["spec"]["template"]
            pod = {"metadata": {"name": "x", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
            for field in ("serviceAccountName", "priorityClassName"):
                pod["spec"].pop(field, None)
            pods = f"/api/v1/namespaces/{cluster.namespace}/pods?dryRun=All&fieldValidation=Strict"
            assert cluster.call("POST", pods, pod)["metadata"]["name"] == "x"


def test_the_api_server_takes_the_role(cluster: Cluster) -> None:
    cluster.create(role_manifest(namespace=cluster.namespace), "?dryRun=All&fieldValidation=Strict")


def test_gpus_in_use_are_told_with_the_run_that_must_end(cluster: Cluster, gpus: int) -> None:
    holder = cluster.run({"gpus": 3}, "sleep", "600", owner="bob")
    cluster.wait(holder, lambda reason: reason.stage is Stage.RUNNING)
    found = cluster.cause(cluster.run({"gpus": 2}, "sleep", "600"), "insufficient")
    assert found.message == (
        f"The run asks for 2 GPUs on one node and 1 GPU is free until the run {1:012x} of bob ends."
    )
    large = cluster.cause(cluster.run({"gpus": 8}, "sleep", "600"), "too_large")
    assert "the largest node has 4 GPUs" in large.message
    kind = capacity(nodes=cluster.items("/api/v1/nodes"), pods=cluster.items("/api/v1/pods")).kinds[0]
    assert (kind.resource, kind.total, kind.free, kind.largest, kind.queued) == (GPU, 4, 1, 1, 10)
    assert [(str(use.holder), use.count) for use in kind.uses] == [(f"run {1:012x} of bob", 3)]


def test_a_full_quota_is_told(cluster: Cluster, gpus: int) -> None:
    hard = {"requests.nvidia.com/gpu": "2"}
    cluster.create({"kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}})
    path = f"{PATHS['ResourceQuota'].format(cluster.namespace)}/few"
    until = time.monotonic() + PATIENCE
    while "used" not in (cluster.call("GET", path).get("status") or {}):
        assert time.monotonic() < until
        time.sleep(0.1)
    found = cluster.cause(cluster.run({"gpus": 4}), "quota")
    assert (
        "The quota few allows the namespace 2 GPUs; in use: 0 GPUs; a pod of the run asks for 4 GPUs." in found.message
    )
    assert found.blocked


@pytest.mark.parametrize(
    ("profile", "cause", "blocked"),
    [
        ({}, "image_user", True),
        ({"image": "localhost:1/nothing/here:1"}, "image_unreachable", False),
        ({"node_selector": {"nvidia.com/gpu.product": "none"}}, "no_such_node", True),
        ({"service_account": "nobody"}, "service_account_missing", True),
        ({"priority_class": "nothing"}, "priority_missing", True),
        ({"cpus": 4096}, "too_large", True),
        ({"pods": 2, "memory": "2Gi", "cpus": 0.2}, "certificate", False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_why_a_run_does_not_start_is_told_at_once(
    cluster: Cluster, profile: dict[str, Any], cause: str, blocked: bool
) -> None:
    found = cluster.cause(cluster.run(profile), cause)
    assert found.blocked is blocked
    assert found.hint
    assert found.raw


def test_a_secret_that_is_missing_is_named_and_the_run_starts_when_it_comes(cluster: Cluster) -> None:
    name = cluster.run({"env_from_secrets": ["mlflow-login"]}, "sleep", "600")
    assert "The Secret mlflow-login does not exist" in cluster.cause(name, "secret_missing").message
    k.CoreV1Api(cluster.admin).create_namespaced_secret(cluster.namespace, {"metadata": {"name": "mlflow-login"}})
    cluster.wait(name, lambda reason: reason.stage is Stage.RUNNING)


def test_a_limit_range_is_told(cluster: Cluster) -> None:
    limits = [{"type": "Container", "max": {"memory": "32Mi"}}]
    cluster.create({"kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": limits}})
    found = cluster.cause(cluster.run(), "limit_range")
    assert "allows a container at most 32 MiB memory, and the run asks for 64 MiB memory" in found.message


def test_a_pods_variables_and_directories_are_as_the_contract_says(cluster: Cluster) -> None:
    script = f"""
        test "${contract.INDEX_VARIABLE}" = 0 && test "${contract.MEMORY_VARIABLE}" = 67108864 &&
        test "${contract.CPUS_VARIABLE}" = 100 && test "${contract.FAILURES_VARIABLE}" = 0 &&
        test -z "${contract.DISRUPTIONS_VARIABLE}" && test -n "${contract.POD_IP_VARIABLE}" &&
        case "${contract.POD_NAME_VARIABLE}" in "${contract.JOB_VARIABLE}"-0-*) ;; *) exit 1;; esac &&
        for d in {contract.WORK_DIR} {contract.HOME_DIR} {contract.TEMPORARY_DIR} {contract.SPILL_DIR} {contract.SHM_DIR}
        do touch $d/x || exit 2; done
        touch /x 2>/dev/null && exit 3
        echo "$MLFLOW_TRACKING_URI" > {contract.TERMINATION_FILE}
    """
    name = cluster.run({}, "sh", "-c", script, tracking_uri="https://mlflow.example.org/$(HOME)/$$x")
    cluster.wait(name, lambda reason: reason.stage is Stage.SUCCEEDED)
    pod = cluster.items(f"/api/v1/namespaces/{cluster.namespace}/pods?labelSelector={names.JOB_LABEL}%3D{name}")[0]
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["message"] == "https://mlflow.example.org/$(HOME)/$$x\n"


def test_a_notebooks_own_end_is_told_in_its_words_and_not_repeated(cluster: Cluster) -> None:
    line = {
        "type": "run",
        "state": "failed",
        "code": "cell_failed",
        "message": "Cell 3 failed: KeyError",
        "time": "2026-11-24T10:00:00+00:00",
    }
    script = f"echo '{json.dumps(line)}' > {contract.TERMINATION_FILE}; exit {contract.EXIT_RECORDED}"
    name = cluster.run({}, "sh", "-c", script)
    found = cluster.wait(name, lambda reason: "PodFailurePolicy" in reason.raw)
    assert (found.stage, found.code, found.message) == (
        Stage.FAILED,
        FailureCode.CELL_FAILED,
        "Cell 3 failed: KeyError",
    )
    assert len(cluster.items(f"/api/v1/namespaces/{cluster.namespace}/pods")) == 1


def test_out_of_main_memory_is_told_with_the_limit(cluster: Cluster) -> None:
    eat = "my @a; push @a, 'x' x 10_000_000 while 1"
    found = cluster.wait(cluster.run({"retries": 0}, "perl", "-e", eat), lambda reason: reason.stage is Stage.FAILED)
    assert (found.cause, found.code) == ("out_of_memory", FailureCode.OUT_OF_MEMORY)
    assert "all of its 64 MiB of main memory (not GPU memory)" in found.message


def test_an_eviction_is_told_with_the_attempt_that_follows(cluster: Cluster) -> None:
    name = cluster.run({"retries": 1}, "sleep", "600")
    cluster.wait(name, lambda reason: reason.stage is Stage.RUNNING)
    pods = f"/api/v1/namespaces/{cluster.namespace}/pods"
    pod = cluster.items(f"{pods}?labelSelector={names.JOB_LABEL}%3D{name}")[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    cluster.call("POST", f"{pods}/{pod}/eviction", eviction)
    found = cluster.wait(name, lambda reason: reason.stage is Stage.PENDING)
    assert found.message.endswith("is being drained. It is started again: attempt 2 of 2.")
    cluster.wait(name, lambda reason: reason.stage is Stage.RUNNING)


def test_a_deadline_ends_the_job(cluster: Cluster) -> None:
    run = spec({"image": cluster.image, "cpus": 0.1, "memory": "64Mi"}, run_timeout=1.0)
    job = manifest.job_manifest(run, namespace=cluster.namespace, start_allowance=-contract.TERMINATION_GRACE + 2)
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sleep", "600"]
    job["spec"]["template"]["spec"]["securityContext"]["runAsUser"] = 65534
    cluster.create(job)
    found = cluster.wait(names.job_name(run), lambda reason: reason.stage is Stage.FAILED)
    assert (found.cause, found.code) == ("deadline", FailureCode.RUN_TIMEOUT)
