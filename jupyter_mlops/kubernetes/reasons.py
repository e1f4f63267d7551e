"""Why a run on Kubernetes stands as it does: `explain`, from the objects that could be read.

In the order in which they are made: the Job, the queue's Workload, the Pods, and what Events tell of each. It gives one
sentence, one next step and Kubernetes' own words; what is not known here passes through as it is. Events are kept for
about an hour, so whoever calls keeps the last Reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..states import FailureCode
from . import names
from .admission_reasons import refused
from .conditions import condition, created, events_of, is_true, said, text_of
from .nodes import Holder, holders_of, node_uses
from .pod_reasons import death, explain_pod, pod_index
from .queue_reasons import queued
from .reason import Reason, Stage

__all__ = ["Reason", "Stage", "explain"]

_DISRUPTED_HINT = "Nothing to do: it was not your code."


def explain(
    job: Mapping[str, Any] | None,
    *,
    workload: Mapping[str, Any] | None = None,
    pods: Sequence[Mapping[str, Any]] = (),
    events: Sequence[Mapping[str, Any]] = (),
    nodes: Sequence[Mapping[str, Any]] | None = None,
    all_pods: Sequence[Mapping[str, Any]] | None = None,
    workloads: Sequence[Mapping[str, Any]] | None = None,
) -> Reason:
    """How a run stands, and why.

    Args:
        job: Its Job, or None: there is none any more.
        workload: The Job's Workload of Kueue; None: there is none, or it is not readable.
        pods: The Job's pods, ended ones among them.
        events: Events of the Job and of its pods.
        nodes: The Nodes; None: not readable.
        all_pods: The pods of all namespaces, or of those that could be read, to tell who holds what; None: none could.
        workloads: The Workloads of the namespace, for the place in the queue; None: not readable.
    """
    if job is None:
        return Reason(
            Stage.FAILED, "gone", "The run's Job is not in Kubernetes any more: it was deleted, or its time was up.",
            "Retry the run if its record does not say how it ended.", code=FailureCode.WORKER_DIED,
        )  # fmt: skip
    reason = _ended(job, pods) or _in_queue(job, workload, workloads)
    if reason is not None:
        return reason
    refusal = _refusal(job, pods, events, all_pods)
    head = _newest(pods, 0)
    if head is None:
        return refusal or _without_pods(job)
    uses = None if nodes is None else node_uses(nodes, all_pods or ())

    def look(pod: Mapping[str, Any]) -> Reason:
        return explain_pod(pod, events, nodes=uses, pods_known=all_pods is not None)

    reason = look(head)
    if reason.stage is Stage.FAILED:
        return _again(job, head, reason)
    if reason.stage is Stage.RUNNING:
        workers = [pod for index in range(1, _wanted(job)) if (pod := _newest(pods, index)) is not None]
        return _with_workers(_wanted(job) - 1, [look(pod) for pod in workers], reason, refusal)
    before = [pod for pod in pods if pod_index(pod) == 0 and pod is not head]
    return _after(job, head, before, reason)


def attempt(job: Mapping[str, Any], head: Mapping[str, Any]) -> tuple[int, int]:
    """Which attempt at the run a pod of index 0 is, from 1, and how many there may be.

    Kubernetes counts on each pod how many before it failed, and how many were disrupted.
    """
    known = (head.get("metadata") or {}).get("annotations") or {}
    counts = (known.get(key) for key in (names.FAILURES_ANNOTATION, names.DISRUPTIONS_ANNOTATION))
    before = sum(int(count) for count in counts if count is not None and str(count).isdecimal())
    return before + 1, int((job.get("spec") or {}).get("backoffLimitPerIndex") or 0) + 1


def _ended(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Reason | None:
    if is_true(job, "Complete") or is_true(job, "SuccessCriteriaMet"):
        return Reason(Stage.SUCCEEDED, "succeeded", "The run has ended well.")
    failed = condition(job, "Failed") if is_true(job, "Failed") else condition(job, "FailureTarget")
    if failed is not None and failed.get("status") == "True":
        return _failed(job, failed, pods)
    if (job.get("metadata") or {}).get("deletionTimestamp"):
        return Reason(
            Stage.FAILED, "deleted", "The run's Job was deleted.", "Retry the run.", code=FailureCode.CANCELLED
        )
    return None


def _failed(job: Mapping[str, Any], failed: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Reason:
    reason, message = str(failed.get("reason") or ""), str(failed.get("message") or "")
    raw = said(reason, message)
    if reason == "DeadlineExceeded" and _is_held(job):
        return Reason(
            Stage.FAILED, "not_released", "The run was not handed over whole: who submitted it was interrupted.",
            "Retry the run.", raw, FailureCode.NOT_STARTED,
        )  # fmt: skip
    if reason == "DeadlineExceeded":
        return Reason(
            Stage.FAILED, "deadline", "The run took longer than its time-out and the time to find a place allow.",
            "Raise --timeout, or use a profile that starts sooner.", raw, FailureCode.RUN_TIMEOUT,
        )  # fmt: skip
    phases = {pod_index(pod): (pod.get("status") or {}).get("phase") for pod in sorted(pods, key=created)}
    if phases.get(0) == "Succeeded":
        # Without a success policy (Kubernetes before 1.31) a lost worker fails the Job behind the notebook's back.
        return Reason(Stage.SUCCEEDED, "succeeded", "The run has ended well; workers of it were lost.", raw=raw)
    heads = [pod for pod in pods if pod_index(pod) == 0 and (pod.get("status") or {}).get("phase") == "Failed"]
    if heads:
        last = max(heads, key=created)
        why, (number, _) = death(last), attempt(job, last)
        # A notebook's own failure is not repeated, and one death is not worth counting.
        told = f" It was tried {number} times." if number > 1 and reason != "PodFailurePolicy" else ""
        return replace(why, message=f"{why.message}{told}", raw="\n".join(part for part in (why.raw, raw) if part))
    return Reason(
        Stage.FAILED, reason or "failed", f"The run failed: {message or reason or 'Kubernetes does not say why'}.",
        "Its record in MLflow, if it has one, tells more; else retry the run.", raw, FailureCode.WORKER_DIED,
    )  # fmt: skip


def _in_queue(
    job: Mapping[str, Any],
    workload: Mapping[str, Any] | None,
    workloads: Sequence[Mapping[str, Any]] | None,
) -> Reason | None:
    if workload is not None:
        waiting = queued(workload, workloads)
        if waiting is not None:
            return waiting
    queue = ((job.get("metadata") or {}).get("labels") or {}).get(names.QUEUE_LABEL)
    suspended = (job.get("spec") or {}).get("suspend")
    if _is_held(job) or (suspended and not queue):
        return Reason(Stage.STARTING, "held", "The run is held until all its parts are in Kubernetes.")
    if not suspended:
        return None
    if workload is not None:
        return Reason(Stage.QUEUED, "admitted", f"The queue {queue} has let the run through.")
    return Reason(
        Stage.QUEUED, "queued", f"The run waits in the queue {queue}; Kubernetes does not show its place.",
        "It starts by itself when its turn comes. If it never does, ask whether the queue exists and Kueue is there.",
    )  # fmt: skip


def _refusal(
    job: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    all_pods: Sequence[Mapping[str, Any]] | None,
) -> Reason | None:
    """Why pods are missing, if the Job controller could not make them."""
    alive = {pod_index(pod) for pod in pods if (pod.get("status") or {}).get("phase") != "Failed"}
    about = events_of(events, job)
    # Once all were made, the event tells of the past.
    if len(alive) >= _wanted(job) or not about:
        return None
    last = next(
        (event for event in reversed(about) if event.get("reason") in ("FailedCreate", "SuccessfulCreate")), None
    )
    if last is None or last["reason"] != "FailedCreate":
        return None
    return refused(text_of(last), holders=_holders(job, all_pods or ()))


def _holders(job: Mapping[str, Any], all_pods: Iterable[Mapping[str, Any]]) -> list[Holder]:
    namespace = (job.get("metadata") or {}).get("namespace")
    return holders_of(pod for pod in all_pods if (pod.get("metadata") or {}).get("namespace") == namespace)


def _without_pods(job: Mapping[str, Any]) -> Reason:
    failed = int((job.get("status") or {}).get("failed") or 0)
    if failed:
        return Reason(Stage.PENDING, "retrying", "A pod of the run was lost, and Kubernetes makes a new one.")
    return Reason(Stage.STARTING, "accepted", "Kubernetes has the run and makes its pods.")


def _again(job: Mapping[str, Any], head: Mapping[str, Any], reason: Reason) -> Reason:
    """The last attempt is dead and the next has no pod yet: Kubernetes waits longer after each."""
    number, most = attempt(job, head)
    if reason.cause == "recorded" or reason.code not in (FailureCode.EVICTED, *_REPEATED):
        return reason
    if number >= most:
        told = f" That was attempt {number} of {most}." if most > 1 else ""
        return replace(reason, message=f"{reason.message}{told}")
    hint = _DISRUPTED_HINT if reason.code is FailureCode.EVICTED else reason.hint
    return replace(
        reason, stage=Stage.PENDING, code=None, hint=hint,
        message=f"{reason.message} It is started again: attempt {number + 1} of {most}.",
    )  # fmt: skip


_REPEATED = (FailureCode.WORKER_DIED, FailureCode.OUT_OF_MEMORY, FailureCode.NOT_STARTED, FailureCode.DISK_FULL)


def _after(
    job: Mapping[str, Any], head: Mapping[str, Any], before: Sequence[Mapping[str, Any]], reason: Reason
) -> Reason:
    number, most = attempt(job, head)
    if number == 1 or reason.stage is Stage.SUCCEEDED:
        return reason
    lost = max(before, key=created, default=None)
    why = f"{explain_pod(lost).message} " if lost is not None else ""
    return replace(reason, message=f"{why}Attempt {number} of {max(number, most)}: {reason.message}")


def _with_workers(wanted: int, found: Sequence[Reason], reason: Reason, refusal: Reason | None) -> Reason:
    """The notebook runs; what its workers lack is worth saying, and no reason to stop."""
    troubled = [each for each in found if each.stage not in (Stage.RUNNING, Stage.SUCCEEDED)]
    worst = next((each for each in (refusal, *troubled) if each is not None), None)
    if worst is None:
        return reason
    told = f"The run has {len(found) - len(troubled)} of its {wanted} worker pods. {worst.message}"
    return replace(reason, cause="workers_missing", message=told, hint=worst.hint, raw=worst.raw)


def _is_held(job: Mapping[str, Any]) -> bool:
    """Whether the Job waits for its parts, or ended so (`manifest.release`)."""
    return (job.get("spec") or {}).get("parallelism") == 0


def _wanted(job: Mapping[str, Any]) -> int:
    return int((job.get("spec") or {}).get("parallelism") or 1)


def _newest(pods: Sequence[Mapping[str, Any]], index: int) -> Mapping[str, Any] | None:
    """The pod that counts: of those that live, else of all, the youngest."""
    mine = [pod for pod in pods if pod_index(pod) == index]
    alive = [pod for pod in mine if (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded")]
    return max(alive or mine, key=created, default=None)
