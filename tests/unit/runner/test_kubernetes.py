"""The runner for Kubernetes where it decides by itself; with a real cluster it is in `tests/cluster/test_runs.py`."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import ConfigError, KubernetesError, NotFoundError, ProfileError, UsageError
from jupyter_mlops.events import EventWriter, LogEvent, RunEvent, read_events
from jupyter_mlops.kubernetes import names
from jupyter_mlops.kubernetes.reasons import Reason, Stage
from jupyter_mlops.runner import get_runner
from jupyter_mlops.runner.kubernetes import KubernetesRunner, Place
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from ..kubernetes import objects
from ..kubernetes.specs import RUN_ID, spec
from ..kubernetes.test_follow import Script, stamped

PLACE = Place("here", "https://k8s:6443", "team-a", "train-abc", "an-mlflow-run", "job-uid")
DONE = RunEvent(state=RunState.SUCCEEDED, mlflow_run_id="an-mlflow-run")


class Cluster(Script):
    """The scripted API server of the stream's tests, with what the runner asks of it besides."""

    host = "https://k8s:6443"

    def __init__(self, states: list[Any], logs: dict[str, Any] | None = None) -> None:
        super().__init__(states, logs)
        self.deleted: list[tuple[str, str, str | None]] = []
        self.created: list[tuple[str, bool]] = []

    def delete(self, resource: str, name: str, *, uid: str | None = None) -> bool:
        self.deleted.append((resource, name, uid))
        return True

    def create(self, resource: str, thing: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        self.created.append((resource, dry_run))
        return thing


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubernetesRunner:
    """A runner whose run was handed over, with an MLflow that is away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    config = MLOps(mlflow_wait=0.2)
    run_dir = config.run_dir(RUN_ID)
    run_dir.mkdir(parents=True)
    (run_dir / "spec.json").write_text(spec().to_json())
    PLACE.write(run_dir)
    writer = EventWriter(run_dir)
    writer.write(RunEvent(state=RunState.PENDING, phase="handing the run over to Kubernetes"))
    writer.close()
    return KubernetesRunner(config)


def use(runner: KubernetesRunner, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_api", lambda *_args, **_kwargs: cluster)
    monkeypatch.setattr("jupyter_mlops.runner.kubernetes._publish_in_background", lambda _run_dir: None)
    # Each look is asked, so that the script says what is seen when; the mirror has tests of its own.
    monkeypatch.setattr("jupyter_mlops.kubernetes.mirror.mirror_of_run", lambda *_args: None)


def run_dir(runner: KubernetesRunner) -> Path:
    return runner._config.run_dir(RUN_ID)


def states(events: list[Any]) -> list[RunState]:
    return [event.state for event in events if isinstance(event, RunEvent)]


def test_it_is_found_under_its_name() -> None:
    assert isinstance(get_runner("kubernetes", MLOps()), KubernetesRunner)


def test_a_place_is_the_same_after_its_file(tmp_path: Path) -> None:
    PLACE.write(tmp_path)
    assert Place.read(tmp_path) == PLACE
    assert (tmp_path / "kubernetes.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"context": 1}', '{"of_tomorrow": 1}'])
def test_a_file_that_is_no_place_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "kubernetes.json").write_text(content)
    assert Place.read(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "error"), [({"image": None}, ProfileError), ({"gpus": 3, "pods": 2}, ProfileError)]
)
def test_what_cannot_become_a_job_is_refused_without_a_cluster(
    runner: KubernetesRunner, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        runner.check(spec(changes))


def test_an_mlflow_on_this_machine_is_refused(runner: KubernetesRunner) -> None:
    with pytest.raises(UsageError, match="cannot be reached from a pod"):
        runner.check(spec(tracking_uri="http://localhost:5000"))


def test_a_check_makes_nothing(runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([(None, [], [])])
    use(runner, cluster, monkeypatch)
    runner.check(spec())
    assert cluster.created == [("jobs", True)]


@pytest.mark.parametrize(("message", "passes"), [("admission webhook x does not support dry run", True), ("no", False)])
def test_a_webhook_that_cannot_be_asked_is_no_refusal(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch, message: str, passes: bool
) -> None:
    class Refusing(Cluster):
        def create(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
            raise KubernetesError(message)

    use(runner, Refusing([(None, [], [])]), monkeypatch)
    if passes:
        runner.check(spec())
    else:
        with pytest.raises(KubernetesError):
            runner.check(spec())


def test_when_a_run_has_ended_its_file_is_all_that_is_needed(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = objects.dead("Completed", 0, name="head")
    use(runner, Cluster([(objects.job(), [head], [])], {"head": [stamped("a print", DONE)]}), monkeypatch)
    first = list(runner.events(RUN_ID, follow=True, stop=lambda: False))
    assert states(first)[-1] is RunState.SUCCEEDED

    def nobody(*_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError("Kubernetes was asked")

    monkeypatch.setattr(runner, "_api", nobody)
    again = list(runner.events(RUN_ID, follow=True, stop=lambda: False))
    assert again == [event for event in first if "could not be fetched" not in getattr(event, "message", "")]
    assert any(isinstance(event, LogEvent) and event.text == "a print\n" for event in again)


def test_of_several_who_record_the_end_the_first_ones_stays(runner: KubernetesRunner) -> None:
    barrier = threading.Barrier(4)
    kept = []

    def record(number: int) -> None:
        barrier.wait()
        final = RunEvent(state=RunState.FAILED, message=str(number))
        kept.append(runner._record(run_dir(runner), [LogEvent(text=str(number))], final))

    threads = [threading.Thread(target=record, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({event.message for event in kept}) == 1
    log, final = read_events(run_dir(runner))
    assert isinstance(log, LogEvent)
    assert isinstance(final, RunEvent)
    assert log.text == final.message == kept[0].message


def test_a_job_that_is_gone_without_a_word_gets_a_record_and_its_way_to_mlflow(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(runner, Cluster([(None, [], [])]), monkeypatch)
    runner.reconcile(RUN_ID)
    final = list(read_events(run_dir(runner)))[-1]
    assert isinstance(final, RunEvent)
    assert (final.state, final.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    assert (run_dir(runner) / "unpublished").exists()


def test_a_run_that_goes_on_is_left_alone(runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    use(runner, Cluster([(objects.job(), [objects.running(name="head")], [])], {"head": [stamped("x")]}), monkeypatch)
    before = list(read_events(run_dir(runner)))
    runner.reconcile(RUN_ID)
    assert list(read_events(run_dir(runner))) == before


def test_a_cancellation_that_mlflow_does_not_hear_of_is_recorded_here(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster([(objects.job(), [], [])])
    use(runner, cluster, monkeypatch)
    runner.cancel(RUN_ID, by="ann")
    assert cluster.deleted == [("jobs", "train-abc", "job-uid")]
    final = list(read_events(run_dir(runner)))[-1]
    assert isinstance(final, RunEvent)
    assert (final.state, final.message) == (RunState.CANCELLED, "The run was cancelled by ann.")
    assert (run_dir(runner) / "unpublished").exists()
    runner.cancel(RUN_ID, by="bob")
    assert len(cluster.deleted) == 1


def test_a_head_that_died_for_good_takes_its_waiting_workers_with_it(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = objects.dead("OOMKilled", 137, name="head", failures=2)
    cluster = Cluster([(objects.job(pods=2), [dead, objects.running(index=1, name="worker")], [])], {"head": [[]]})
    use(runner, cluster, monkeypatch)
    runner.reconcile(RUN_ID)
    final = list(read_events(run_dir(runner)))[-1]
    assert isinstance(final, RunEvent)
    assert final.code is FailureCode.OUT_OF_MEMORY
    assert cluster.deleted == [("jobs", "train-abc", "job-uid")]


def test_a_kubeconfig_that_leads_elsewhere_is_no_reason_to_call_a_run_dead(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Cluster([(None, [], [])])
    elsewhere.host = "https://other:6443"  # type: ignore[misc]
    use(runner, elsewhere, monkeypatch)
    with pytest.raises(ConfigError, match="the kubeconfig now leads to https://other:6443"):
        runner.reconcile(RUN_ID)
    assert states(list(read_events(run_dir(runner)))) == [RunState.PENDING]


def test_a_run_of_another_machine_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="are not here"):
        list(KubernetesRunner(MLOps()).events("0123456789ab", follow=True, stop=lambda: False))


@pytest.mark.parametrize("error", [KubernetesError("away"), ConfigError("none")])
def test_a_list_is_shown_with_what_is_known_when_the_cluster_is_away(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    runs = Runs(config=runner._config)
    runs.store.add_run(spec())
    runs.store.add_run(spec(run_id="0f9a3c5e7b22"))
    asked = []

    other = runner._config.run_dir("0f9a3c5e7b22")
    other.mkdir(parents=True)
    PLACE.write(other)

    def away(_self: Any, place: Place, **_options: Any) -> None:
        asked.append(place)
        raise error

    monkeypatch.setattr(KubernetesRunner, "_api_of", away)
    assert [record.state for record in runs.find()] == [RunState.PENDING, RunState.PENDING]
    assert len(asked) == 1
    assert runs.get(RUN_ID).state is RunState.PENDING


def test_the_place_names_no_credentials(tmp_path: Path) -> None:
    PLACE.write(tmp_path)
    assert set(json.loads((tmp_path / "kubernetes.json").read_text())) == {
        "context", "host", "namespace", "name", "mlflow_run_id", "uid",
    }  # fmt: skip


def test_a_reason_without_a_job_is_a_cancellation_only_for_who_asked(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(runner, Cluster([(None, [], [])]), monkeypatch)
    gone = Reason(Stage.FAILED, "gone", "The run's Job is gone.", code=FailureCode.WORKER_DIED)
    assert runner._missing_end(run_dir(runner), PLACE, gone, []).state is RunState.FAILED
    (run_dir(runner) / "cancel.json").write_text(json.dumps({"by": "ann"}))
    assert runner._missing_end(run_dir(runner), PLACE, gone, []).message == "The run was cancelled by ann."


class Namespace(Cluster):
    """Shows the Jobs and Pods of a namespace when it is asked for all of them; what it is asked otherwise is counted."""

    def __init__(self, jobs: list[Any], pods: list[Any], states: list[Any], logs: dict[str, Any] | None = None) -> None:
        super().__init__(states, logs)
        self.things = {"jobs": jobs, "pods": pods}
        self.listed: list[str] = []
        self.asked: list[str] = []

    def listing(self, resource: str, **_selection: Any) -> tuple[list[Any], str]:
        self.listed.append(resource)
        return self.things[resource], "7"

    def get(self, resource: str, name: str) -> Any:
        self.asked.append(name)
        return super().get(resource, name)


def test_how_many_runs_stand_is_one_question(runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    head = objects.running(name="head")
    ids = [RUN_ID, "0f9a3c5e7b22", "0f9a3c5e7b23"]
    jobs, pods = [], []
    for number, run_id in enumerate(ids):
        job, pod = (json.loads(json.dumps(thing)) for thing in (objects.job(), head))
        for thing, name in ((job, f"train-{number}"), (pod, f"head-{number}")):
            thing["metadata"].update(name=name, uid=f"uid-of-{name}")
            thing["metadata"]["labels"][names.RUN_LABEL] = run_id
        jobs.append(job)
        pods.append(pod)
        runner._config.run_dir(run_id).mkdir(parents=True, exist_ok=True)
        place = Place(
            "here", "https://k8s:6443", "team-a", f"train-{number}", "an-mlflow-run", f"uid-of-train-{number}"
        )
        place.write(runner._config.run_dir(run_id))
    cluster = Namespace(jobs, pods, [])
    use(runner, cluster, monkeypatch)
    told = dict(runner.standing(ids))
    assert [states(told[run_id])[-1] for run_id in ids] == [RunState.RUNNING] * 3
    assert cluster.listed == ["jobs", "pods"]
    assert cluster.asked == []


def test_of_many_runs_the_one_that_is_over_gets_its_record(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = objects.job(conditions=[objects.condition("Complete")])
    head = objects.pod(name="head", phase="Succeeded")
    cluster = Namespace([], [], [(over, [head], [])], {})
    use(runner, cluster, monkeypatch)
    ((_, events),) = runner.standing([RUN_ID])
    assert states(events)[-1] is RunState.SUCCEEDED
    assert states(list(read_events(run_dir(runner))))[-1] is RunState.SUCCEEDED
    assert cluster.asked == ["train-abc"], "the list did not show it: the end is asked for"


def test_a_run_that_is_being_handed_over_is_not_taken_for_one_that_is_gone(
    runner: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    Place("here", "https://k8s:6443", "team-a", "train-abc", "an-mlflow-run").write(run_dir(runner))
    cluster = Namespace([], [], [(None, [], [])])
    use(runner, cluster, monkeypatch)
    ((_, events),) = runner.standing([RUN_ID])
    assert states(events) == [RunState.PENDING]
    assert cluster.listed == []
