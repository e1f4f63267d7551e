"""Pods and Jobs for tests, and waiting for them. Everything made here meets the restricted Pod Security Standard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from kubernetes.client import ApiClient

    T = TypeVar("T")

PATIENCE = 120.0
"""Seconds; the machine may be slow and busy."""

_NOBODY = 65534


def pod_spec(image: str, *command: str, limits: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """The spec of a pod with one container that ends when its command does.

    Args:
        image: The container's image, which is not pulled if it is there.
        command: Program and arguments.
        limits: Resources that the container is limited to, and asks for.
        more: More fields of the spec.
    """
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "resources": {"limits": limits or {}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "runAsGroup": _NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        **more,
    }


def run_pod(api: ApiClient, namespace: str, name: str, spec: dict[str, Any]) -> None:
    """Make a pod and return at once."""
    from kubernetes import client as k

    k.CoreV1Api(api).create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": spec})


def wait_for(what: str, look: Callable[[], T | None], describe: Callable[[], object] = lambda: "") -> T:
    """Look until there is something.

    Args:
        what: What is waited for, for the message.
        look: Returns it, or something false.
        describe: Says how things are when it never came.

    Returns:
        What `look` returned.
    """
    until = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < until, f"waited {PATIENCE:.0f} s for {what}\n{describe()}"
        time.sleep(0.1)
    return found


def wait_for_phase(api: ApiClient, namespace: str, name: str, *phases: str) -> Any:
    """Wait until a pod is in one of these phases; returns the pod."""
    from kubernetes import client as k

    core = k.CoreV1Api(api)

    def look() -> Any:
        pod = core.read_namespaced_pod(name, namespace)
        return pod if pod.status.phase in phases else None

    def describe() -> str:
        events = core.list_namespaced_event(namespace, field_selector=f"involvedObject.name={name}").items
        return "\n".join(f"{event.reason}: {event.message}" for event in events)

    return wait_for(f"pod {name} to be {' or '.join(phases)}", look, describe)


def logs(api: ApiClient, namespace: str, name: str) -> str:
    """What a pod printed."""
    from kubernetes import client as k

    text: str = k.CoreV1Api(api).read_namespaced_pod_log(name, namespace)
    return text
