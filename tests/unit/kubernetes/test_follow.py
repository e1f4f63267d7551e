"""The stream of a run: what Kubernetes shows from look to look, and what the logs say, in one order and once.

The API server is scripted here, so that each history can be told exactly; the real one is in `tests/cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from jupyter_mlops.errors import KubernetesError
from jupyter_mlops.events import Event, LogEvent, NoticeEvent, RunEvent, event_line
from jupyter_mlops.kubernetes import contract, follow
from jupyter_mlops.kubernetes.follow import Stream
from jupyter_mlops.kubernetes.watch import Watch
from jupyter_mlops.spec import FailureCode, RunState

from . import objects

Object = dict[str, Any]
DONE = RunEvent(state=RunState.SUCCEEDED)
RUNNING = RunEvent(state=RunState.RUNNING, total_cells=2)


def lost(retryable: bool = True, code: str = "kubernetes_unreachable") -> KubernetesError:
    error = KubernetesError("Kubernetes at k8s:6443 does not answer.", code=code)
    error.retryable = retryable
    return error


def stamped(*texts: str | Event, second: int = 0) -> list[str]:
    """Lines of a log as Kubernetes gives them."""
    plain = [text if isinstance(text, str) else event_line(text).decode().rstrip() for text in texts]
    return [f"2026-11-24T10:00:{second:02d}.{number:09d}Z {text}" for number, text in enumerate(plain)]


class Script:
    """What an API server shows: one state of the objects after the other, and the logs, with their faults.

    Args:
        states: (job, pods, events) for each look; the last one stays. An error is raised at that look.
        logs: By pod, what each reading of its log gives; an error within is where the connection breaks.
    """

    namespace = "team-a"

    def __init__(self, states: list[Any], logs: Mapping[str, list[list[Any]]] | None = None) -> None:
        self._states = states
        self._logs = {pod: list(readings) for pod, readings in (logs or {}).items()}
        self._now: Any = None

    def get(self, resource: str, name: str) -> Object | None:
        self._now = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(self._now, Exception):
            raise self._now
        job: Object | None = self._now[0]
        return job

    def find(self, resource: str, **_selection: Any) -> list[Object]:
        return list(self._now[1] if resource == "pods" else self._now[2])

    def find_if_allowed(self, resource: str, **_selection: Any) -> None:
        return None

    def log(self, pod: str, **_options: Any) -> Iterator[str]:
        readings = self._logs.get(pod)
        if readings is None:
            raise lost(False, "kubernetes_not_found")
        for line in readings.pop(0) if len(readings) > 1 else readings[0]:
            if isinstance(line, Exception):
                raise line
            yield line


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SOON", "_LATER", "_TICK"):
        monkeypatch.setattr(follow, name, 0.01)
    from jupyter_mlops.kubernetes import watch

    monkeypatch.setattr(watch, "_PAUSE", 0.01)
    monkeypatch.setattr(watch, "_WORKER_INTERVAL", 0.01)


def stream(script: Script) -> Stream:
    return Stream(script, Watch(script, "train-abc", {}))  # type: ignore[arg-type]


def told(events: list[Event]) -> list[str]:
    """The events in short."""
    found = []
    for event in events:
        if isinstance(event, RunEvent):
            found.append(f"{event.state.value}: {event.phase or event.message}".removesuffix(": "))
        elif isinstance(event, (LogEvent, NoticeEvent)):
            found.append(getattr(event, "message", None) or event.text.rstrip())  # type: ignore[union-attr]
    return found


def ended(pod: Object, code: int = 0, message: str = "") -> Object:
    """The same pod after its container's end."""
    state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": message}}
    status = {
        **pod["status"], "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{"name": "run", "image": objects.IMAGE, "state": state}],
    }  # fmt: skip
    return {**pod, "status": status}


