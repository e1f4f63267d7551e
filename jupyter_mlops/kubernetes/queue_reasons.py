"""How a run stands in a queue of Kueue: from its Workload, and from the others in the queue where they can be read.

Reads the fields that `v1beta1` and `v1beta2` share. ClusterQueues are not readable for ordinary users, so what there is
comes from the Workload's own conditions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..states import FailureCode
from .conditions import condition, created, is_true, said
from .nodes import quantity_or_none
from .quantities import amount
from .reason import Reason, Stage

_NEVER = re.compile(r"insufficient quota for (\S+) in flavor \S+, request > maximum capacity \((\S+) > (\S+)\)")
_MORE = re.compile(r"insufficient unused quota for (\S+) in flavor \S+, (\S+) more needed")
_WAIT = "It starts by itself when its turn comes."
_ADMIN = "Show the text below to the platform team."
_EVICTIONS = {
    "Preempted": "made way for more important work",
    "PodsReadyTimeout": "was not ready in the time that the queue allows",
    "AdmissionCheck": "was refused by a check of the queue",
    "ClusterQueueStopped": "was taken out because its queue was stopped",
    "LocalQueueStopped": "was taken out because its queue was stopped",
    "NodeFailures": "lost its node",
}


def queue_name(thing: Mapping[str, Any]) -> str:
    """The queue of a Workload."""
    return str((thing.get("spec") or {}).get("queueName") or "")


def queued(workload: Mapping[str, Any], workloads: Sequence[Mapping[str, Any]] | None = None) -> Reason | None:
    """Why a Workload waits in its queue; None when it has been let through.

    Args:
        workload: The run's.
        workloads: Those of the namespace, for the place in the queue; None: not readable.
    """
    if is_true(workload, "Admitted") or is_true(workload, "Finished"):
        return None
    queue = queue_name(workload)
    reserved = condition(workload, "QuotaReserved") or {}
    reason, message = str(reserved.get("reason") or ""), str(reserved.get("message") or "")
    raw = said(reason, message)
    if (workload.get("spec") or {}).get("active") is False:
        return _deactivated(workload, queue)
    if reserved.get("status") == "True":
        return _checks(workload, queue)
    if reason == "Inadmissible":
        return Reason(
            Stage.QUEUED, "inadmissible", f"The queue {queue} takes no runs: {message}.",
            "Correct 'queue' in the profile, or ask the platform team.", raw, blocked=True,
        )  # fmt: skip
    never = _NEVER.search(message)
    # With several flavors another may have room: only the last word of all of them is a no for ever.
    if never is not None and _MORE.search(message) is None:
        resource = never[1]
        return Reason(
            Stage.QUEUED, "too_large",
            f"The queue {queue} never gives a run more than {_amount(resource, never[3])}, and this one asks for "
            f"{_amount(resource, never[2])}.",
            "Ask for less, or use a profile with another queue.", raw, blocked=True,
        )  # fmt: skip
    place = position(workload, workloads) if workloads is not None else None
    where = f"The run waits in the queue {queue}" + (f", position {place}" if place is not None else "")
    more = _MORE.search(message)
    needs = f": {_amount(more[1], more[2])} more must come free" if more is not None else ""
    return Reason(Stage.QUEUED, "queued", f"{where}{needs}.{_put_back(workload)}", _WAIT, raw)


def position(workload: Mapping[str, Any], workloads: Sequence[Mapping[str, Any]]) -> int | None:
    """The place among those that wait in the same queue, from 1; None when it is not among them.

    By priority, then by age, as Kueue orders them without fair sharing; one that was put back for being late is as old
    as that. Source: queueOrderingFunc in sigs.k8s.io/kueue, pkg/cache/queue/cluster_queue.go, and
    GetQueueOrderTimestamp in pkg/workload/workload.go.
    """

    def order(each: Mapping[str, Any]) -> tuple[int, str, str]:
        evicted = condition(each, "Evicted") or {}
        since = created(each)
        if evicted.get("status") == "True" and evicted.get("reason") in ("PodsReadyTimeout", "AdmissionCheck"):
            since = str(evicted.get("lastTransitionTime") or since)
        uid = str((each.get("metadata") or {}).get("uid") or "")
        return -int((each.get("spec") or {}).get("priority") or 0), since, uid

    waiting = [
        each
        for each in workloads
        if queue_name(each) == queue_name(workload)
        and (each.get("spec") or {}).get("active") is not False
        and not is_true(each, "QuotaReserved")
        and not is_true(each, "Finished")
    ]
    uids = [(each.get("metadata") or {}).get("uid") for each in sorted(waiting, key=order)]
    mine = (workload.get("metadata") or {}).get("uid")
    return uids.index(mine) + 1 if mine in uids else None


def _checks(workload: Mapping[str, Any], queue: str) -> Reason:
    checks = (workload.get("status") or {}).get("admissionChecks") or ()
    open_ = [check for check in checks if check.get("state") != "Ready"]
    rejected = next((check for check in open_ if check.get("state") == "Rejected"), None)
    raw = "; ".join(said(str(check.get("name")), str(check.get("message") or check.get("state"))) for check in open_)
    if rejected is not None:
        return Reason(
            Stage.QUEUED, "admission_check", f"The check {rejected.get('name')} of the queue {queue} refuses the run.",
            _ADMIN, raw, blocked=True,
        )  # fmt: skip
    named = ", ".join(str(check.get("name")) for check in open_) or "its own checks"
    return Reason(
        Stage.QUEUED, "admission_check", f"The queue {queue} has a place for the run and waits for {named}.", _WAIT, raw
    )


def _deactivated(workload: Mapping[str, Any], queue: str) -> Reason:
    evicted = condition(workload, "Evicted") or {}
    raw = said(str(evicted.get("reason") or ""), str(evicted.get("message") or "The workload is deactivated"))
    return Reason(
        Stage.FAILED, "deactivated", f"The queue {queue} has put the run aside.", _ADMIN, raw, FailureCode.NOT_STARTED,
        blocked=True,
    )  # fmt: skip


def _put_back(workload: Mapping[str, Any]) -> str:
    evicted = condition(workload, "Evicted") or {}
    if evicted.get("status") != "True":
        return ""
    reason = str(evicted.get("reason") or "")
    return f" It {_EVICTIONS.get(reason, f'was taken out ({reason})')}, and begins again."


def _amount(resource: str, quantity: str) -> str:
    number = quantity_or_none(quantity.rstrip(";,."))
    return amount(resource, number) if number is not None else f"{quantity} {resource}"
