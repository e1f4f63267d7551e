"""Looks at what Kubernetes has of one run, and reads the logs of its pods without losing or doubling a line.

A look is asked of the API server, or of a mirror that many runs share. Knows the API and no MLflow; what the objects
mean is decided by `reasons`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import KubernetesError
from ..events import RunEvent, parse_event
from ..states import RunState
from . import contract, names
from .api import Api
from .conditions import created, is_true
from .log_lines import Line, Position, moment, parse_line
from .mirror import Mirror, events_about
from .pod_reasons import pod_index
from .reasons import Reason, explain

_PENDING_LOOKED_AT = 3
"""Pods of which the events are read: what holds one worker up holds the others up too."""
_OVER = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")
"""Conditions of a Job that leave nothing to explain."""
REFUSED_PATIENCE = 45.0
"""Seconds after which a refusal in the middle of a run is believed."""
_GONE = ("kubernetes_not_found", "kubernetes_invalid", "kubernetes_no_namespace")
"""What is answered for the log of a pod that is gone, or whose container never began."""
_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_WORKERS_FOLLOWED, _WORKER_LINES, _WORKER_INTERVAL = 16, 1000, 5.0


@dataclass(frozen=True)
class Look:
    """What Kubernetes has of a run at one moment.

    Attributes:
        job: Its Job, or None: there is none any more.
        pods: Its pods, the oldest first.
        reason: How it stands and why.
    """

    job: Mapping[str, Any] | None
    pods: Sequence[Mapping[str, Any]]
    reason: Reason

    @property
    def heads(self) -> list[Mapping[str, Any]]:
        """The pods that run the notebook, one an attempt, the oldest first."""
        return [pod for pod in self.pods if pod_index(pod) == 0]

    @property
    def event(self) -> RunEvent:
        """How it stands, as an event, at the moment that it began to if it runs."""
        state = self.reason.run_state
        if state is not RunState.RUNNING or not self.heads:
            return RunEvent(state=RunState.PENDING, phase=self.reason.message)
        began = started(self.heads[-1])
        return RunEvent(state=state) if began is None else RunEvent(state=state, time=began)

    @property
    def is_over(self) -> bool:
        """Whether nothing of the notebook runs and nothing will."""
        if any(not has_ended(pod) for pod in self.heads):
            return False
        deleting = self.job is None or bool(self.job["metadata"].get("deletionTimestamp"))
        return deleting or self.reason.run_state.is_terminal


class Watch:
    """The objects of one run.

    Args:
        api: Where they are.
        name: Of the Job.
        selector: Labels of its pods.
        uid: Of the Job, if it is known: another one of that name is not meant.
        mirror: Where to look first; None: the API server is asked at each look.
    """

    def __init__(
        self, api: Api, name: str, selector: Mapping[str, str], uid: str = "", *, mirror: Mirror | None = None
    ) -> None:
        self._api = api
        self._name = name
        self._selector = selector
        self._uid = uid
        self._mirror = mirror
        self._nodes_allowed = self._pods_allowed = True

    def look(self) -> Look:
        """How it stands now.

        Raises:
            KubernetesError: it cannot be seen.
        """
        if self._mirror is not None:
            self._mirror.refresh()
            seen = self._explained(*self._mirrored(self._mirror), self._mirror)
            # A mirror can be a moment behind, and one of pods behind one of Jobs: an end is believed from the source.
            if not seen.is_over:
                return seen
        job = self._right_one(self._api.get("jobs", self._name))
        return self._explained(job, sorted(self._api.find("pods", labels=self._selector), key=created), None)

    def glance(self, mirror: Mirror) -> Look:
        """How it stands, without what explains a delay; asks nobody: the mirror was refreshed."""
        job, pods = self._mirrored(mirror)
        return Look(job, pods, explain(job, pods=pods))

    def _mirrored(self, mirror: Mirror) -> tuple[Mapping[str, Any] | None, list[dict[str, Any]]]:
        pods = mirror.pods(self._selector.get(names.RUN_LABEL, ""))
        return self._right_one(mirror.job(self._name)), sorted(pods, key=created)

    def _right_one(self, job: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if job is not None and self._uid and job["metadata"]["uid"] != self._uid else job

    def _explained(self, job: Mapping[str, Any] | None, pods: list[dict[str, Any]], mirror: Mirror | None) -> Look:
        workload, workloads = self._workload(job, mirror)
        nodes = all_pods = None
        if any(_is_unplaced(pod) for pod in pods):
            nodes, all_pods = self._nodes(mirror), self._all_pods(mirror)
        about = _worth_explaining(job, pods)
        events = events_about(self._api, about) if mirror is None else mirror.events(about)
        reason = explain(
            job, workload=workload, pods=pods, events=events, nodes=nodes, all_pods=all_pods, workloads=workloads,
        )  # fmt: skip
        return Look(job, pods, reason)

    def _workload(
        self, job: Mapping[str, Any] | None, mirror: Mirror | None
    ) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None]:
        """The Job's Workload of Kueue, and those that it waits among."""
        labels = (job or {}).get("metadata", {}).get("labels") or {}
        if job is None or names.QUEUE_LABEL not in labels or not job["spec"].get("suspend"):
            return None, None
        all_of_them = self._api.find_if_allowed("workloads") if mirror is None else mirror.workloads()
        uid = job["metadata"]["uid"]
        mine = next((each for each in all_of_them or () if _owned_by(each, uid)), None)
        return mine, all_of_them

    def _nodes(self, mirror: Mirror | None) -> list[dict[str, Any]] | None:
        if mirror is not None:
            return mirror.nodes()
        found = self._api.find_if_allowed("nodes") if self._nodes_allowed else None
        self._nodes_allowed = found is not None
        return found

    def _all_pods(self, mirror: Mirror | None) -> list[dict[str, Any]] | None:
        if mirror is not None:
            return mirror.all_pods()
        found = self._api.find_if_allowed("pods", everywhere=True) if self._pods_allowed else None
        self._pods_allowed = found is not None
        return found


