"""Runs on a real Kubernetes, from submission to the record, and what becomes of them when parts of it break.

One image with the product and one MLflow server that asks who one is serve all tests; what each test makes is in a
namespace of its own.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from jupyter_mlops.errors import KubernetesError
from jupyter_mlops.events import (
    CellEvent,
    Event,
    LogEvent,
    MetricEvent,
    NoticeEvent,
    ResourceEvent,
    RunEvent,
    parse_event,
)
from jupyter_mlops.kubernetes import contract, names
from jupyter_mlops.spec import FailureCode, RunState

from . import access
from .pods import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_mlops.store.models import RunRecord

    from .context import Context
    from .run_place import Place

pytestmark = pytest.mark.cluster


def _ends(events: list[Event]) -> RunEvent:
    final = events[-1]
    assert isinstance(final, RunEvent), final
    assert final.state.is_terminal, final
    return final


def _phases(events: list[Event]) -> list[str]:
    return [event.phase for event in events if isinstance(event, RunEvent) and event.phase]


def test_a_notebook_runs_in_one_pod_and_is_found_in_mlflow(place: Place) -> None:
    record = place.submit(
        ("learning_rate: float = 0.1\ndepth = 3", "parameters"),
        "import mlflow\nmlflow.log_metric('loss', learning_rate * depth)\nprint('trained')",
        assignments={"learning_rate": "0.5"},
    )
    events = place.follow(record)
    final = _ends(events)
    assert final.state is RunState.SUCCEEDED, [event for event in events if not isinstance(event, CellEvent)]
    assert any(isinstance(event, LogEvent) and "trained" in event.text for event in events)
    assert any(isinstance(event, MetricEvent) and (event.key, event.value) == ("loss", 1.5) for event in events)

    ended = place.runs.get(record.run_id)
    assert ended.state is RunState.SUCCEEDED
    files = place.runs.files(ended)
    assert "trained" in (files / "executed.ipynb").read_text()
    assert (files / "executed.html").exists()
    import mlflow

    run = mlflow.MlflowClient(place.mlflow.uri).get_run(ended.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"learning_rate": "0.5", "depth": "3"}
    assert run.data.metrics["loss"] == 1.5


def test_dask_computes_across_three_pods_that_trust_nobody_else(place: Place) -> None:
    record = place.submit(
        "from jupyter_mlops import get_client\nclient = get_client()\nprint(client.scheduler.address)",
        "import dask.array as da, socket\n"
        "x = da.ones((1200, 1200), chunks=(200, 200))\n"
        "print('sum', int((x @ x.T).sum().compute()))\n"
        "print('pods', len(set(client.run(socket.gethostname).values())))",
        "import distributed\n"
        "try:\n"
        "    distributed.Client(client.scheduler.address.replace('tls', 'tcp'), timeout=5, security=None)\n"
        "    print('let in')\n"
        "except Exception as error:\n"
        "    print('kept out')",
        profile={"pods": 3, "memory": "6Gi", "workers": 3},
    )
    events = place.follow(record)
    assert _ends(events).state is RunState.SUCCEEDED, _shown(events)
    printed = "".join(event.text for event in events if isinstance(event, LogEvent) and event.stream == "stdout")
    assert printed.splitlines() == [
        f"tls://{_job_name(place, record)}-0.{_job_name(place, record)}:{contract.SCHEDULER_PORT}",
        f"sum {1200**3}",
        "pods 3",
        "kept out",
    ], _shown(events)
    wait_for("the workers to end", lambda: all(pod.status.phase == "Succeeded" for pod in place.pods(record)),
             lambda: [(pod.metadata.name, pod.status.phase) for pod in place.pods(record)])  # fmt: skip


def test_a_worker_pod_that_is_lost_is_replaced_while_the_notebook_goes_on(place: Place) -> None:
    record = place.submit(
        "from jupyter_mlops import get_client\nclient = get_client()\n"
        "def pods():\n    return {w['name'] for w in client.scheduler_info(n_workers=-1)['workers'].values()}\n"
        "before = pods()\nprint('began with', len(before))",
        "import time\nuntil = time.monotonic() + 240\n"
        "while len(pods() - before) < 1 and time.monotonic() < until:\n    time.sleep(0.5)\n"
        "print('new', len(pods() - before), 'sum', client.submit(sum, [1, 2, 3]).result())",
        profile={"pods": 2, "memory": "4Gi", "workers": 2},
    )
    place.follow_until(record, lambda event: isinstance(event, LogEvent) and "began with 2" in event.text)
    worker = next(pod for pod in place.pods(record) if pod.metadata.name.startswith(f"{_job_name(place, record)}-1-"))
    place.delete_pod(worker, grace=0)
    events = place.follow(record)
    assert _ends(events).state is RunState.SUCCEEDED, _shown(events)
    assert any(isinstance(event, LogEvent) and "new 1 sum 6" in event.text for event in events), _shown(events)


def test_a_failed_cell_is_told_with_its_line_and_not_tried_again(place: Place) -> None:
    record = place.submit("x = 0", "y = 1 / x")
    final = _ends(place.follow(record))
    assert (final.state, final.code) == (RunState.FAILED, FailureCode.CELL_FAILED)
    assert final.line == "y = 1 / x"
    wait_for("the pod to end", lambda: all(pod.status.phase == "Failed" for pod in place.pods(record)))
    assert len(place.pods(record)) == 1
    assert place.runs.get(record.run_id).code is FailureCode.CELL_FAILED
    again = place.runs.retry(record.run_id)
    assert place.runs.wait(again.run_id).retry_of == record.run_id


def test_a_head_that_is_evicted_is_told_and_the_run_succeeds_in_its_second_attempt(place: Place) -> None:
    from kubernetes import client as k

    record = place.submit(
        "print('began')",
        f"import os, time\nif not int(os.environ.get('{contract.DISRUPTIONS_VARIABLE}') or 0):\n    time.sleep(600)",
    )
    place.follow_until(record, lambda event: isinstance(event, CellEvent) and event.number == 2)
    (head,) = place.pods(record)
    k.CoreV1Api(place.admin).create_namespaced_pod_eviction(
        head.metadata.name, place.namespace, {"metadata": {"name": head.metadata.name, "namespace": place.namespace}}
    )
    events = place.follow(record)
    assert _ends(events).state is RunState.SUCCEEDED, _shown(events)
    phases = _phases(events)
    assert any("Attempt 2 of 3" in phase or "attempt 2 of 3" in phase for phase in phases), phases
    assert place.runs.get(record.run_id).state is RunState.SUCCEEDED
    assert place.in_mlflow(record).info.status == "FINISHED"


def test_a_cancelled_run_says_who_wanted_it_and_leaves_nothing_in_kubernetes(place: Place) -> None:
    record = place.submit("import time\ntime.sleep(600)", profile={"pods": 2, "memory": "4Gi", "workers": 2})
    place.follow_until(record, lambda event: isinstance(event, CellEvent))
    assert len(place.objects(record)) >= 5
    place.runs.cancel(record.run_id)
    ended = place.runs.wait(record.run_id)
    assert ended.state is RunState.CANCELLED
    assert ended.message == f"The run was cancelled by {ended.owner}."
    wait_for("nothing to be left", lambda: not place.objects(record), lambda: place.objects(record))
    wait_for("MLflow to know", lambda: place.in_mlflow(record).info.status == "KILLED",
             lambda: place.in_mlflow(record).info)  # fmt: skip
    assert "time.sleep(600)" in (place.runs.files(ended) / "executed.ipynb").read_text()


def test_a_run_that_is_cancelled_before_it_began_has_a_record_too(place: Place) -> None:
    record = place.submit("1 + 1", profile={"gpus": 1})
    place.follow_until(record, lambda event: isinstance(event, RunEvent) and "GPU" in event.phase)
    place.runs.cancel(record.run_id)
    ended = place.runs.wait(record.run_id)
    assert (ended.state, ended.message) == (RunState.CANCELLED, f"The run was cancelled by {ended.owner}.")
    assert not place.objects(record)
    wait_for("MLflow to know", lambda: place.in_mlflow(record).info.status == "KILLED",
             lambda: place.in_mlflow(record).info)  # fmt: skip


def test_following_loses_and_doubles_nothing_while_the_api_server_is_away_and_a_second_view_sees_the_same(
    own: Context, place: Place, tmp_path: Path
) -> None:
    record = place.submit(
        "import time\nfor number in range(45):\n    print('line', number)\n    time.sleep(1)\n", "print('done')"
    )
    seen: list[Event] = []
    began = threading.Event()

    def follow() -> None:
        for event in place.runs.events(record, follow=True):
            seen.append(event)
            if isinstance(event, LogEvent) and "line 5\n" in event.text:
                began.set()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(follow)
        assert began.wait(120), _shown(seen)
        second = place.command("attach", record.run_id, "--json", home=tmp_path)
        time.sleep(3)
        with own.without("kube-apiserver"):
            time.sleep(20)
        first.result(300)
        output, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    also = [parse_event(line) for line in output.splitlines()]
    for events in (seen, also):
        assert _ends(events).state is RunState.SUCCEEDED
        printed = "".join(event.text for event in events if isinstance(event, LogEvent) and event.stream == "stdout")
        assert printed.splitlines() == [*(f"line {number}" for number in range(45)), "done"]
    assert any(isinstance(event, NoticeEvent) and "does not answer" in event.message for event in seen)
    assert _of_the_head(seen) == _of_the_head(also)
    kept = list(place.runs.events(record))
    assert _of_the_head(kept) == _of_the_head(seen)


def test_what_keeps_a_run_from_starting_is_told_at_once(place: Place) -> None:
    from kubernetes import client as k

    cases = {
        "gpu": ({"gpus": 1}, "The run asks for 1 GPU on one node"),
        "image": ({"image": "localhost/no-such-image:1"}, "no-such-image"),
        "secret": ({"env_from_secrets": ["no-such-secret"]}, "The Secret no-such-secret does not exist"),
    }
    records = []
    for name, (change, words) in cases.items():
        record = place.submit("1 + 1", profile=change)
        records.append(record)
        start = time.monotonic()
        place.follow_until(record, lambda event, words=words: isinstance(event, RunEvent) and words in event.phase)
        assert time.monotonic() - start < 60, name
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"requests.memory": "1Gi"}}}
    k.CoreV1Api(place.admin).create_namespaced_resource_quota(place.namespace, quota)
    wait_for("the quota to hold", lambda: (
        k.CoreV1Api(place.admin).read_namespaced_resource_quota("small", place.namespace).status.hard
    ))  # fmt: skip
    record = place.submit("1 + 1")
    place.follow_until(record, lambda event: isinstance(event, RunEvent) and "The quota small allows" in event.phase)
    for waiting in (*records, record):
        place.runs.cancel(waiting.run_id)
        assert place.runs.wait(waiting.run_id).state is RunState.CANCELLED


def test_a_run_that_nobody_watched_is_found_in_mlflow_when_its_job_is_gone(place: Place) -> None:
    from kubernetes import client as k

    record = place.submit("print('alone')")
    batch = k.BatchV1Api(place.admin)
    name = _job_name(place, record)
    wait_for("the Job to end", lambda: batch.read_namespaced_job(name, place.namespace).status.completion_time)
    batch.delete_namespaced_job(name, place.namespace, propagation_policy="Background")
    wait_for("the Job's pods to go", lambda: not place.objects(record))
    ended = place.runs.get(record.run_id)
    assert ended.state is RunState.SUCCEEDED
    assert any(isinstance(event, LogEvent) and "alone" in event.text for event in place.runs.events(record))
    assert "alone" in (place.runs.files(ended) / "executed.ipynb").read_text()


def test_the_command_line_runs_a_notebook_on_a_profile_and_reads_it_back(place: Place, tmp_path: Path) -> None:
    notebook = place.make_notebook("print('by command')", name="command.ipynb")
    train = place.command("train", str(notebook), "--profile", "cluster", home=tmp_path)
    output, errors = train.communicate(timeout=300)
    assert train.returncode == 0, (output, errors)
    assert "by command" in output
    (record,) = place.runs.find(name="command")
    for arguments, words in {
        ("logs", record.run_id): "by command", ("show", record.run_id): "succeeded", ("runs",): record.run_id[:8],
        ("open", record.run_id, "--print"): "executed.html",
    }.items():  # fmt: skip
        output, errors = place.command(*arguments, home=tmp_path).communicate(timeout=120)
        assert words in output, (arguments, output, errors)


def test_somebody_without_the_rights_is_refused_before_anything_is_made(
    place: Place, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "bare", place.namespace, [])
    monkeypatch.setenv("KUBECONFIG", str(bare))
    with pytest.raises(KubernetesError, match=f"may not create jobs in the namespace {place.namespace}") as caught:
        place.submit("1 + 1")
    assert "kind: Role" in caught.value.hint
    assert place.runs.find() == []


def _job_name(place: Place, record: RunRecord) -> str:
    return names.job_name(place.runs.spec(record.run_id))


def _of_the_head(events: list[Event]) -> list[Event]:
    """What the head told, without what each view has to say for itself."""
    start = next(
        n for n, event in enumerate(events) if isinstance(event, RunEvent) and event.phase == "fetching the notebook"
    )
    return [
        event
        for event in events[start:]
        if not (isinstance(event, NoticeEvent) and "Kubernetes" in event.message)
    ]  # fmt: skip


def _shown(events: list[Event]) -> list[str]:
    return [repr(event) for event in events if not isinstance(event, (MetricEvent, ResourceEvent))]
