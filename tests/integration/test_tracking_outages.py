"""What tracking says and does when MLflow is away, slow, somebody else, closed to this user, or being made
just now."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.errors import TrackingError
from jupyter_mlops.redact import Redactor
from jupyter_mlops.spec import RunState
from jupyter_mlops.tracking.connection import Connection, ensure_database
from jupyter_mlops.tracking.metrics import MetricPoller
from jupyter_mlops.tracking.mlflow_run import BegunRun, begin_run, finish_run, kernel_environment
from jupyter_mlops.tracking.server import check_tracking, ui_command
from jupyter_mlops.tracking.system_metrics import SystemMetrics

from .mlflow_server import MLflowServer, free_port, mlflow_server
from .tracking_run import make_snapshot, make_spec, run_code

if TYPE_CHECKING:
    from collections.abc import Iterator

# MLflow's own client tries a server that is away for four minutes: who relied on it would not pass.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[MLflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("server"), database=mlflow_database) as running:
        yield running


@pytest.fixture
def running(server: MLflowServer) -> MLflowServer:
    if server._process is None:
        server.start()
    return server


def begin(uri: str, spec: Any = None, wait: float = 2.0) -> BegunRun:
    return begin_run(spec or make_spec(), make_snapshot(), uri=uri, wait=wait, redactor=Redactor())


def with_user(uri: str, user: str = "ada:geheim1") -> str:
    return uri.replace("://", f"://{user}@")


def test_a_server_that_is_away_is_told_with_its_address_and_without_the_password() -> None:
    port = free_port()
    with pytest.raises(TrackingError, match=f"MLflow at http://127.0.0.1:{port} cannot be reached") as caught:
        begin(with_user(f"http://127.0.0.1:{port}"))
    assert "geheim1" not in str(caught.value) + caught.value.hint
    assert "MLFLOW_TRACKING_URI" in caught.value.hint


def test_a_server_that_hangs_is_told_and_not_waited_for(running: MLflowServer) -> None:
    running.freeze()
    try:
        with pytest.raises(TrackingError, match="did not answer within 2 s"):
            begin(running.uri)
        with pytest.raises(TrackingError, match="did not answer within 1 s"):
            check_tracking(running.uri, 1)
    finally:
        running.thaw()


def test_a_server_that_dies_between_two_calls_is_told(running: MLflowServer) -> None:
    connection, impatient = (Connection(with_user(running.uri), wait) for wait in (60.0, 2.0))
    assert connection.do(lambda: connection.client.get_experiment_by_name("none")) is None
    running.kill()
    with pytest.raises(TrackingError, match=f"MLflow at {running.uri} cannot be reached"):
        impatient.do(lambda: impatient.client.get_experiment_by_name("none"))


def test_results_are_sent_when_the_server_is_back(running: MLflowServer, tmp_path: Path) -> None:
    spec = make_spec()
    begun = begin(running.uri, spec, 30)
    (tmp_path / "executed.ipynb").write_text("{}")
    running.kill()

    def finish() -> None:
        finish_run(
            spec, uri=running.uri, mlflow_run_id=begun.mlflow_run_id, state=RunState.SUCCEEDED, run_dir=tmp_path,
            wait=20, redactor=Redactor(),
        )  # fmt: skip

    with pytest.raises(TrackingError, match="cannot be reached"):
        finish()
    running.start()
    finish()
    connection = Connection(running.uri, 20)
    assert connection.client.get_run(begun.mlflow_run_id).info.status == "FINISHED"
    assert "executed.ipynb" in {entry.path for entry in connection.client.list_artifacts(begun.mlflow_run_id)}


def test_the_metrics_followers_outlive_an_outage(running: MLflowServer) -> None:
    begun = begin(running.uri, wait=30)
    poller = MetricPoller(running.uri, begun.mlflow_run_id)
    assert poller.poll() == []
    system = SystemMetrics(running.uri, begun.mlflow_run_id, interval=0.5)
    system.start()
    running.kill()
    for _ in range(3):
        assert poller.poll() == []
    assert poller.problem
    system.stop()
    running.start()
    connection = Connection(running.uri, 30)
    connection.do(lambda: connection.client.log_metric(begun.mlflow_run_id, "loss", 1.0))
    deadline = time.monotonic() + 60
    events = poller.poll()
    while not events and time.monotonic() < deadline:
        time.sleep(0.5)
        events = poller.poll()
    assert [(event.key, event.value) for event in events] == [("loss", 1.0)]
    assert poller.problem == ""
    assert len([thread for thread in threading.enumerate() if thread.name == "mlops-metrics-look"]) <= 1


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[MLflowServer]:
    with mlflow_server(
        tmp_path_factory.mktemp("closed"), password="quite-a-long-one", database=mlflow_database
    ) as running:
        yield running


def test_a_server_that_refuses_the_user_says_so(closed_server: MLflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in (closed_server.uri, with_user(closed_server.uri)):
        with pytest.raises(TrackingError, match=f"MLflow at {closed_server.uri} refused the user") as caught:
            begin(attempt, wait=20)
        assert "MLFLOW_TRACKING_USERNAME" in caught.value.hint
        assert "geheim1" not in str(caught.value.__cause__)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "quite-a-long-one")
    assert begin(closed_server.uri, wait=20).mlflow_run_id


def test_a_password_in_the_address_reaches_mlflow_in_the_kernel_and_is_not_printed(
    closed_server: MLflowServer,
) -> None:
    uri = with_user(closed_server.uri, "admin:quite-a-long-one")
    spec = make_spec()
    begun = begin(uri, spec, 20)
    assert begun.url is not None
    assert "quite-a-long-one" not in begun.url
    code = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', 1)\nprint(mlflow.get_tracking_uri())"
    printed = run_code(code, kernel_environment(begun, spec, uri=uri))
    assert closed_server.uri in printed
    assert "quite-a-long-one" not in printed
    assert Connection(uri, 20).client.get_run(begun.mlflow_run_id).data.metrics == {"m": 1.0}


def test_three_processes_that_begin_at_once_share_one_whole_database(tmp_path: Path) -> None:
    database = tmp_path / "fresh" / "mlflow.db"
    code = f"""
