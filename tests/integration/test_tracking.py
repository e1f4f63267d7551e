"""Tracking against the real MLflow: an SQLite database used directly, and a server."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.errors import TrackingError
from jupyter_mlops.events import EventWriter, RunEvent
from jupyter_mlops.redact import Redactor
from jupyter_mlops.spec import FailureCode, RunSpec, RunState
from jupyter_mlops.tracking.metrics import MetricPoller, run_data
from jupyter_mlops.tracking.mlflow_run import BegunRun, begin_run, finish_run, kernel_environment
from jupyter_mlops.tracking.system_metrics import SystemMetrics

from .mlflow_server import mlflow_server
from .tracking_run import make_snapshot, make_spec, run_code

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

WAIT = 30.0


@pytest.fixture(scope="module")
def server_uri(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server"), database=mlflow_database) as server:
        yield server.uri


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, mlflow_database: Path) -> str:
    if request.param == "server":
        return str(request.getfixturevalue("server_uri"))
    directory = tmp_path / "mlflow"
    directory.mkdir()
    shutil.copy(mlflow_database, directory / "mlflow.db")
    return f"sqlite:///{directory / 'mlflow.db'}"


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def begin(spec: RunSpec, uri: str, snapshot: Any = None, **options: Any) -> BegunRun:
    options.setdefault("redactor", Redactor())
    return begin_run(spec, snapshot or make_snapshot(), uri=uri, wait=WAIT, **options)


def finish(spec: RunSpec, uri: str, begun: BegunRun, run_dir: Path, state: RunState, **options: Any) -> None:
    options.setdefault("redactor", Redactor())
    finish_run(spec, uri=uri, mlflow_run_id=begun.mlflow_run_id, state=state, run_dir=run_dir, wait=WAIT, **options)


def artifacts(client: Any, run_id: str, path: str | None = None) -> set[str]:
    found = set()
    for entry in client.list_artifacts(run_id, path):
        found |= artifacts(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return found


def read(client: Any, run_id: str, name: str) -> str:
    return Path(client.download_artifacts(run_id, name)).read_text()


def test_a_run_begins_with_its_parameters_defaults_tags_and_data(uri: str, client: Any) -> None:
    spec = make_spec(parameters={"lr": 0.1, "name": "x'\"\n{{}}"}, tags={"team": "blue"}, retry_of="aaa", seed=7)
    snapshot = make_snapshot(
        ("data/train.csv", "literal"), ("lib.py", "literal"), ("req.txt", "environment"),
        commit="c" * 40, branch="main", remote="https://me:geheim1@git.example.org/r.git", dirty=True,
    )  # fmt: skip
    begun = begin(spec, uri, snapshot, defaults={"lr": 1, "depth": None, "layers": [1, 2]})
    run = client.get_run(begun.mlflow_run_id)
    assert run.data.params == {"lr": "0.1", "name": "x'\"\n{{}}", "depth": "None", "layers": "[1, 2]"}
    tags = run.data.tags
    assert tags["jupyter_mlops.run_id"] == spec.run_id
    assert tags["jupyter_mlops.profile"] == "local"
    assert tags["jupyter_mlops.runner"] == "local"
    assert tags["jupyter_mlops.retry_of"] == "aaa"
    assert tags["jupyter_mlops.seed"] == "7"
    assert tags["jupyter_mlops.snapshot"] == "5" * 64
    assert tags["team"] == "blue"
    assert tags["mlflow.runName"] == run.info.run_name == "train"
    assert tags["mlflow.user"] == "ada"
    assert tags["mlflow.source.type"] == "NOTEBOOK"
    assert tags["mlflow.source.name"] == "~/project/train.ipynb"
    assert tags["mlflow.source.git.commit"] == "c" * 40
    assert tags["mlflow.source.git.repoURL"] == "https://git.example.org/r.git"
    assert run.info.status == "RUNNING"
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.source_type) == ("data/train.csv", "local")
    assert json.loads(data.dataset.source)["uri"] == "data/train.csv"
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "training"}
    assert json.loads(read(client, begun.mlflow_run_id, "parameters.json")) == {
        "lr": 0.1, "name": "x'\"\n{{}}", "depth": None, "layers": [1, 2],
    }  # fmt: skip
    assert client.get_experiment(begun.experiment_id).name == "churn"
    assert begun.url == (
        f"{uri}/#/experiments/{begun.experiment_id}/runs/{begun.mlflow_run_id}" if uri.startswith("http") else None
    )


def test_beginning_again_finds_the_run_and_adds_what_a_kill_left_out(uri: str, client: Any) -> None:
    spec = make_spec(parameters={"a": 1})
    first = begin(spec, uri)
    again = begin(spec, uri, make_snapshot(("d.csv", "include")), defaults={"b": 2})
    assert again == first == begin(spec, uri, make_snapshot(("d.csv", "include")), defaults={"b": 2})
    run = client.get_run(first.mlflow_run_id)
    assert run.data.params == {"a": "1", "b": "2"}
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["d.csv"]
    found = client.search_runs([first.experiment_id], f"tags.`jupyter_mlops.run_id` = '{spec.run_id}'")
    assert len(found) == 1


def test_user_code_logs_into_the_run_and_its_further_runs_become_children(uri: str, client: Any) -> None:
    spec = make_spec(parameters={"lr": 0.1, "flag": True, "none": None, "text": "é" * 7000, "list": [1.5, "a"]})
    begun = begin(spec, uri)
    code = """