def test_what_holds_a_run_up_is_told_once_a_change_and_then_its_head_speaks() -> None:
    waits = objects.unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", name="head")
    pulls = objects.waiting("ContainerCreating", name="head")
    runs = objects.running(name="head")
    job = objects.job()
    script = Script(
        [(job, [], []), (job, [waits], []), (job, [waits], []), (job, [pulls], []), (job, [runs], [])],
        {"head": [stamped(RUNNING, "a print", DONE)]},
    )
    followed = stream(script)
    assert told(list(followed.events())) == [
        "pending: Kubernetes has the run and makes its pods.",
        f"pending: {_message(waits)}",
        "pending: The run is starting on the node node-1.",
        "running",
        "a print",
        "succeeded",
    ]
    assert followed.final == DONE


def _message(pod: Object) -> str:
    from jupyter_mlops.kubernetes.reasons import explain

    return explain(objects.job(), pods=[pod]).message


def test_a_log_whose_connection_breaks_loses_and_doubles_nothing() -> None:
    lines = stamped(RUNNING, "one", "two", "three", DONE)
    script = Script(
        [(objects.job(), [objects.running(name="head")], [])],
        {"head": [[*lines[:2], lost()], [lost()], [*lines[:1], lost()], [*lines[:4], lost()], lines]},
    )
    assert told(list(stream(script).events())) == ["running", "one", "two", "three", "succeeded"]


def test_a_stream_that_ends_before_the_pod_does_is_read_again() -> None:
    lines = stamped(RUNNING, "one", DONE)
    head = objects.running(name="head")
    script = Script(
        [(objects.job(), [head], []), (objects.job(), [ended(head)], [])], {"head": [lines[:1], lines[:2], lines]}
    )
    assert told(list(stream(script).events())) == ["running", "one", "succeeded"]


def test_an_api_server_that_is_away_is_told_once_and_again_when_it_is_back() -> None:
    job, head = objects.job(), objects.running(name="head")
    script = Script(
        [(job, [], []), lost(), lost(), lost(), (job, [head], [])], {"head": [stamped(DONE)]}
    )  # fmt: skip
    events = told(list(stream(script).events()))
    assert events == [
        "pending: Kubernetes has the run and makes its pods.",
        "Kubernetes at k8s:6443 does not answer. The run goes on, and this view too as soon as it is seen again.",
        "Kubernetes answers again.",
        "succeeded",
    ]


def test_a_refusal_that_stays_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_FIRST_REFUSAL", 0.1)
    with pytest.raises(KubernetesError):
        list(stream(Script([lost(False, "kubernetes_login")])).events())
    monkeypatch.setattr(follow, "REFUSED_PATIENCE", 0.1)
    seen = (objects.job(), [], [])
    with pytest.raises(KubernetesError):
        list(stream(Script([seen, lost(False, "kubernetes_forbidden")])).events())


def test_a_refusal_by_an_api_server_that_is_just_starting_is_waited_out() -> None:
    refused = lost(False, "kubernetes_forbidden")
    head = objects.running(name="head")
    script = Script(
        [(objects.job(), [head], []), refused, refused, (objects.job(), [ended(head)], [])],
        {"head": [[*stamped(RUNNING), refused], [refused], stamped(RUNNING, DONE)]},
    )
    assert [text for text in told(list(stream(script).events())) if "Kubernetes" not in text] == [
        "running",
        "succeeded",
    ]


def test_a_new_attempt_is_told_and_the_stream_goes_on_with_its_pod() -> None:
    job = objects.job()
    first = objects.running(name="head-1")
    lost_pod = objects.disrupted("EvictionByEvictionAPI", name="head-1")
    lost_pod["status"]["containerStatuses"] = ended(first, contract.EXIT_INTERRUPTED)["status"]["containerStatuses"]
    second = objects.running(name="head-2", disruptions=1, created="2026-11-24T10:05:00Z")
    script = Script(
        [(job, [first], []), (job, [lost_pod], []), (job, [lost_pod], []), (job, [lost_pod, second], [])],
        {"head-1": [stamped(RUNNING, "first")], "head-2": [stamped(RUNNING, "second", DONE)]},
    )
    events = told(list(stream(script).events()))
    assert events[:2] == ["running", "first"]
    assert events[-3:] == ["running", "second", "succeeded"]
    between = events[2:-3]
    assert between[0].startswith("pending: The run was moved off its node")
    assert "started again: attempt 2 of 3" in between[0]
    assert between[-1].startswith("pending: ")
    assert "Attempt 2 of 3" in between[-1]