from tests.integration.tracking_run import make_spec, make_snapshot
from jupyter_mlops.redact import Redactor
from jupyter_mlops.tracking.mlflow_run import begin_run
begun = begin_run(make_spec(), make_snapshot(), uri="sqlite:///{database}", wait=20, redactor=Redactor())
print(begun.mlflow_run_id, begun.experiment_id)
"""
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=110) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    runs = [out.split() for out, _ in answers]
    assert len({run for run, _ in runs}) == 3
    assert len({experiment for _, experiment in runs}) == 1
    assert [err for _, err in answers] == ["", "", ""], "MLflow and Alembic shall not chat"
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        places = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    assert all(place.startswith((database.parent / "mlartifacts").as_uri()) for (place,) in places)
    assert not (root / "mlruns").exists()
    assert database.stat().st_mode & 0o077 == 0


def test_a_database_whose_making_was_killed_is_made_by_the_next(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    code = f"""
from pathlib import Path
from jupyter_mlops.tracking.connection import ensure_database
ensure_database(Path({str(database)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    unfinished = tmp_path / "mlflow.db.making"
    deadline = time.monotonic() + 60
    while not (unfinished.exists() and unfinished.stat().st_size > 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert unfinished.exists()
    assert not database.exists()
    ensure_database(database)
    assert begin(f"sqlite:///{database}", wait=20).experiment_id == "1"


@pytest.fixture
def database(tmp_path: Path, mlflow_database: Path) -> Path:
    path = tmp_path / "db" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(mlflow_database, path)
    return path


def test_a_locked_database_is_told(database: Path) -> None:
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(TrackingError, match=r"mlflow.db is locked by another process"):
            begin(f"sqlite:///{database}", wait=1)
    finally:
        holder.close()
    assert begin(f"sqlite:///{database}", wait=1)


@pytest.mark.parametrize(
    ("revision", "sentence", "remedy"),
    [("ffffffffffff", "newer MLflow", "pip install"), ("451aebb31d03", "older MLflow", "mlflow db upgrade")],
)
def test_a_database_of_another_mlflow_is_told(database: Path, revision: str, sentence: str, remedy: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with pytest.raises(TrackingError, match=sentence) as caught:
        begin(f"sqlite:///{database}", wait=1)
    assert remedy in caught.value.hint


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("my thesis " * 1000)
    with pytest.raises(TrackingError, match="is not an SQLite database"):
        begin(f"sqlite:///{path}", wait=1)
    assert path.read_text().startswith("my thesis")


def test_a_relative_database_is_the_same_one_for_the_kernel(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)
    spec = make_spec()
    begun = begin("sqlite:///mlflow.db", spec)
    assert kernel_environment(begun, spec, uri="sqlite:///mlflow.db")["MLFLOW_TRACKING_URI"] == f"sqlite:///{database}"


def test_the_page_of_the_default_store_shows_its_runs(database: Path) -> None:
    import urllib.request

    begun = begin(f"sqlite:///{database}", wait=20)
    port = free_port()
    command = ui_command(f"sqlite:///{database}", port)
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=database.parent,
    )
    try:
        deadline = time.monotonic() + 90
        answer = ""
        address = f"http://127.0.0.1:{port}/api/2.0/mlflow/artifacts/list?run_id={begun.mlflow_run_id}"
        while "parameters.json" not in answer and time.monotonic() < deadline:
            time.sleep(0.5)
            try:
                with urllib.request.urlopen(address, timeout=5) as response:
                    answer = response.read().decode()
            except OSError:
                continue
        assert "parameters.json" in answer
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