import mlflow
mlflow.set_experiment("churn")
with mlflow.start_run() as first:
    mlflow.log_params({"lr": 0.1, "flag": True, "none": None, "text": "é" * 7000, "list": [1.5, "a"], "own": 1})
    mlflow.log_metric("loss", 0.5, step=3)
    with mlflow.start_run(nested=True) as nested:
        mlflow.log_metric("n", 1)
with mlflow.start_run(run_name="second") as second:
    mlflow.log_metric("m", 1)
print(first.info.run_id, nested.info.run_id, second.info.run_id)
"""
    printed = run_code(code, kernel_environment(begun, spec, uri=uri))
    first, nested, second = [line for line in printed.splitlines() if "http" not in line][-1].split()
    assert first == begun.mlflow_run_id
    run = client.get_run(first)
    assert run.data.metrics["loss"] == 0.5
    assert run.data.params["own"] == "1"
    assert run.data.params["text"] == "é" * 6000
    assert run.data.tags["jupyter_mlops.cut_params"] == "text"
    assert run.data.tags["mlflow.source.name"] == spec.source
    for child in (nested, second):
        tags = client.get_run(child).data.tags
        assert tags["mlflow.parentRunId"] == begun.mlflow_run_id
        assert tags["mlflow.source.name"] == spec.source
        assert tags["mlflow.source.type"] == "NOTEBOOK"


def test_logging_without_a_start_of_a_run_lands_in_the_run_too(uri: str, client: Any) -> None:
    spec = make_spec()
    begun = begin(spec, uri)
    run_code("import mlflow; mlflow.log_metric('loss', 1.0)", kernel_environment(begun, spec, uri=uri))
    assert client.get_run(begun.mlflow_run_id).data.metrics == {"loss": 1.0}


def test_the_end_uploads_the_results_and_corrects_what_the_notebook_said(uri: str, client: Any, tmp_path: Path) -> None:
    spec = make_spec(parameters={"a": 1})
    begun = begin(spec, uri)
    client.set_terminated(begun.mlflow_run_id, "FINISHED", 1)  # as the notebook's `with mlflow.start_run()` does
    run_dir = tmp_path / "run"
    (run_dir / "outputs" / "deep").mkdir(parents=True)
    (run_dir / "executed.ipynb").write_text("{}")
    (run_dir / "executed.html").write_text("<p>")
    (run_dir / "outputs" / "deep" / "cell #1 50%?.txt").write_text("all of it")
    (run_dir / "outputs" / "link").symlink_to("/etc/hostname")
    (tmp_path / "s.zip").write_bytes(b"PK")
    writer = EventWriter(run_dir)
    ended = RunEvent(state=RunState.FAILED, code=FailureCode.CELL_FAILED)
    writer.write(ended)
    writer.close()
    for _ in range(2):
        finish(
            spec, uri, begun, run_dir, RunState.FAILED,
            message="Cell 3 failed: hunter22", code=FailureCode.CELL_FAILED, snapshot=make_snapshot(), snapshot_zip=tmp_path / "s.zip", extra={"logs/worker.log": tmp_path / "s.zip"},
            redactor=Redactor(["hunter22"]),
        )  # fmt: skip
    run = client.get_run(begun.mlflow_run_id)
    assert run.info.status == "FAILED"
    assert run.info.end_time == int(ended.time.timestamp() * 1000)
    assert run.data.tags["jupyter_mlops.failure_code"] == "cell_failed"
    assert run.data.tags["jupyter_mlops.failure_message"] == "Cell 3 failed: ***"
    names = artifacts(client, begun.mlflow_run_id)
    (odd,) = [name for name in names if name.startswith("outputs/")]
    assert odd.startswith("outputs/deep/cell _1 50__.txt-")
    assert read(client, begun.mlflow_run_id, odd) == "all of it"
    assert names - {odd} == {
        "executed.ipynb", "executed.html", "events.jsonl", "snapshot.zip", "snapshot.json", "requirements.lock",
        "parameters.json", "logs/worker.log",
    }  # fmt: skip
    assert read(client, begun.mlflow_run_id, "requirements.lock") == "numpy==2.0.0\n"
    if uri.startswith("http"):
        assert run.info.artifact_uri.startswith("mlflow-artifacts:")


@pytest.mark.parametrize(
    ("state", "word"),
    [(RunState.SUCCEEDED, "FINISHED"), (RunState.FAILED, "FAILED"), (RunState.CANCELLED, "KILLED")],
)
def test_how_a_run_ends_is_said_in_mlflows_words(
    uri: str, client: Any, tmp_path: Path, state: RunState, word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = make_spec()
    begun = begin(spec, uri)
    finish(spec, uri, begun, tmp_path, RunState.FAILED, message="m", code=FailureCode.INTERNAL)
    finish(spec, uri, begun, tmp_path, state, message="m" if state is not RunState.SUCCEEDED else "")
    run = client.get_run(begun.mlflow_run_id)
    assert run.info.status == word
    assert ("jupyter_mlops.failure_message" in run.data.tags) == (state is not RunState.SUCCEEDED)
    assert "jupyter_mlops.failure_code" not in run.data.tags
    assert "View run" not in capfd.readouterr().out


def test_a_run_of_another_is_not_finished(uri: str, tmp_path: Path) -> None:
    begun = begin(make_spec(), uri)
    with pytest.raises(TrackingError, match="does not belong"):
        finish(make_spec(), uri, begun, tmp_path, RunState.SUCCEEDED)


def test_secrets_do_not_reach_mlflow(uri: str, client: Any) -> None:
    spec = make_spec(
        name="n-hunter22",
        parameters={"dsn": "db://hunter22@h"},
        tags={"t": "hunter22"},
        experiment="e-hunter22",
    )
    begun = begin(
        spec,
        uri,
        make_snapshot(("hunter22.csv", "literal")),
        redactor=Redactor(["hunter22"]),
        defaults={"o": "hunter22"},
    )
    run = client.get_run(begun.mlflow_run_id)
    assert "hunter22" not in json.dumps(run.to_dictionary())
    assert "hunter22" not in client.get_experiment(begun.experiment_id).name
    assert "hunter22" not in read(client, begun.mlflow_run_id, "parameters.json")


def test_hostile_names_and_values_arrive_as_text(uri: str, client: Any) -> None:
    names = [
        "ok",
        "../../etc",
        "a/../b",
        "tab\tkey",
        "",
        ".",
        "x" * 300,
        "<script>",
        "{{ a }}",
        "`$(id)`",
        "emoji 🎉",
        "a;b",
    ]
    parameters = {name: name for name in names}
    parameters |= {"nul": "a\x00b", "lone": "\udc80", "big": "z" * 1_000_000}
    spec = make_spec(
        parameters=parameters,
        experiment="../x' OR 1=1 -- <b>",
        source="</script>`.ipynb",
        tags={"a\nb": "v" * 20_000},
    )
    begun = begin(spec, uri)
    assert begin(spec, uri) == begun
    run = client.get_run(begun.mlflow_run_id)
    assert run.data.params["ok"] == "ok"
    assert len(run.data.params) == len(parameters)
    assert run.data.params["nul"] == "a\ufffdb"
    assert run.data.tags["mlflow.source.name"] == "</script>`.ipynb"
    assert len(json.loads(read(client, begun.mlflow_run_id, "parameters.json"))["big"]) == 1_000_000
    assert client.get_experiment(begun.experiment_id).name == "../x' OR 1=1 -- <b>"


def test_hundreds_of_parameters_are_logged(uri: str, client: Any) -> None:
    spec = make_spec(parameters={f"p{number}": "é" * 5000 for number in range(350)})
    begun = begin(spec, uri)
    assert len(client.get_run(begun.mlflow_run_id).data.params) == 350


def test_a_deleted_experiment_is_told_and_not_brought_back_silently(uri: str, client: Any) -> None:
    spec = make_spec(experiment="gone")
    begun = begin(spec, uri)
    client.delete_experiment(begun.experiment_id)
    with pytest.raises(TrackingError, match="experiment 'gone' was deleted") as caught:
        begin(make_spec(experiment="gone"), uri)
    assert f"--experiment-id {begun.experiment_id}" in caught.value.hint
    client.restore_experiment(begun.experiment_id)
    begin(make_spec(experiment="gone"), uri)


def test_a_deleted_run_is_told(uri: str, client: Any, tmp_path: Path) -> None:
    spec = make_spec()
    begun = begin(spec, uri)
    client.delete_run(begun.mlflow_run_id)
    with pytest.raises(TrackingError, match=f"{begun.mlflow_run_id}.*was deleted"):
        begin(spec, uri)
    with pytest.raises(TrackingError, match="was deleted"):
        finish(spec, uri, begun, tmp_path, RunState.SUCCEEDED)


def test_each_point_of_a_metric_is_told_once_and_in_order(uri: str, client: Any) -> None:
    begun = begin(make_spec(), uri)
    poller = MetricPoller(uri, begun.mlflow_run_id)
    assert poller.poll() == []
    for step in (0, 1, 2):
        client.log_metric(begun.mlflow_run_id, "loss", 1.0, step=step)
    client.log_metric(begun.mlflow_run_id, "system/cpu", 1.0)
    assert [(e.key, e.value, e.step) for e in poller.poll()] == [
        ("loss", 1.0, 0),
        ("loss", 1.0, 1),
        ("loss", 1.0, 2),
    ]
    assert poller.poll() == []
    client.log_metric(begun.mlflow_run_id, "loss", float("nan"), step=3)
    client.log_metric(begun.mlflow_run_id, "val/acc", float("inf"), step=0)
    told = poller.poll()
    assert [(e.key, str(e.value), e.step) for e in sorted(told, key=lambda e: e.key)] == [
        ("loss", "nan", 3), ("val/acc", "inf", 0),
    ]  # fmt: skip
    client.log_metric(begun.mlflow_run_id, "loss", 0.5, step=4)
    assert [(e.value, e.step) for e in poller.poll()] == [(0.5, 4)]
    assert poller.problem == ""


def test_the_data_of_a_run_are_read_back_for_comparison(uri: str, client: Any) -> None:
    from mlflow.entities import Metric

    begun = begin(make_spec(parameters={"a": 1}), uri)
    client.log_batch(begun.mlflow_run_id, metrics=[Metric("loss", 1 / (n + 1), n, n) for n in range(900)])
    client.log_metric(begun.mlflow_run_id, "system/cpu", 3.0)
    data = run_data(uri, begun.mlflow_run_id, points=100)
    assert data.params == {"a": "1"}
    assert data.metrics == {"loss": pytest.approx(1 / 900)}
    assert set(data.history) == {"loss"}
    points = data.history["loss"]
    assert (len(points), points[0].step, points[-1].step, points[0].value) == (100, 0, 899, 1.0)
    with pytest.raises(TrackingError, match="did not take it"):
        run_data(uri, "0" * 32)


def test_system_metrics_go_on_after_the_notebook_ended_its_run_and_leave_no_thread(uri: str, client: Any) -> None:
    begun = begin(make_spec(), uri)
    system = SystemMetrics(uri, begun.mlflow_run_id, interval=0.5)
    system.start()
    client.set_terminated(begun.mlflow_run_id, "FINISHED")
    deadline = time.monotonic() + 60
    history: list[Any] = []
    while len(history) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
        history = client.get_metric_history(begun.mlflow_run_id, "system/cpu_utilization_percentage")
    system.stop()
    assert len(history) >= 2
    assert system.problem == ""
    assert not [
        thread for thread in threading.enumerate() if thread.name in ("mlops-system-metrics", "SystemMetricsMonitor")
    ]


def test_a_tag_is_read_without_mlflow_being_imported(server_uri: str) -> None:
    import subprocess
    import sys

    import mlflow

    client = mlflow.MlflowClient(server_uri)
    run = client.create_run("0")
    client.set_tag(run.info.run_id, "who", "ann")
    code = (
        "import sys\nfrom jupyter_mlops.tracking.server import run_tag\n"
        "print(run_tag(*sys.argv[1:], 'who', 20), run_tag(*sys.argv[1:], 'other', 20), 'mlflow' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code, server_uri, run.info.run_id], capture_output=True, text=True)
    assert told.stdout.split() == ["ann", "None", "False"], told.stderr
