"""The rights that a client needs in the namespace of its runs: to check them, to ask for them, and to document them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from . import names


@dataclass(frozen=True)
class Right:
    """Verbs on one resource.

    Attributes:
        group: The API group; empty for the core.
        resource: With its subresource, if it is about one.
        verbs: What must be allowed.
        why: What for, in words.
        optional: Whether runs work without it, with less to tell.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    optional: bool = False


RIGHTS = (
    Right("batch", "jobs", ("create", "get", "list", "watch", "patch", "delete"), "every run is a Job"),
    Right("", "pods", ("get", "list", "watch"), "how a run stands"),
    Right("", "pods/log", ("get",), "what a run prints"),
    Right("", "events", ("list", "watch"), "why a run does not start"),
    Right("", "services", ("create",), "runs of several pods"),
    Right("", "secrets", ("create",), "the certificate of runs of several pods; it is never read"),
    Right("networking.k8s.io", "networkpolicies", ("create",), "closes a run's pods to all others", optional=True),
    Right("", "resourcequotas", ("list",), "tells before the start that a quota is full", optional=True),
    Right("kueue.x-k8s.io", "workloads", ("get", "list", "watch"), "the place in a queue", optional=True),
)
INTERACTIVE_RIGHTS = (Right("", "pods/portforward", ("create", "get"), "kernels and clusters that a person works on"),)
"""On top of `RIGHTS`, for those who start kernels in pods: Kubernetes asks for `get` of a websocket, and for `create`
from 1.35 on. It opens every port of every pod of the namespace, so that it is nobody's without being asked for."""
INTERACTIVE_ROLE = f"{names.PRODUCT}-interactive"
CLUSTER_RIGHTS = (
    Right("", "nodes", ("list",), "which GPUs there are", optional=True),
    Right("", "pods", ("list",), "who has the GPUs", optional=True),
)
"""Helpful, and not often given: over all namespaces."""


def right(group: str, resource: str) -> Right | None:
    """What is needed of a resource, or None: nothing."""
    return next(
        (each for each in (*RIGHTS, *INTERACTIVE_RIGHTS) if (each.group, each.resource) == (group, resource)), None
    )


def role_manifest(*rights: Right, namespace: str, name: str = names.PRODUCT) -> dict[str, Any]:
    """A Role with these rights and no more; all of `RIGHTS` where none are given."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [
            {"apiGroups": [each.group], "resources": [each.resource], "verbs": list(each.verbs)}
            for each in rights or RIGHTS
        ],
    }


@dataclass(frozen=True)
class Subject:
    """Who gets rights.

    Attributes:
        kind: User, Group or ServiceAccount.
        name: As Kubernetes knows it.
        namespace: Of a ServiceAccount; empty for the others.
    """

    kind: str
    name: str
    namespace: str = ""


def subject_of(user: str) -> Subject:
    """The subject that the API server calls by this user name."""
    if user.startswith("system:serviceaccount:") and user.count(":") == 3:
        _, _, namespace, name = user.split(":")
        return Subject("ServiceAccount", name, namespace)
    return Subject("User", user)


def binding_manifest(subject: Subject, *, namespace: str) -> dict[str, Any]:
    """A RoleBinding that gives somebody the Role of `role_manifest`; each subject has one of its own name."""
    return _binding("Role", names.PRODUCT, subject, namespace)


def interactive_manifests(subject: Subject, *, namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A Role with `INTERACTIVE_RIGHTS` and no more, and the binding that gives it to somebody."""
    role = role_manifest(*INTERACTIVE_RIGHTS, namespace=namespace, name=INTERACTIVE_ROLE)
    return role, _binding("Role", INTERACTIVE_ROLE, subject, namespace)


def cluster_manifests(subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """A ClusterRole with `CLUSTER_RIGHTS` and no more, and the binding that gives it to somebody."""
    name = f"{names.PRODUCT}-capacity"
    role = role_manifest(*CLUSTER_RIGHTS, namespace="", name=name)
    role["kind"] = "ClusterRole"
    del role["metadata"]["namespace"]
    return role, _binding("ClusterRole", name, subject, "")


def _binding(kind: str, role: str, subject: Subject, namespace: str) -> dict[str, Any]:
    # Of its own name: one that all shared would take the rights from whoever had them before.
    digest = hashlib.sha256("\0".join((subject.kind, subject.namespace, subject.name)).encode()).hexdigest()[:8]
    metadata = {"name": f"{role}-{names.label_value(subject.name)}-{digest}"}
    who = {"kind": subject.kind, "name": subject.name}
    if subject.kind == "ServiceAccount":
        who["namespace"] = subject.namespace
    else:
        who["apiGroup"] = "rbac.authorization.k8s.io"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": {**metadata, "namespace": namespace} if namespace else metadata,
        "subjects": [who],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
    }
