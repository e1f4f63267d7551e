"""Why a pod that has a node does not begin: configuration, volumes, network, devices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .conditions import said, text_of
from .reason import Reason, Stage

_MISSING = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)
_MISSING_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) \S+?/(\S+)")
_VOLUME = re.compile(r'for volume "([^"]+)"')
_UNMOUNTED = re.compile(r"unmounted volumes=\[([^\]]*)\]")
_TRY_AGAIN = "Kubernetes tries again by itself."
_PLATFORM = "Show the text below to the platform team."
_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}


def config_error(message: str, image: str) -> Reason:
    """Why a container could not be configured (`CreateContainerConfigError`).

    Source: k8s.io/kubernetes, pkg/kubelet/kubelet_pods.go and kuberuntime/security_context_others.go.
    """
    raw = said("CreateContainerConfigError", message)
    found = _MISSING.search(message)
    if found is not None:
        kind = _KINDS[found[1].lower()]
        return _missing(kind, found[2], raw)
    found = _MISSING_KEY.search(message)
    if found is not None:
        return Reason(
            Stage.STARTING, "key_missing", f"The {found[2]} {found[3]} has no key {found[1]}.",
            "Add the key, or ask the platform team.", raw, blocked=True,
        )  # fmt: skip
    if "non-numeric user" in message or "run as root" in message or "non-root" in message:
        return Reason(
            Stage.STARTING, "image_user", f"The image {image} would run as root, or does not say by number as whom.",
            "Build it with USER and a number in its Dockerfile, such as USER 1000.", raw, blocked=True,
        )  # fmt: skip
    return Reason(
        Stage.STARTING, "CreateContainerConfigError", f"The run cannot be configured: {message}", _PLATFORM, raw,
        blocked=True,
    )  # fmt: skip


def creating(events: Sequence[Mapping[str, Any]], node: str, who: str, *, job: str) -> Reason:
    """What a pod on a node, whose containers do not run yet, waits for.

    Args:
        events: The pod's, the oldest first.
        node: Its node.
        who: What the sentence is about.
        job: The Job's name, which is that of the run's certificate.
    """
    last = events[-1] if events else {}
    reason, text = str(last.get("reason") or ""), text_of(last)
    raw = said(reason, text)
    if reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume"):
        return _volume(reason, text, job)
    if reason == "FailedCreatePodSandBox":
        return Reason(
            Stage.STARTING, "sandbox", f"The node {node} cannot prepare a place: network or container runtime.",
            f"{_TRY_AGAIN} {_PLATFORM}", raw,
        )  # fmt: skip
    if reason == "NetworkNotReady":
        return Reason(Stage.STARTING, "network", f"The network of the node {node} is not ready.", _TRY_AGAIN, raw)
    if reason == "FailedPrepareDynamicResources":
        return Reason(Stage.STARTING, "device_claim", f"The node {node} cannot prepare the devices that were claimed.",
                      f"{_TRY_AGAIN} {_PLATFORM}", raw)  # fmt: skip
    if last.get("type") == "Warning":
        return Reason(Stage.STARTING, reason, f"{who} has trouble starting on the node {node}: {text}", _TRY_AGAIN, raw)
    return Reason(Stage.STARTING, "starting", f"{who} is starting on the node {node}.", "", raw)


def _volume(reason: str, text: str, job: str) -> Reason:
    raw = said(reason, text)
    found = _MISSING.search(text)
    if found is not None:
        kind = _KINDS[found[1].lower()]
        if kind == "Secret" and found[2] == job:
            return Reason(
                Stage.STARTING, "certificate", f"The run waits for its certificate (Secret {job}).",
                "It is made right after the Job. If it does not come, cancel the run and start it again.", raw,
            )  # fmt: skip
        return _missing(kind, found[2], raw)
    if "Multi-Attach" in text:
        volume = _VOLUME.search(text)
        return Reason(
            Stage.STARTING, "volume_in_use",
            f"The volume {volume[1] if volume else ''} is attached to another node, and allows one only.",
            "Wait until the other pod has ended, or use a volume that several nodes may share.", raw,
        )  # fmt: skip
    volume = _VOLUME.search(text) or _UNMOUNTED.search(text)
    return Reason(
        Stage.STARTING, "volume", f"The volume {volume[1] if volume else ''} cannot be mounted.",
        f"{_TRY_AGAIN} {_PLATFORM}", raw,
    )  # fmt: skip


def _missing(kind: str, name: str, raw: str) -> Reason:
    return Reason(
        Stage.STARTING, f"{kind.lower()}_missing", f"The {kind} {name} does not exist in the namespace.",
        f"Make it (kubectl create {kind.lower()}), or correct its name in the profile; the run then starts by itself.",
        raw, blocked=True,
    )  # fmt: skip