def _worth_explaining(job: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of which objects the events tell why it does not go on."""
    if job is None or any(is_true(job, kind) for kind in _OVER):
        return []
    wanted = int(job["spec"].get("parallelism") or 1)
    waiting = [pod for pod in pods if not has_log(pod) and not has_ended(pod)]
    about = [job] if sum(not has_ended(pod) for pod in pods) < wanted else []
    return [*about, *waiting[:_PENDING_LOOKED_AT]]


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether nothing runs in the pod any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def has_log(pod: Mapping[str, Any]) -> bool:
    """Whether our container in it has begun, and so has a log."""
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        if each.get("name") == contract.CONTAINER:
            state = each.get("state") or {}
            return "running" in state or "terminated" in state
    return False


def started(pod: Mapping[str, Any]) -> datetime | None:
    """When our container in it began; None: it has not, or does not tell."""
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        running = (each.get("state") or {}).get("running") or {}
        if each.get("name") == contract.CONTAINER and running.get("startedAt"):
            return moment(str(running["startedAt"]))
    return None


def last_word(pods: Sequence[Mapping[str, Any]]) -> RunEvent | None:
    """What the head left with Kubernetes as its last act, or None: it did not come to it.

    Args:
        pods: The heads, the oldest first.
    """
    for pod in reversed(pods):
        for each in (pod.get("status") or {}).get("containerStatuses") or ():
            ended = (each.get("state") or {}).get("terminated") or {}
            if each.get("name") != contract.CONTAINER or ended.get("exitCode") not in (0, contract.EXIT_RECORDED):
                continue
            for line in reversed(str(ended.get("message") or "").splitlines()):
                try:
                    event = parse_event(line)
                except ValueError:
                    continue
                if isinstance(event, RunEvent) and event.state.is_terminal:
                    return event
    return None


@dataclass(frozen=True)
class Printed:
    """A line of a pod's log, or its end.

    Attributes:
        pod: The pod's name.
        line: None: nothing follows.
        worker: Index of a worker pod; None: it is the head's.
        problem: Why there are no more lines although there may be some; empty: there are none.
    """

    pod: str
    line: Line | None
    worker: int | None = None
    problem: str = ""


class HeadLog:
    """Reads the log of one head to its end, in a thread of its own, across lost connections.

    Args:
        api: Where it is.
        pod: The pod's name.
        sink: Gets the lines, each once, and then the end.
    """

    def __init__(self, api: Api, pod: str, sink: queue.Queue[Printed]) -> None:
        self._api = api
        self.pod = pod
        self._sink = sink
        self._closed = threading.Event()
        self._pod_ended = threading.Event()
        self._position = Position()
        threading.Thread(target=self._read, name="mlops-log", daemon=True).start()

    def pod_has_ended(self) -> None:
        """The pod prints nothing more."""
        self._pod_ended.set()

    def close(self) -> None:
        """Nobody wants the lines any more; returns at once."""
        self._closed.set()
        self._pod_ended.set()

    def _read(self) -> None:
        pause = _PAUSE
        refused: float | None = None
        problem = ""
        while not self._closed.is_set():
            # After the end once more from the start: a stream that ends may have been cut as well.
            whole = self._pod_ended.is_set()
            self._position.restart()
            try:
                for raw in self._api.log(self.pod, container=contract.CONTAINER, follow=not whole):
                    line = parse_line(raw)
                    if self._closed.is_set():
                        return
                    refused = None
                    if self._position.is_new(line):
                        pause = _PAUSE
                        self._sink.put(Printed(self.pod, line))
            except KubernetesError as error:
                if error.code in _GONE and whole:
                    break
                if not error.retryable and error.code not in _GONE:
                    refused = refused or time.monotonic()
                    if time.monotonic() - refused > REFUSED_PATIENCE:
                        problem = f"The log of the run cannot be read: {error.message} {error.hint}".strip()
                        break
            else:
                if whole:
                    break
            self._pod_ended.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._sink.put(Printed(self.pod, None, problem=problem))


class WorkerLogs:
    """Reads what worker pods print, now and then and not all of it: they print warnings, and the rest is noise.

    Args:
        api: Where they are.
        sink: Gets the lines.
    """

    def __init__(self, api: Api, sink: queue.Queue[Printed]) -> None:
        self._api = api
        self._sink = sink
        self._closed = threading.Event()
        self._pods: list[tuple[str, int]] = []
        self._seen: dict[str, tuple[str, int]] = {}
        self._thread: threading.Thread | None = None

    def watch(self, pods: Sequence[Mapping[str, Any]]) -> None:
        """These are the run's pods now."""
        running = [(pod["metadata"]["name"], pod_index(pod)) for pod in pods if pod_index(pod) and has_log(pod)]
        self._pods = running[-_WORKERS_FOLLOWED:]
        if self._pods and self._thread is None:
            self._thread = threading.Thread(target=self._read, name="mlops-worker-logs", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Nobody wants the lines any more; returns at once."""
        self._closed.set()

    def _read(self) -> None:
        while not self._closed.is_set():
            for pod, index in list(self._pods):
                self._read_one(pod, index)
            self._closed.wait(_WORKER_INTERVAL)

    def _read_one(self, pod: str, index: int) -> None:
        last, count = self._seen.get(pod, ("", 0))
        if count >= _WORKER_LINES or self._closed.is_set():
            return
        since = f"{last[:19]}Z" if last else ""
        try:
            for raw in self._api.log(pod, container=contract.CONTAINER, since=since):
                line = parse_line(raw)
                if line.time > last and count < _WORKER_LINES and not self._closed.is_set():
                    self._sink.put(Printed(pod, line, index))
                    last, count = line.time, count + 1
        except KubernetesError:
            pass  # the next look finds it, or the pod is gone
        self._seen[pod] = (last, count)


def _is_unplaced(pod: Mapping[str, Any]) -> bool:
    return not has_ended(pod) and not (pod.get("spec") or {}).get("nodeName")


def _owned_by(thing: Mapping[str, Any], uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in thing["metadata"].get("ownerReferences") or ())
