"""Runs whose MLflow server is away, slow or in trouble: at their start, in their middle, at their end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlops.engine.publish import publish_pending
from jupyter_mlops.events import NoticeEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from .mlflow_server import MLflowServer, mlflow_server
from .proxy import Proxy
from .watching import (
    cell_runs,
    executed,
    nothing_is_left,
    outputs_text,
    until,
)

pytestmark = pytest.mark.integration

HOLD = "import pathlib, time\nwhile not pathlib.Path({gate!r}).exists():\n    time.sleep(0.1)\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[MLflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("server"), database=mlflow_database) as running:
        yield running


@pytest.fixture
def proxy(server: MLflowServer) -> Iterator[Proxy]:
    made = Proxy(server.port, delay=0.7)
    yield made
    made.close()


@pytest.fixture
def core(runs: Runs, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Runs:
    config = Path(os.environ["JUPYTER_CONFIG_DIR"])
    config.mkdir()
    (config / "jupyter_mlops_config.py").write_text("c.MLOps.mlflow_wait = 5.0\nc.MLOps.system_metrics = False\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    # MLflow's client in a cell waits ever longer between its tries; less so here.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    return Runs()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def of_run(server: MLflowServer, run_id: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(server.uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`jupyter_mlops.run_id` = '{run_id}'"))


def history(server: MLflowServer, run: Any, key: str) -> list[float]:
    from mlflow.tracking import MlflowClient

    return [point.value for point in MlflowClient(server.uri).get_metric_history(run.info.run_id, key)]


def warnings_of(runs: Runs, record: Any) -> list[str]:
    return [event.message for event in runs.events(record) if isinstance(event, NoticeEvent)]


def send_later(core: Runs) -> list[str]:
    lines: list[str] = []
    assert publish_pending(core.config, told=lines.append) == 0
    return lines


@pytest.mark.parametrize("trouble", ["drop", "error"])
def test_a_server_in_trouble_at_the_start_fails_the_run_with_its_address_and_keeps_the_record(
    core: Runs, server: MLflowServer, proxy: Proxy, make_notebook: Callable[..., Path], trouble: Any
) -> None:
    proxy.become(trouble)
    record = core.wait(core.submit(core.prepare(make_notebook("print('never')"))).run_id)
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.MLFLOW_UNREACHABLE)
    assert proxy.uri in record.message
    assert (core.files(record) / "unpublished").exists()
    assert of_run(server, record.run_id) == []
    proxy.become("pass")
    assert send_later(core) == [f"{record.run_id}: sent"]
    (run,) = of_run(server, record.run_id)
    assert run.info.status == "FAILED"
    assert send_later(core) == []
    until(lambda: nothing_is_left(core))


def test_a_slow_server_makes_a_run_slow_and_nothing_else(
    core: Runs, server: MLflowServer, proxy: Proxy, make_notebook: Callable[..., Path]
) -> None:
    proxy.become("delay")
    path = make_notebook("import mlflow\nfor n in range(5):\n    mlflow.log_metric('m', n, step=n)")
    record = core.wait(core.submit(core.prepare(path)).run_id)
    assert record.state is RunState.SUCCEEDED, record.message
    (run,) = of_run(server, record.run_id)
    assert (run.info.status, history(server, run, "m")) == ("FINISHED", [0, 1, 2, 3, 4])
    assert warnings_of(core, record) == []


@pytest.mark.parametrize("trouble", ["drop", "error"])
def test_an_outage_in_the_middle_that_passes_loses_and_doubles_nothing(
    core: Runs, server: MLflowServer, proxy: Proxy, make_notebook: Callable[..., Path], tmp_path: Path, trouble: Any
) -> None:
    told = tmp_path / "told"
    path = make_notebook(
        "import mlflow, pathlib\nfor n in range(60):\n    mlflow.log_metric('m', n, step=n)\n"
        f"    with open({str(told)!r}, 'a') as file:\n        file.write(f'{{n}}\\n')\nprint('done')"
    )
    record = core.submit(core.prepare(path))
    until(lambda: told.exists() and told.read_text().count("\n") >= 10)
    proxy.become(trouble)
    met = proxy.requests
    until(lambda: proxy.requests > met + 1)
    proxy.become("pass")
    ended = core.wait(record.run_id)
    assert ended.state is RunState.SUCCEEDED, ended.message
    assert "done" in outputs_text(executed(core, ended))
    (run,) = of_run(server, record.run_id)
    assert (run.info.status, history(server, run, "m")) == ("FINISHED", [float(n) for n in range(60)])


def test_cells_that_log_nothing_do_not_notice_an_outage_and_the_results_are_sent_later(
    core: Runs, server: MLflowServer, proxy: Proxy, make_notebook: Callable[..., Path], gate: Path
) -> None:
    path = make_notebook(
        "import mlflow\nmlflow.log_metric('before', 1)", HOLD.format(gate=str(gate)) + "print('went on')", "print(3)"
    )
    record = core.submit(core.prepare(path))
    until(lambda: cell_runs(core, record, 2))
    proxy.become("drop")
    gate.touch()
    ended = core.wait(record.run_id)
    assert ended.state is RunState.SUCCEEDED, ended.message
    assert "went on" in outputs_text(executed(core, ended))
    (sentence,) = [text for text in warnings_of(core, ended) if "jupyter mlops sync" in text]
    assert proxy.uri in sentence
    (run,) = of_run(server, record.run_id)
    assert run.info.status == "RUNNING"
    proxy.become("pass")
    assert send_later(core) == [f"{record.run_id}: sent"]
    (run,) = of_run(server, record.run_id)
    assert (run.info.status, history(server, run, "before")) == ("FINISHED", [1.0])
    from mlflow.tracking import MlflowClient

    names = {file.path for file in MlflowClient(server.uri).list_artifacts(run.info.run_id)}
    assert {"executed.ipynb", "executed.html", "events.jsonl"} <= names
    assert abs(run.info.end_time / 1000 - ended.end_time.timestamp()) < 1  # when it ended, not when it was sent
    until(lambda: nothing_is_left(core))


def test_a_cell_that_logs_into_an_outage_that_stays_fails_with_the_reason(
    core: Runs,
    server: MLflowServer,
    proxy: Proxy,
    make_notebook: Callable[..., Path],
    gate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # MLflow's own patience, four minutes, is not ours to test.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    path = make_notebook(
        "import mlflow\nmlflow.log_metric('m', 1)",
        HOLD.format(gate=str(gate)) + "print('kept')\nmlflow.log_metric('m', 2)",
    )
    record = core.submit(core.prepare(path))
    until(lambda: cell_runs(core, record, 2))
    proxy.become("drop")
    gate.touch()
    ended = core.wait(record.run_id)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.MLFLOW_UNREACHABLE), ended.message
    assert "Cell 2 could not reach MLflow" in ended.message
    assert "kept" in outputs_text(executed(core, ended))
    proxy.become("pass")
    assert send_later(core) == [f"{record.run_id}: sent"]
    (run,) = of_run(server, record.run_id)
    assert (run.info.status, history(server, run, "m")) == ("FAILED", [1.0])


def test_a_server_that_restarts_during_a_run_is_no_trouble(
    core: Runs, server: MLflowServer, make_notebook: Callable[..., Path], gate: Path
) -> None:
    path = make_notebook(
        "import mlflow\nmlflow.log_metric('m', 1)", HOLD.format(gate=str(gate)), "mlflow.log_metric('m', 2, step=1)"
    )
    record = core.submit(core.prepare(path))
    until(lambda: cell_runs(core, record, 2))
    server.kill()
    gate.touch()
    server.start()
    ended = core.wait(record.run_id)
    assert ended.state is RunState.SUCCEEDED, ended.message
    (run,) = of_run(server, record.run_id)
    assert (run.info.status, history(server, run, "m")) == ("FINISHED", [1.0, 2.0])


def test_a_run_that_is_cancelled_while_mlflow_hangs_ends_as_cancelled(
    core: Runs, server: MLflowServer, make_notebook: Callable[..., Path]
) -> None:
    server.freeze()
    try:
        record = core.submit(core.prepare(make_notebook("print('never')")))
        until(lambda: any(getattr(event, "phase", "") == "waiting for MLflow" for event in core.events(record)))
        core.cancel(record.run_id)
        ended = core.wait(record.run_id)
    finally:
        server.thaw()
    assert (ended.state, ended.code) == (RunState.CANCELLED, FailureCode.CANCELLED), ended.message
    assert send_later(core) == [f"{record.run_id}: sent"]
    assert [run.info.status for run in of_run(server, record.run_id)] == ["KILLED"]
    until(lambda: nothing_is_left(core))