def test_a_head_without_a_last_event_in_its_log_has_it_with_kubernetes() -> None:
    head = objects.running(name="head")
    word = RunEvent(state=RunState.FAILED, code=FailureCode.CELL_FAILED, message="Cell 1 failed", cell_index=1)
    dead = ended(head, contract.EXIT_RECORDED, event_line(word).decode())
    failed = objects.job(conditions=[objects.condition("Failed", "True", "PodFailurePolicy")])
    followed = stream(Script([(objects.job(), [head], []), (failed, [dead], [])], {"head": [stamped(RUNNING)]}))
    assert told(list(followed.events())) == ["running"]
    assert followed.final == word


def test_a_run_whose_heads_all_died_ends_with_the_reason() -> None:
    heads = [
        objects.dead("OOMKilled", 137, name=f"head-{number}", failures=number, created=f"2026-11-24T10:0{number}:00Z")
        for number in range(3)
    ]
    failed = objects.job(conditions=[objects.condition("Failed", "True", "FailedIndexes")])
    followed = stream(Script([(failed, heads, [])], {f"head-{n}": [stamped(f"log {n}")] for n in range(3)}))
    events = told(list(followed.events()))
    assert [event for event in events if event.startswith("log")] == ["log 0", "log 1", "log 2"]
    assert followed.final is None
    assert followed.ended is not None
    assert followed.ended.code is FailureCode.OUT_OF_MEMORY


def test_a_job_that_is_gone_ends_the_stream_only_when_its_pods_are() -> None:
    head = objects.running(name="head")
    gone = Script([(None, [head], []), (None, [head], []), (None, [], [])], {"head": [stamped(RUNNING, "last words")]})
    followed = stream(gone)
    assert told(list(followed.events())) == ["running", "last words"]
    assert followed.ended is not None
    assert followed.ended.cause == "gone"


def test_workers_that_are_missing_are_told_while_the_notebook_runs() -> None:
    job, head = objects.job(pods=2), objects.running(name="head")
    worker = objects.unschedulable("0/1 nodes are available: 1 Insufficient cpu.", index=1, name="worker")
    script = Script(
        [(job, [head, worker], [])] * 3 + [(job, [ended(head), worker], [])],
        {"head": [stamped(RUNNING), stamped(RUNNING, DONE)]},
    )
    events = told(list(stream(script).events()))
    assert sum("0 of its 1 worker pods" in event for event in events) == 1


def test_a_worker_pods_lines_carry_its_index_and_end_nothing() -> None:
    job, head = objects.job(pods=2), objects.running(name="head")
    worker = objects.running(index=1, name="worker")
    script = Script(
        [(job, [head, worker], [])] * 50 + [(job, [ended(head), worker], [])],
        {"head": [stamped(RUNNING), stamped(RUNNING, DONE)], "worker": [stamped("spilling", DONE)]},
    )
    events = told(list(stream(script).events()))
    assert "[worker 1] spilling" in events
    assert events[-1] == "succeeded"
    assert events.count("[worker 1] spilling") == 1


def test_a_stream_ends_when_nobody_wants_it_any_more() -> None:
    calls = iter([False, False, True])
    script = Script([(objects.job(), [objects.running(name="head")], [])], {"head": [stamped(RUNNING)]})
    followed = Stream(script, Watch(script, "train-abc", {}), stop=lambda: next(calls, True))  # type: ignore[arg-type]
    assert len(list(followed.events())) <= 1
    assert followed.final is None


def test_what_is_known_now_is_given_without_waiting() -> None:
    head = objects.running(name="head")
    script = Script([(objects.job(), [head], [])], {"head": [stamped(RUNNING, "one")]})
    followed = stream(script)
    assert told(list(followed.known())) == ["running", "one"]
    assert followed.final is None
    assert followed.ended is None


def test_another_job_of_the_same_name_is_not_the_run() -> None:
    script = Script([(objects.job(), [], [])])
    followed = Stream(script, Watch(script, "train-abc", {}, uid="an-older-one"))  # type: ignore[arg-type]
    assert list(followed.known()) == []
    assert followed.ended is not None
    assert followed.ended.cause == "gone"
