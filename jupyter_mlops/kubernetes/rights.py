"""The rights that a client needs in the namespace of its runs: to check them, to ask for them, and to document them."""

from __future__ import annotations

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
CLUSTER_RIGHTS = (
    Right("", "nodes", ("list",), "which GPUs there are", optional=True),
    Right("", "pods", ("list",), "who has the GPUs", optional=True),
)
"""Helpful, and not often given: over all namespaces."""


def right(group: str, resource: str) -> Right | None:
    """What is needed of a resource, or None: nothing."""
    return next((each for each in RIGHTS if (each.group, each.resource) == (group, resource)), None)


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
