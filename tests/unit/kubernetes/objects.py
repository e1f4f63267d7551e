"""Objects as the API server gives them, from the few fields that a test is about."""

from __future__ import annotations

import itertools
from typing import Any

from jupyter_mlops.kubernetes import names

_numbers = itertools.count()
IMAGE = "registry.example.org/team/train:1"


def job(
    *,
    pods: int = 1,
    retries: int = 2,
    suspend: bool = False,
    queue: str | None = None,
    conditions: list[dict[str, Any]] | None = None,
    **status: Any,
) -> dict[str, Any]:
    labels = {names.JOB_LABEL: "train-abc", names.RUN_LABEL: "abc", names.MANAGED_BY_LABEL: names.PRODUCT}
    if queue:
        labels[names.QUEUE_LABEL] = queue
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train-abc", "namespace": "team-a", "uid": "job-uid", "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "parallelism": pods,
            "completions": pods,
            "backoffLimitPerIndex": retries,
            "suspend": suspend,
        },
        "status": {"conditions": conditions or [], **status},
    }


def condition(kind: str, status: str = "True", reason: str = "", message: str = "", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, **more}


def pod(
    *,
    index: int = 0,
    name: str | None = None,
    run: str | None = "abc",
    owner: str = "ann",
    namespace: str = "team-a",
    node: str | None = "node-1",
    phase: str = "Pending",
    requests: dict[str, str] | None = None,
    container: dict[str, Any] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    created: str = "2026-11-24T10:00:00Z",
    failures: int = 0,
    disruptions: int = 0,
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    number = next(_numbers)
    annotations = {names.INDEX_KEY: str(index), names.FAILURES_ANNOTATION: str(failures)}
    if disruptions:
        annotations[names.DISRUPTIONS_ANNOTATION] = str(disruptions)
    labels = {}
    if run is not None:
        labels = {names.RUN_LABEL: run, names.MANAGED_BY_LABEL: names.PRODUCT, names.JOB_LABEL: f"train-{run}"}
        annotations[names.OWNER_ANNOTATION] = owner
    limits = {"memory": "128Gi"} if requests is None else requests
    found: dict[str, Any] = {
        "metadata": {
            "name": name or f"train-abc-{index}-{number:05d}",
            "namespace": namespace,
            "uid": f"pod-{number}",
            "labels": labels,
            "annotations": annotations,
            "creationTimestamp": created,
        },
        "spec": {
            "containers": [
                {"name": "run", "image": IMAGE, "resources": {"requests": dict(limits), "limits": dict(limits)}}
            ],
            **(spec or {}),
        },
        "status": {"phase": phase, "conditions": conditions or [], **status},
    }
    if node is not None:
        found["spec"]["nodeName"] = node
    if container is not None:
        found["status"]["containerStatuses"] = [{"name": "run", "image": IMAGE, **container}]
    return found


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return pod(container={"state": {"waiting": {"reason": reason, "message": message}}}, **more)


def unschedulable(message: str, reason: str = "Unschedulable", **more: Any) -> dict[str, Any]:
    return pod(node=None, conditions=[condition("PodScheduled", "False", reason, message)], **more)


def running(**more: Any) -> dict[str, Any]:
    return pod(phase="Running", container={"state": {"running": {"startedAt": "2026-11-24T10:00:05Z"}}}, **more)


def dead(reason: str, code: int, message: str = "", **more: Any) -> dict[str, Any]:
    ended = {"reason": reason, "exitCode": code, "message": message}
    return pod(phase="Failed", container={"state": {"terminated": ended}}, **more)


def disrupted(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return pod(
        phase=more.pop("phase", "Failed"), conditions=[condition("DisruptionTarget", "True", reason, message)], **more
    )


def event(
    about: dict[str, Any], reason: str, message: str = "", *, at: int = 0, kind: str = "Normal"
) -> dict[str, Any]:
    return {
        "involvedObject": {"uid": about["metadata"]["uid"]},
        "reason": reason,
        "message": message,
        "type": kind,
        "lastTimestamp": f"2026-11-24T10:{at // 60:02d}:{at % 60:02d}Z",
    }


def node(
    name: str = "node-1",
    *,
    ready: bool = True,
    closed: bool = False,
    labels: dict[str, str] | None = None,
    taints: list[dict[str, str]] | None = None,
    **allocatable: str,
) -> dict[str, Any]:
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110"}
    amounts |= {key.replace("__", "/").replace("_", "."): value for key, value in allocatable.items()}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"unschedulable": closed, "taints": taints or []},
        "status": {"allocatable": amounts, "conditions": [condition("Ready", "True" if ready else "Unknown")]},
    }


def gpus(count: int) -> dict[str, str]:
    return {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": str(count)}


def workload(
    *conditions: dict[str, Any],
    uid: str = "workload-uid",
    queue: str = "team-a",
    priority: int = 0,
    created: str = "2026-11-24T10:00:00Z",
    requests: dict[str, str] | None = None,
    pods: int = 1,
    **more: Any,
) -> dict[str, Any]:
    spec = more.pop("spec", {})
    template = {"spec": {"containers": [{"name": "run", "resources": {"requests": requests or gpus(1)}}]}}
    return {
        "metadata": {"uid": uid, "namespace": "team-a", "creationTimestamp": created},
        "spec": {
            "queueName": queue,
            "priority": priority,
            "podSets": [{"name": "main", "count": pods, "template": template}],
            **spec,
        },
        "status": {"conditions": list(conditions), **more},
    }
