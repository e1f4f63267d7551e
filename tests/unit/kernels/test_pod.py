"""Why a kernel's pod is lost, from what Kubernetes has of it."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_mlops.kernels import pod as pod_module
from jupyter_mlops.kernels.pod import _why_lost
from jupyter_mlops.kubernetes.reasons import explain
from jupyter_mlops.kubernetes.watch import Look

JOB: dict[str, Any] = {"metadata": {"name": "kernel-a", "namespace": "n", "uid": "u"}, "spec": {"parallelism": 1}}


def job(**condition: str) -> dict[str, Any]:
    return {**JOB, "status": {"conditions": [{"status": "True", **condition}] if condition else []}}


def pod(phase: str = "Running", *, deleted: bool = False, **status: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": "kernel-a-x",
        "uid": "p",
        "labels": {},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T01:00:00Z"
    running = {"containerStatuses": [{"name": "run", "state": {"running": {}}}]}
    return {"metadata": metadata, "spec": {"nodeName": "node-1", "containers": []},
            "status": {"phase": phase, **(running if phase == "Running" else {}), **status}}  # fmt: skip


def lost(found: dict[str, Any] | None, *pods: dict[str, Any]) -> str | None:
    return _why_lost(lambda: Look(found, pods, explain(found, pods=pods)))


FAILED = {"type": "Failed", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
OOM = {"containerStatuses": [{"name": "run", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}
TOLD = {"containerStatuses": [{"name": "run", "state": {"terminated": {"reason": "Error", "exitCode": 143}}}]}
KILLED = {"containerStatuses": [{"name": "run", "state": {"terminated": {"reason": "Error", "exitCode": 137}}}]}
DRAINED = {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]}


@pytest.mark.parametrize(
    ("found", "pods", "words"),
    [
        (job(), [pod()], None),
        (job(**FAILED), [pod("Failed", **OOM)], "main memory"),
        (job(), [pod(deleted=True, **DRAINED)], "being drained"),
        (job(**FAILED), [], "The kernel's pod was deleted."),
        (job(), [pod(deleted=True)], "The kernel's pod was deleted."),
        (job(**FAILED), [pod("Failed", deleted=True, **TOLD)], "The kernel's pod was deleted."),
        (job(**FAILED), [pod("Failed", **KILLED)], "it was killed"),
        (job(type="Complete"), [pod("Succeeded")], "nobody was connected"),
        (job(type="Failed", reason="DeadlineExceeded"), [], "kernel_lifetime"),
        (None, [], "The kernel's Job is not in Kubernetes any more"),
    ],
)
def test_a_lost_pod_is_told_from_one_that_is_there(
    found: dict[str, Any] | None, pods: list[dict[str, Any]], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_module, "_LOSS_IS_SEEN", 0.0)
    why = lost(found, *pods)
    if words is None:
        assert why is None
    else:
        assert why is not None
        assert words in why
        assert "the run" not in why.lower()
