"""What `jupyter mlops rbac` prints is enough for runs and for nothing else, for somebody who has no other right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner, Result
from kubernetes import client as k

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.errors import KubernetesError
from jupyter_mlops.kubernetes import manifest, names
from jupyter_mlops.kubernetes.api import Api
from jupyter_mlops.kubernetes.rights import CLUSTER_RIGHTS, RIGHTS, Right
from jupyter_mlops.kubernetes.survey import allowed, missing_rights, who_am_i
from tests.unit.kubernetes import golden
from tests.unit.kubernetes.specs import spec

from . import access, kueue

if TYPE_CHECKING:
    from pathlib import Path

    from kubernetes.client import ApiClient

    from .context import Context

pytestmark = pytest.mark.cluster

_DIGEST = "registry.example.org/team/train@sha256:" + "9f" * 32
_NOT_GIVEN = (
    Right("", "secrets", ("get", "list", "watch", "patch", "update", "delete"), ""),
    Right("", "pods/exec", ("create", "get"), ""),
    Right("", "pods/attach", ("create", "get"), ""),
    Right("", "pods/portforward", ("create", "get"), ""),
    Right("", "pods", ("create", "delete", "patch"), ""),
    Right("", "serviceaccounts/token", ("create",), ""),
    Right("", "configmaps", ("get", "list", "create"), ""),
    Right("apps", "deployments", ("create",), ""),
    Right("rbac.authorization.k8s.io", "roles", ("create", "patch", "bind", "escalate"), ""),
    Right("rbac.authorization.k8s.io", "rolebindings", ("create", "patch"), ""),
    Right("", "namespaces", ("get", "list", "create", "delete"), ""),
    Right("", "nodes", ("get", "list"), ""),
    Right("*", "*", ("*",), ""),
)


@pytest.fixture
def nobody(context: Context, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The calls of somebody who can log in, and no more."""
    limited = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "kubeconfig", namespace, [])
    monkeypatch.setenv("KUBECONFIG", str(limited))
    return Api()


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(mlops, list(arguments), prog_name="jupyter mlops")


def give(admin: ApiClient, *arguments: str) -> list[dict[str, Any]]:
    """Have the platform team apply what the command prints for whoever calls it."""
    result = invoke("rbac", *arguments)
    assert result.exit_code == 0, result.output
    manifests = list(yaml.safe_load_all(result.output))
    rbac = k.RbacAuthorizationV1Api(admin)
    for each in manifests:
        create = {
            "Role": lambda body: rbac.create_namespaced_role(body["metadata"]["namespace"], body),
            "RoleBinding": lambda body: rbac.create_namespaced_role_binding(body["metadata"]["namespace"], body),
            "ClusterRole": rbac.create_cluster_role,
            "ClusterRoleBinding": rbac.create_cluster_role_binding,
        }[each["kind"]]
        create(each)
    return manifests


def test_the_role_is_enough_for_everything_that_a_run_does(
    nobody: Api, admin: ApiClient, namespace: str, context: Context
) -> None:
    assert {right.resource for right, _ in missing_rights(nobody)} == {right.resource for right in RIGHTS}
    give(admin)
    assert missing_rights(nobody) == []

    run = spec({"image": context.base_image, "cpus": 0.1, "memory": "64Mi", "namespace": namespace})
    job = nobody.create("jobs", manifest.job_manifest(run, held=True))
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    for each in (thing for case in golden.CASES.values() for thing in case if thing["kind"] != "Job"):
        thing = json.loads(json.dumps(each))
        thing["metadata"]["namespace"] = namespace
        thing["metadata"].pop("ownerReferences", None)
        nobody.create({"NetworkPolicy": "networkpolicies"}.get(thing["kind"], f"{thing['kind'].lower()}s"), thing,
                      dry_run=True)  # fmt: skip
    assert nobody.get("jobs", name) is not None
    assert [one["metadata"]["name"] for one in nobody.find("jobs", labels=names.selector(run))] == [name]
    nobody.patch("jobs", name, manifest.release(manifest.job_manifest(run)))
    for resource in ("pods", "events", "resourcequotas"):
        nobody.find(resource)
    assert nobody.delete("jobs", name, uid=uid)


def test_the_role_gives_nothing_else(nobody: Api, admin: ApiClient, namespace: str) -> None:
    k.CoreV1Api(admin).create_namespaced_secret(
        namespace, {"metadata": {"name": "login"}, "stringData": {"password": "x"}}
    )
    give(admin)
    given = [f"{verb} {right.resource}" for right in _NOT_GIVEN for verb in right.verbs if allowed(nobody, right, verb)]
    assert given == []
    elsewhere = [
        f"{verb} {right.resource} in {where or 'all'}"
        for right in (*RIGHTS, *CLUSTER_RIGHTS)
        for verb in right.verbs
        for where in ("default", "kube-system", "")
        if allowed(nobody, right, verb, namespace=where)
    ]
    assert elsewhere == []
    # Not only the answer to a question: the calls themselves.
    for call in (
        lambda: nobody.get("secrets", "login"),
        lambda: nobody.find("secrets"),
        lambda: nobody.find("nodes"),
        lambda: nobody.find("pods", everywhere=True),
        lambda: nobody.get("namespaces", namespace),
        lambda: Api(namespace="kube-system").find("pods"),
    ):
        with pytest.raises(KubernetesError, match="may not") as caught:
            call()
        assert caught.value.code == "kubernetes_forbidden"


