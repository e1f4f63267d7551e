"""`jupyter mlops capacity` on a real Kubernetes: for somebody who sees all of it, and for one who sees a namespace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from kubernetes import client as k

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.kubernetes import names
from jupyter_mlops.kubernetes.rights import role_manifest

from . import access, kueue
from .pods import pod_spec, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kubernetes.client import ApiClient

    from .context import Context

pytestmark = pytest.mark.cluster

GPU = "nvidia.com/gpu"


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(mlops, list(arguments), prog_name="jupyter mlops")


@pytest.fixture
def gpus(own: Context, admin: ApiClient) -> Iterator[int]:
    """A node that says that it has four."""
    access.advertise(admin, GPU, 4)
    yield 4
    access.advertise(admin, GPU, None)


@pytest.fixture
def used(context: Context, admin: ApiClient, namespace: str, gpus: int, tmp_path: Path) -> str:
    """A namespace whose quota is 6, where a run of Ann has 3 GPUs and one of Bob waits for 2; and its profile."""
    core = k.CoreV1Api(admin)
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {f"requests.{GPU}": "6"}}}
    core.create_namespaced_resource_quota(namespace, quota)
    for run, owner, count in (("a1", "ann", 3), ("b2", "bob", 2)):
        metadata = {
            "name": f"train-{run}",
            "labels": {names.MANAGED_BY_LABEL: names.PRODUCT, names.RUN_LABEL: run},
            "annotations": {names.OWNER_ANNOTATION: owner},
        }
        body = {"metadata": metadata, "spec": pod_spec(context.base_image, "sleep", "600", limits={GPU: str(count)})}
        wait_for("the quota to let a pod in", lambda body=body: (
            _created(lambda: core.create_namespaced_pod(namespace, body))
        ))  # fmt: skip
        if run == "a1":
            wait_for("the first pod to run", lambda: (
                core.read_namespaced_pod("train-a1", namespace).status.phase == "Running"
            ))  # fmt: skip
    wait_for("the quota to count", lambda: (
        (core.read_namespaced_resource_quota("few", namespace).status.used or {}).get(f"requests.{GPU}") == "5"
    ))  # fmt: skip
    (tmp_path / "config").mkdir()
    profiles = {"cluster": {"runner": "kubernetes", "namespace": namespace}}
    (tmp_path / "config" / "jupyter_mlops_config.py").write_text(f"c.MLOps.profiles = {profiles!r}\n")
    return namespace


def _created(create: Callable[[], object]) -> bool:
    """Whether it was let in: until the quota is counted for the first time, pods that it bounds are refused."""
    try:
        create()
    except k.ApiException as error:
        if error.status != 403:
            raise
        return False
    return True


def test_who_sees_everything_reads_what_is_free_and_who_has_the_rest(
    used: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(context.kubeconfig))
    result = invoke("capacity", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["namespace"], found["missing"]) == (used, [])
    (kind,) = found["kinds"]
    assert kind == {
        "resource": GPU, "product": "", "total": 4, "free": 1, "largest": 1, "largest_ever": 4, "queued": 2,
        "quota": 6, "quota_left": 1,
        "uses": [{"what": "a1", "owner": "ann", "is_run": True, "count": 3}],
    }  # fmt: skip
    shown = invoke("capacity", "--profile", "cluster").output
    assert "run a1 of ann: 3" in shown
    assert "1 of 6" in shown
    assert "may not see" not in shown


def test_who_sees_one_namespace_reads_its_quota_and_its_runs_and_what_is_not_known(
    used: str, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = role_manifest(namespace=used)["rules"]
    limited = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "limited", used, rules)
    monkeypatch.setenv("KUBECONFIG", str(limited))
    found = json.loads(invoke("capacity", "--json").output)
    # Of queues nothing is missing: there is no Kueue, and who may list its Workloads is told so.
    assert found["missing"] == ["the nodes", "the pods of other namespaces"]
    (kind,) = found["kinds"]
    assert (kind["total"], kind["free"], kind["largest"], kind["queued"]) == (None, None, 1, 2)
    assert [(use["what"], use["count"]) for use in kind["uses"]] == [("a1", 3)]
    lines = invoke("capacity").output.splitlines()
    assert [line for line in lines if "may not see" in line] == [
        "Not all is known: you may not see the nodes and the pods of other namespaces. "
        "`jupyter mlops rbac --all-namespaces` prints the rights to ask for."
    ]


def test_who_may_see_nothing_is_told_so_and_nothing_is_claimed(
    used: str, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "bare", used, [])
    monkeypatch.setenv("KUBECONFIG", str(limited))
    result = invoke("capacity")
    assert result.exit_code == 0
    assert result.output.startswith("No GPUs are known.\nNot all is known: you may not see the nodes, ")
    assert "the quotas" in result.output


def test_what_waits_in_queues_counts_where_it_may_be_seen(
    used: str, context: Context, admin: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = role_manifest(namespace=used)["rules"]
    limited = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "limited", used, rules)

    def waiting(gpus: int) -> dict[str, Any]:
        template = {"spec": {"containers": [{"name": "run", "resources": {"requests": {GPU: str(gpus)}}}]}}
        return {"podSets": [{"name": "main", "count": 2, "template": template}]}

    with kueue.kueue_api(admin):
        kueue.create(admin, used, "workloads", "mine", spec=waiting(1))
        kueue.create(admin, "default", "workloads", "others", spec=waiting(4))
        monkeypatch.setenv("KUBECONFIG", str(context.kubeconfig))
        found = json.loads(invoke("capacity", "--json").output)
        assert (found["kinds"][0]["queued"], found["missing"]) == (2 + 2 + 8, [])
        monkeypatch.setenv("KUBECONFIG", str(limited))
        found = json.loads(invoke("capacity", "--json").output)
        assert found["kinds"][0]["queued"] == 2 + 2
        assert found["missing"] == ["the nodes", "the pods of other namespaces", "the queues of other namespaces"]
