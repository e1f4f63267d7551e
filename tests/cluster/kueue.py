"""Kueue's API without Kueue: its kinds are known to the API server, and nobody acts on their objects."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .pods import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubernetes.client import ApiClient

GROUP, VERSION = "kueue.x-k8s.io", "v1beta1"
_KINDS = {"workloads": "Workload", "localqueues": "LocalQueue"}


@contextmanager
def kueue_api(admin: ApiClient) -> Iterator[None]:
    """Have the API server know Workloads and LocalQueues, for a while."""
    from kubernetes import client as k

    definitions, objects = k.ApiextensionsV1Api(admin), k.CustomObjectsApi(admin)
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    for plural, kind in _KINDS.items():
        version = {"name": VERSION, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        body: Any = {
            "metadata": {
                "name": f"{plural}.{GROUP}",
                "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
            },
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
                "versions": [version],
            },
        }
        definitions.create_custom_resource_definition(body)
    try:
        for plural in _KINDS:
            wait_for(f"{plural} to be served", lambda plural=plural: _served(objects, plural))
        yield
    finally:
        for plural in _KINDS:
            definitions.delete_custom_resource_definition(f"{plural}.{GROUP}")
        for plural in _KINDS:
            wait_for(f"{plural} to be gone", lambda plural=plural: not _served(objects, plural))


def create(admin: ApiClient, namespace: str, plural: str, name: str, **fields: Any) -> None:
    """Make an object of Kueue with these fields."""
    from kubernetes import client as k

    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": _KINDS[plural], "metadata": {"name": name}, **fields}
    k.CustomObjectsApi(admin).create_namespaced_custom_object(GROUP, VERSION, namespace, plural, body)


def _served(objects: Any, plural: str) -> bool:
    from kubernetes import client as k

    try:
        objects.list_cluster_custom_object(GROUP, VERSION, plural)
    except k.ApiException as error:
        if error.status != 404:
            raise
        return False
    return True
