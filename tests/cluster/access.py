"""Namespaces, users with few rights, and extended resources, through the official client. Knows no node's insides."""

from __future__ import annotations

import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kubernetes.client import ApiClient

_PATIENCE = 120.0
_POD_SECURITY = "pod-security.kubernetes.io"


def client(kubeconfig: Path) -> ApiClient:
    """A client that uses this kubeconfig and no other."""
    from kubernetes import config

    api: ApiClient = config.new_client_from_config(str(kubeconfig))
    return api


def create_namespace(api: ApiClient, prefix: str = "test") -> str:
    """Make a namespace in which the restricted Pod Security Standard holds.

    Returns:
        Its name, which no other namespace had.
    """
    from kubernetes import client as k

    name = f"{prefix}-{secrets.token_hex(4)}"
    labels = {f"{_POD_SECURITY}/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    k.CoreV1Api(api).create_namespace(k.V1Namespace(metadata=k.V1ObjectMeta(name=name, labels=labels)))
    until = time.monotonic() + _PATIENCE
    # A pod is refused until the controllers have given the namespace its account.
    while not _has_account(api, name):
        assert time.monotonic() < until, f"the namespace {name} got no default service account"
        time.sleep(0.05)
    return name


def delete_namespace(api: ApiClient, name: str) -> None:
    """Delete a namespace. Returns when its pods hold nothing any more; the rest is deleted behind our back."""
    from kubernetes import client as k

    core = k.CoreV1Api(api)
    core.delete_namespace(name)
    until = time.monotonic() + _PATIENCE
    while pods := core.list_namespaced_pod(name).items:
        # Again and again: a controller may make new ones until it hears of the deletion.
        core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
        assert time.monotonic() < until, f"pods of {name} do not end: {[pod.metadata.name for pod in pods]}"
        time.sleep(0.1)


def write_limited_kubeconfig(
    admin: Path, path: Path, namespace: str, rules: Sequence[dict[str, Any]], *, seconds: int = 3600
) -> Path:
    """Make a service account with these rights in one namespace and a kubeconfig with a token of it.

    Args:
        admin: A kubeconfig that may do so.
        path: Where the new one is written; readable by its owner only.
        namespace: Where the account is, and where alone it has rights.
        rules: As in a Role.
        seconds: How long the token is good; Kubernetes refuses less than 600.

    Returns:
        `path`.
    """
    from kubernetes import client as k

    name = f"limited-{secrets.token_hex(3)}"
    with client(admin) as api:
        meta = k.V1ObjectMeta(name=name)
        core, rbac = k.CoreV1Api(api), k.RbacAuthorizationV1Api(api)
        core.create_namespaced_service_account(namespace, k.V1ServiceAccount(metadata=meta))
        rbac.create_namespaced_role(namespace, {"metadata": {"name": name}, "rules": list(rules)})
        subject = k.RbacV1Subject(kind="ServiceAccount", name=name, namespace=namespace)
        reference = k.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name=name)
        binding = k.V1RoleBinding(metadata=meta, subjects=[subject], role_ref=reference)
        rbac.create_namespaced_role_binding(namespace, binding)
        request = {"spec": {"expirationSeconds": seconds}}
        token = core.create_namespaced_service_account_token(name, namespace, request).status.token
    config = _single(_load(admin), namespace)
    config["users"] = [{"name": "limited", "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = "limited"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
    return path


def advertise(api: ApiClient, resource: str, count: int | None) -> str:
    """Let a node say that it has an extended resource, such as `nvidia.com/gpu`; the scheduler then accounts for it.

    Args:
        api: A client that may change a node's status.
        resource: The resource's name.
        count: How many; None takes it away.

    Returns:
        The node's name.
    """
    from kubernetes import client as k

    core = k.CoreV1Api(api)
    node: Any = next(one for one in core.list_node().items if not one.spec.unschedulable)
    path = f"/status/capacity/{resource.replace('~', '~0').replace('/', '~1')}"
    change: dict[str, Any] = {"op": "remove", "path": path}
    if count is not None:
        change = {"op": "add", "path": path, "value": str(count)}
    core.patch_node_status(node.metadata.name, [change])
    name: str = node.metadata.name
    return name


def _has_account(api: ApiClient, namespace: str) -> bool:
    from kubernetes import client as k

    return any(
        one.metadata.name == "default" for one in k.CoreV1Api(api).list_namespaced_service_account(namespace).items
    )


def _load(kubeconfig: Path) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    return found


def _single(config: dict[str, Any], namespace: str) -> dict[str, Any]:
    """A kubeconfig of the current context alone, without its user."""
    current = next(one for one in config["contexts"] if one["name"] == config["current-context"])
    cluster = next(one for one in config["clusters"] if one["name"] == current["context"]["cluster"])
    context = {"cluster": cluster["name"], "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "contexts": [{"name": current["name"], "context": context}],
        "current-context": current["name"],
    }