def test_the_role_over_all_namespaces_lists_nodes_and_pods_and_no_more(
    nobody: Api, admin: ApiClient, namespace: str
) -> None:
    manifests = give(admin, "--all-namespaces")
    rbac = k.RbacAuthorizationV1Api(admin)
    try:
        for right in CLUSTER_RIGHTS:
            assert all(allowed(nobody, right, verb, namespace="") for verb in right.verbs)
        assert not allowed(nobody, Right("", "nodes", ("delete",), ""), "delete", namespace="")
        assert not allowed(nobody, Right("", "secrets", ("list",), ""), "list", namespace="")
        assert not allowed(nobody, Right("", "pods/log", ("get",), ""), "get", namespace="kube-system")
    finally:
        rbac.delete_cluster_role_binding(manifests[3]["metadata"]["name"])
        rbac.delete_cluster_role(manifests[2]["metadata"]["name"])


def test_a_named_account_gets_what_the_command_prints_for_it(nobody: Api, admin: ApiClient, namespace: str) -> None:
    me = who_am_i(nobody)
    assert (me.kind, me.namespace) == ("ServiceAccount", namespace)
    give(admin, "--namespace", namespace, "--service-account", f"{namespace}/{me.name}")
    assert missing_rights(nobody) == []


def test_the_doctor_names_the_right_that_is_missing_and_is_content_when_it_is_given(
    nobody: Api, admin: ApiClient, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    profiles = {
        "cluster": {"runner": "kubernetes", "image": _DIGEST, "gpus": 2, "env_from_secrets": ["login"], "queue": "team"}
    }
    (tmp_path / "config" / "jupyter_mlops_config.py").write_text(
        f"c.MLOps.profiles = {profiles!r}\nc.MLOps.tracking_uri = 'http://192.0.2.1:5000'\nc.MLOps.mlflow_wait = 1\n"
    )

    def look() -> dict[str, dict[str, str]]:
        result = invoke("doctor", "--profile", "cluster", "--json")
        assert result.exit_code == 1  # nobody is at 192.0.2.1
        return {check["name"]: check for check in json.loads(result.output)}

    before = look()
    assert before["rights"]["state"] == "problem"
    assert "create jobs.batch" in before["rights"]["message"]
    assert f"rbac --namespace {namespace}" in before["rights"]["remedy"]
    assert before["quota"]["state"] == "not known"
    for name in ("kubeconfig", "API server", "version", "image", "packages"):
        assert before[name]["state"] == "ok", before[name]
    for name in ("pod security", "Secrets", "MLflow from pods", "queue"):
        assert before[name]["state"] == "not known", before[name]
    assert before["MLflow"]["state"] == "problem"

    give(admin)
    assert look()["rights"]["state"] == "ok"
    assert look()["quota"]["state"] == "ok"


def test_the_doctor_of_an_administrator_sees_the_pod_security_level_and_that_there_is_no_kueue(
    context: Context, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(context.kubeconfig))
    (tmp_path / "config").mkdir()
    profiles = {"cluster": {"runner": "kubernetes", "namespace": namespace, "image": _DIGEST, "queue": "team"}}
    (tmp_path / "config" / "jupyter_mlops_config.py").write_text(f"c.MLOps.profiles = {profiles!r}\n")
    result = invoke("doctor", "--profile", "cluster", "--json")
    found = {check["name"]: check for check in json.loads(result.output)}
    assert found["rights"]["state"] == "ok"
    assert "'restricted'" in found["pod security"]["message"]
    assert found["queue"]["state"] == "problem"
    assert "no Kueue" in found["queue"]["message"]


def test_the_doctor_tells_of_a_queue_what_may_be_read_of_it(
    nobody: Api, context: Context, admin: ApiClient, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    fields = {"runner": "kubernetes", "namespace": namespace, "image": _DIGEST}
    profiles = {name: {**fields, "queue": name} for name in ("open", "closed", "missing")}
    (tmp_path / "config" / "jupyter_mlops_config.py").write_text(f"c.MLOps.profiles = {profiles!r}\n")

    def look(name: str) -> tuple[str, str]:
        checks = json.loads(invoke("doctor", "--profile", name, "--json").output)
        queue = next(check for check in checks if check["name"] == "queue")
        return queue["state"], queue["message"]

    with kueue.kueue_api(admin):
        kueue.create(admin, namespace, "localqueues", "open", spec={"clusterQueue": "all"})
        inactive = {"type": "Active", "status": "False", "reason": "ClusterQueueIsInactive", "message": "stopped"}
        kueue.create(admin, namespace, "localqueues", "closed", status={"conditions": [inactive]})
        give(admin)
        assert look("open") == ("not known", f"You may not read the queue open of {namespace}.")
        monkeypatch.setenv("KUBECONFIG", str(context.kubeconfig))
        assert look("open")[0] == "ok"
        assert look("closed") == ("problem", "The queue closed admits nothing now: ClusterQueueIsInactive: stopped")
        assert look("missing")[0] == "problem"
