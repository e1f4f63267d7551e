"""How one pod stands, and why it died: from the pod, its events, and the nodes where they can be read.

Who is at fault decides the code: the run's own memory and disk are the run's, a node that went away is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..events import RunEvent, parse_event
from ..states import FailureCode, RunState
from . import contract, names
from .conditions import condition, events_of, is_true, said, text_of
from .image_reasons import IMAGE_TROUBLES, image_trouble, pulling
from .nodes import NodeUse, quantity_or_none
from .placement_reasons import unschedulable
from .quantities import format_bytes
from .reason import Reason, Stage
from .start_reasons import config_error, creating

_RETRY = "Retry the run: it was not your code."
_DISRUPTIONS = {
    # reason of the condition DisruptionTarget: (cause, sentence)
    "PreemptionByScheduler": ("preempted", "made way for more important work"),
    "DeletionByTaintManager": ("node_lost", "lost its node, which stopped answering or was taken out"),
    "EvictionByEvictionAPI": ("drained", "was moved off its node, which is being drained"),
    "DeletionByPodGC": ("node_lost", "lost its node, which is gone"),
    "TerminationByKubelet": ("evicted", "was ended by its node, which ran short or was shut down"),
}
_SIGNALS = {134: "SIGABRT", 135: "SIGBUS", 136: "SIGFPE", 139: "SIGSEGV", 143: "SIGTERM"}
_STATUS_REASONS = {
    # `status.reason` of a pod that failed without its containers having a say
    "NodeLost": ("node_lost", "lost its node, which does not answer"),
    "Terminated": ("node_shutdown", "lost its node, which was shut down"),
    "NodeShutdown": ("node_shutdown", "was refused by its node, which is being shut down"),
    "Preempting": ("preempted", "made way for a part of Kubernetes itself"),
    "NodeAffinity": ("node_changed", "does not fit its node any more, whose labels were changed"),
    "UnexpectedAdmissionError": ("node_refused", "was refused by its node, whose devices have changed"),
}


def who(pod: Mapping[str, Any]) -> str:
    """What the sentence is about: the run, or one of its worker pods."""
    index = pod_index(pod)
    return f"Worker pod {index}" if index else "The run"


def pod_index(pod: Mapping[str, Any]) -> int:
    """The completion index of a pod of an Indexed Job; 0 for any other."""
    metadata = pod.get("metadata") or {}
    for where in ("annotations", "labels"):
        value = (metadata.get(where) or {}).get(names.INDEX_KEY)
        if value is not None and str(value).isdecimal():
            return int(value)
    return 0


def explain_pod(
    pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]] = (),
    *,
    nodes: Sequence[NodeUse] | None = None,
    pods_known: bool = False,
) -> Reason:
    """How this pod stands.

    Args:
        pod: The pod.
        events: Events, of whatever object.
        nodes: The nodes with what is used on them; None: not readable.
        pods_known: Whether what is used on the nodes is known.
    """
    status = pod.get("status") or {}
    phase = status.get("phase")
    if phase == "Succeeded":
        return Reason(Stage.SUCCEEDED, "succeeded", f"{who(pod)} has ended well.")
    if phase == "Failed":
        return death(pod)
    node = str((pod.get("spec") or {}).get("nodeName") or "")
    if node and nodes is not None and any(known.name == node and not known.answers for known in nodes):
        return Reason(
            Stage.RUNNING if phase == "Running" else Stage.STARTING, "node_away",
            f"The node {node} of {_lower(who(pod))} does not answer.",
            "Kubernetes starts it elsewhere only when the node is back or was removed: tell the platform team.",
            said(str(status.get("reason") or ""), str(status.get("message") or "")),
        )  # fmt: skip
    disruption = _disruption(pod)
    if disruption is not None:
        return disruption
    mine = events_of(events, pod)
    placed = condition(pod, "PodScheduled")
    if not node:
        return _unplaced(pod, placed, mine, nodes, pods_known)
    return _containers(pod, mine, node)


def _unplaced(
    pod: Mapping[str, Any],
    placed: Mapping[str, Any] | None,
    events: Sequence[Mapping[str, Any]],
    nodes: Sequence[NodeUse] | None,
    pods_known: bool,
) -> Reason:
    reason, message = str((placed or {}).get("reason") or ""), str((placed or {}).get("message") or "")
    if reason == "SchedulingGated":
        return Reason(
            Stage.QUEUED, "gated", f"{who(pod)} is held back by a queue or another gate.",
            "It starts by itself when the gate opens.", said(reason, message),
        )  # fmt: skip
    if events and events[-1].get("reason") == "TriggeredScaleUp":
        return Reason(
            Stage.PENDING, "scaling_up", f"A node is being added for {_lower(who(pod))}.",
            "Nothing to do. A new node takes some minutes.", text_of(events[-1]),
        )  # fmt: skip
    if reason == "Unschedulable":
        return unschedulable(pod, message, nodes=nodes, pods_known=pods_known)
    if reason:  # SchedulerError, and whatever comes
        return Reason(Stage.PENDING, reason, f"No node was found for {_lower(who(pod))}: {message}", "", message)
    return Reason(Stage.PENDING, "scheduling", f"{who(pod)} waits for the kube-scheduler.")


def _containers(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], node: str) -> Reason:
    status = pod.get("status") or {}
    # Containers that somebody's webhook added come first: while one of them waits, ours has not begun.
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (each.get("state") or {}).get("waiting")
        if not waiting:
            continue
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        image = str(each.get("image") or _image(pod, str(each.get("name"))))
        if reason in IMAGE_TROUBLES:
            return image_trouble(waiting, image, events, node=node)
        if reason == "CreateContainerConfigError":
            return config_error(message, image)
        if reason not in ("", "ContainerCreating", "PodInitializing"):
            return Reason(
                Stage.STARTING, reason, f"A container of {_lower(who(pod))} cannot be started: {message or reason}",
                "Show the text below to the platform team.", said(reason, message),
            )  # fmt: skip
    main = _main(status)
    if "running" in (main.get("state") or {}):
        return Reason(Stage.RUNNING, "running", f"{who(pod)} is running on the node {node}.")
    image = str(main.get("image") or _image(pod, contract.CONTAINER))
    if events and events[-1].get("reason") == "Pulling":
        found = re.search(r'"([^"]+)"', text_of(events[-1]))
        return pulling(found[1] if found else image, node)
    return creating(events, node, who(pod), job=str((pod["metadata"].get("labels") or {}).get(names.JOB_LABEL) or ""))


def death(pod: Mapping[str, Any]) -> Reason:
    """Why a pod that failed did."""
    status = pod.get("status") or {}
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    ended = (_main(status).get("state") or {}).get("terminated") or {}
    if ended.get("exitCode") == contract.EXIT_RECORDED:
        return _recorded(ended)
    disruption = _eviction(pod, message) if reason == "Evicted" else _disruption(pod)
    if disruption is not None:
        return disruption
    raw = said(reason, message)
    if reason in _STATUS_REASONS:
        return _disrupted(pod, *_STATUS_REASONS[reason], raw)
    if reason.startswith("OutOf"):
        return _disrupted(pod, "node_full", "was refused by its node, which had been filled meanwhile", raw)
    if reason == "DeadlineExceeded":
        return Reason(
            Stage.FAILED, "deadline", f"{who(pod)} took longer than it may.", "Raise --timeout.", raw,
            FailureCode.RUN_TIMEOUT,
        )  # fmt: skip
    # A sidecar that somebody's webhook put in may have died first; our own container tells most.
    return _termination(pod, ended or _first_failed(status), raw)


def _termination(pod: Mapping[str, Any], ended: Mapping[str, Any], fallback: str) -> Reason:
    reason, code = str(ended.get("reason") or ""), ended.get("exitCode")
    message = str(ended.get("message") or "")
    raw = said(reason, message) or fallback
    if reason == "OOMKilled":
        limit = _memory_limit(pod)
        every = (
            f"all of its {format_bytes(limit)} of main memory"
            if limit is not None
            else "more main memory than its node had"
        )
        return Reason(
            Stage.FAILED, "out_of_memory", f"{who(pod)} used {every} (not GPU memory) and was ended.",
            "Ask for more with --memory or another profile, or process the data in smaller parts.", raw,
            FailureCode.OUT_OF_MEMORY,
        )  # fmt: skip
    if reason in ("StartError", "ContainerCannotRun"):
        missing = "executable file not found" in message or "no such file or directory" in message
        return Reason(
            Stage.FAILED, "start", f"{who(pod)} could not be started: "
            + ("the image has no python on its PATH." if missing else _flat(message) or reason),
            "Use an image in which jupyter-mlops is installed." if missing else "Show the text to the platform team.",
            raw, FailureCode.NOT_STARTED,
        )  # fmt: skip
    if "No module named" in message and "jupyter_mlops" in message:
        return Reason(
            Stage.FAILED, "image_without_product", f"{who(pod)} could not be started: the image lacks jupyter-mlops.",
            "Use an image in which jupyter-mlops is installed.", raw, FailureCode.NOT_STARTED,
        )  # fmt: skip
    if reason == "ContainerStatusUnknown":
        return _disrupted(pod, "node_lost", "was on a node that does not know what became of it", raw)
    if code is None:
        cause = str((pod.get("status") or {}).get("reason") or "unknown")
        told = f"{who(pod)} failed: {fallback or 'Kubernetes does not say why'}"
        return Reason(Stage.FAILED, cause, told, _RETRY, raw, FailureCode.WORKER_DIED)
    how = f"signal {_SIGNALS[code]}" if code in _SIGNALS else "it was killed" if code == 137 else f"exit code {code}"
    hint = "The log of the run tells more." if code != 137 else "Memory may have been short, or somebody ended it."
    return Reason(Stage.FAILED, "died", f"{who(pod)} died ({how}).", hint, raw, FailureCode.WORKER_DIED)


def _recorded(ended: Mapping[str, Any]) -> Reason:
    """What the head itself wrote as its last act."""
    raw = str(ended.get("message") or "")
    for line in reversed(raw.splitlines()):
        try:
            event = parse_event(line)
        except ValueError:
            continue
        if isinstance(event, RunEvent) and event.state in (RunState.FAILED, RunState.CANCELLED):
            code = FailureCode.CANCELLED if event.state is RunState.CANCELLED else event.code
            return Reason(
                Stage.FAILED, code.value if code else "recorded", event.message, event.hint, raw,
                code or FailureCode.INTERNAL,
            )  # fmt: skip
    return Reason(
        Stage.FAILED, "recorded", "The run failed; its record says why.", "`jupyter mlops show` has it.", raw,
        FailureCode.INTERNAL,
    )  # fmt: skip


def _eviction(pod: Mapping[str, Any], message: str) -> Reason:
    if re.search(r"ephemeral[- ](?:local )?storage (?:usage|limit)|EmptyDir volume", message):
        volume = re.search(r'EmptyDir volume "([^"]+)" exceeds the limit "([^"]+)"', message)
        if volume and volume[1] == "shm":
            size = format_bytes(quantity_or_none(volume[2]) or 0)
            return Reason(
                Stage.FAILED, "shm_full", f"{who(pod)} used more than the {size} of /dev/shm that it has.",
                "Raise 'shm' in the profile, or use fewer loader processes.", said("Evicted", message),
                FailureCode.OUT_OF_MEMORY,
            )  # fmt: skip
        return Reason(
            Stage.FAILED, "disk_full", f"{who(pod)} wrote more to the node's disk than it may.",
            "Write less to local files; results belong into MLflow.", said("Evicted", message), FailureCode.DISK_FULL,
        )  # fmt: skip
    low = re.search(r"low on resource: (\S+?)\.", message)
    what = f", which ran short of {low[1]}" if low else ""
    return _disrupted(pod, "evicted", f"was ended by its node{what}", said("Evicted", message))


def _disruption(pod: Mapping[str, Any]) -> Reason | None:
    if not is_true(pod, "DisruptionTarget"):
        return None
    found = condition(pod, "DisruptionTarget") or {}
    reason, message = str(found.get("reason") or ""), str(found.get("message") or "")
    cause, sentence = _DISRUPTIONS.get(reason, (reason or "disrupted", f"was disturbed: {message or reason}"))
    return _disrupted(pod, cause, sentence, said(reason, message))


def _disrupted(pod: Mapping[str, Any], cause: str, sentence: str, raw: str) -> Reason:
    return Reason(Stage.FAILED, cause, f"{who(pod)} {sentence}.", _RETRY, raw, FailureCode.EVICTED)


def _main(status: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or ()
    return next((each for each in statuses if each.get("name") == contract.CONTAINER), {})


def _first_failed(status: Mapping[str, Any]) -> Mapping[str, Any]:
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        ended: Mapping[str, Any] = (each.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return ended
    return {}


def _memory_limit(pod: Mapping[str, Any]) -> float | None:
    for container in (pod.get("spec") or {}).get("containers") or ():
        if container.get("name") == contract.CONTAINER:
            limit = quantity_or_none(((container.get("resources") or {}).get("limits") or {}).get("memory"))
            return None if limit is None else float(limit)
    return None


def _image(pod: Mapping[str, Any], container: str) -> str:
    spec = pod.get("spec") or {}
    for each in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        if each.get("name") == container:
            return str(each.get("image") or "")
    return ""


def _flat(text: str) -> str:
    return " ".join(text.split())[:300]


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
