"""The main job with real kernels and MLflow on its default store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from jupyter_mlops.events import CellEvent, LogEvent, MetricEvent, ResourceEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from .watching import executed, outputs_text, until

pytestmark = pytest.mark.integration


def client(runs: Runs):
    from mlflow.tracking import MlflowClient

    return MlflowClient(runs.config.mlflow_uri())


def test_a_notebook_runs_with_its_parameters_and_is_seen_in_mlflow(
    runs: Runs, run_notebook: Callable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = run_notebook(
        ("lr: float = 0.1  # learning rate\nname = 'a'", "parameters"),
        "import mlflow\nfor step in range(3):\n    mlflow.log_metric('loss', lr / (step + 1), step=step)",
        "print(name)",
        assignments={"lr": "0.5", "name": 'quo"te\n{{x}} $(id)'},
        tags={"team": "risk"},
    )
    assert record.state is RunState.SUCCEEDED, record.message
    assert 'quo"te\n{{x}} $(id)' in outputs_text(executed(runs, record))
    run = client(runs).get_run(record.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.5"
    assert run.data.metrics["loss"] == pytest.approx(0.5 / 3)
    assert [point.step for point in client(runs).get_metric_history(record.mlflow_run_id, "loss")] == [0, 1, 2]
    assert run.data.tags["mlflow.source.name"].endswith("notebook.ipynb")
    assert run.data.tags["team"] == "risk"
    artifacts = {artifact.path for artifact in client(runs).list_artifacts(record.mlflow_run_id)}
    assert {"executed.ipynb", "executed.html", "events.jsonl"} <= artifacts
    metrics = [event for event in runs.events(record) if isinstance(event, MetricEvent)]
    assert {event.key for event in metrics} >= {"loss"}
    here = (runs.files(record) / "events.jsonl").read_text()
    download = tmp_path_factory.mktemp("downloads")

    def sent() -> str:
        path = client(runs).download_artifacts(record.mlflow_run_id, "events.jsonl", str(download))
        return Path(path).read_text()

    until(lambda: sent() == here)  # the last event follows when the run has ended


def test_cells_report_as_they_run(runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook("# Load the data\nx = 1", "print('hello')\nx + 1")
    cells = [event for event in runs.events(record) if isinstance(event, CellEvent)]
    assert [(event.number, event.state) for event in cells] == [
        (1, "running"), (1, "succeeded"), (2, "running"), (2, "succeeded"),
    ]  # fmt: skip
    assert cells[0].title == "Load the data"
    assert "hello" in "".join(event.text for event in runs.events(record) if isinstance(event, LogEvent))
    assert runs.expected_durations(record).keys() == {event.digest for event in cells}


def test_a_failed_cell_ends_the_run_with_its_line_and_keeps_the_outputs(runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook("print('before')", "a = 1\nb = a / 0\nc = 2", "print('never')")
    assert record.state is RunState.FAILED
    assert record.code is FailureCode.CELL_FAILED
    assert "Cell 2 failed at `b = a / 0`: ZeroDivisionError" in record.message
    text = outputs_text(executed(runs, record))
    assert "before" in text
    assert "never" not in text
    run = client(runs).get_run(record.mlflow_run_id)
    assert run.info.status == "FAILED"
    assert "executed.ipynb" in {artifact.path for artifact in client(runs).list_artifacts(record.mlflow_run_id)}


def test_a_run_finished_by_the_notebooks_own_block_has_the_status_of_the_run(
    runs: Runs, run_notebook: Callable
) -> None:
    record = run_notebook(
        "import mlflow\nwith mlflow.start_run():\n    mlflow.log_param('p', 1)\n    mlflow.log_metric('m', 2)",
        "with mlflow.start_run(run_name='second'):\n    mlflow.log_metric('n', 3)",
        "raise ValueError('after')",
    )
    run = client(runs).get_run(record.mlflow_run_id)
    assert run.info.status == "FAILED"
    assert run.data.metrics["m"] == 2
    (child,) = client(runs).search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{record.mlflow_run_id}'"
    )
    assert child.data.metrics == {"n": 3}


def test_files_beside_the_notebook_come_along_and_the_original_stays_as_it_is(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(
        "from pathlib import Path\nimport mine\nprint(mine.VALUE, Path('data/in.txt').read_text())\n"
        "Path('data/in.txt').write_text('changed')"
    )
    (path.parent / "mine.py").write_text("VALUE = 'forty-two'")
    (path.parent / "data").mkdir()
    (path.parent / "data" / "in.txt").write_text("content")
    record = runs.wait(runs.submit(runs.prepare(path)).run_id)
    assert record.state is RunState.SUCCEEDED, record.message
    assert "forty-two content" in outputs_text(executed(runs, record))
    assert (path.parent / "data" / "in.txt").read_text() == "content"


def test_a_retry_runs_the_same_snapshot_although_the_file_has_changed(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(("a = 1", "parameters"), "print('first', a)")
    first = runs.wait(runs.submit(runs.prepare(path, assignments={"a": "7"})).run_id)
    path.write_text("{}")
    again = runs.wait(runs.retry(first.run_id).run_id)
    assert again.state is RunState.SUCCEEDED, again.message
    assert (again.retry_of, again.snapshot_id, again.parameters) == (first.run_id, first.snapshot_id, {"a": 7})
    assert "first 7" in outputs_text(executed(runs, again))


def test_a_submission_with_the_same_key_is_the_same_run(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("print(1)")
    first = runs.submit(runs.prepare(path, run_key="job/1"))
    second = runs.submit(runs.prepare(path, run_key="job/1"))
    assert first.run_id == second.run_id
    runs.wait(first.run_id)
    assert len(list((runs.config.data_path / "runs").iterdir())) == 1


def test_a_declared_client_is_ready_and_its_workers_are_gone_afterwards(runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook(
        ("client = None", "parameters"),
        "print(client.submit(sum, [1, 2, 3]).result())\nimport time; time.sleep(3)",
        profile=runs.config.profile(workers=2, cpus=2),
    )
    assert record.state is RunState.SUCCEEDED, record.message
    assert "6" in outputs_text(executed(runs, record))
    seen = [event.dask for event in runs.events(record) if isinstance(event, ResourceEvent) and event.dask]
    # The last look may meet the cluster while it closes.
    assert 2 in {use.workers for use in seen}


def test_the_same_seed_gives_the_same_numbers(runs: Runs, run_notebook: Callable) -> None:
    cell = "import random, numpy as np\nprint(random.random(), np.random.rand(), hash('x'))"
    texts = {seed: {outputs_text(executed(runs, run_notebook(cell, seed=seed))) for _ in range(2)} for seed in (1, 2)}
    assert len(texts[1]) == len(texts[2]) == 1
    assert texts[1] != texts[2]


def test_secrets_of_the_environment_reach_neither_notebook_nor_record(
    runs: Runs, run_notebook: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "correct-horse-battery")
    record = run_notebook(
        "import os\nprint(os.environ['DB_PASSWORD'])\nos.environ['DB_PASSWORD']",
        "import sys; sys.stderr.write(os.environ['DB_PASSWORD'])",
        "raise ValueError(os.environ['DB_PASSWORD'])",
    )
    assert record.state is RunState.FAILED
    for path in runs.files(record).rglob("*"):
        if path.is_file():
            assert b"correct-horse-battery" not in path.read_bytes(), path
    run = client(runs).get_run(record.mlflow_run_id)
    assert "correct-horse-battery" not in json.dumps({**run.data.tags, **run.data.params})
    assert "correct-horse" not in record.message


def test_sys_exit_ends_a_run_early_and_well(runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook("import sys\nprint('enough')\nsys.exit()", "print('never')")
    assert record.state is RunState.SUCCEEDED
    assert "never" not in outputs_text(executed(runs, record))
    assert run_notebook("import sys; sys.exit(3)").state is RunState.FAILED


def test_input_is_refused_with_the_remedy(run_notebook: Callable) -> None:
    record = run_notebook("input('name?')")
    assert "StdinNotImplementedError" in record.message


def test_our_engine_serves_papermills_own_command(make_notebook: Callable[..., Path], tmp_path: Path) -> None:
    path = make_notebook(("a = 1", "parameters"), "print(a)")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            "--engine",
            "mlops",
            str(path),
            str(tmp_path / "out.ipynb"),
            "-p",
            "a",
            "5",
        ],
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    assert outputs_text(nbformat.read(tmp_path / "out.ipynb", as_version=4)) == "5\n"


def test_a_run_that_ended_while_nobody_looked_is_found_by_its_state(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    record = runs.submit(runs.prepare(make_notebook("print(1)")))
    for _ in runs.events(record, follow=True):  # waits for the end without telling the store
        pass
    assert [found.run_id for found in Runs().find(states=[RunState.SUCCEEDED])] == [record.run_id]
    assert Runs().expected_durations(record)


def test_the_snapshot_locks_what_the_kernel_runs_in(
    runs: Runs, make_notebook: Callable[..., Path], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    kernel = Path(os.environ["HOME"]) / ".local/share/jupyter/kernels/bare"
    kernel.mkdir(parents=True)
    python = str(bare / "bin" / "python")
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Bare", "language": "python"}))
    path = make_notebook("1", kernel="bare")
    assert runs.prepare(path).snapshot.environment.distributions == ()
    assert runs.prepare(path, kernel_name="python3").snapshot.environment.distributions != ()


def test_results_go_to_the_mlflow_that_the_run_was_started_with(
    runs: Runs, run_notebook: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    from jupyter_mlops.engine.publish import publish_pending, queue_publication

    record = run_notebook("import mlflow\nmlflow.log_metric('m', 3)")
    queue_publication(runs.files(record))
    other = f"sqlite:///{tmp_path / 'other.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    later = Runs()
    assert publish_pending(later.config, told=print) == 0
    assert not (tmp_path / "other.db").exists()
    assert later.compared([record.run_id])[0].metrics == {"m": 3.0}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    ours = MlflowClient(Runs().config.mlflow_uri())
    experiments = [experiment.experiment_id for experiment in ours.search_experiments()]
    assert [run.info.run_id for run in ours.search_runs(experiments)] == [record.mlflow_run_id]
