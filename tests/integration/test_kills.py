"""Processes of a run that are killed or told to stop, at random moments, twice, all at once: its record and its leftovers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from jupyter_mlops.errors import MLOpsError
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from .conftest import processes_of
from .watching import (
    cell_runs,
    engine_of,
    nothing_is_left,
    nothing_is_lost_or_doubled,
    start,
    until,
)

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("JUPYTER_MLOPS_KILLS", "3"))

LOGGING = (
    "import mlflow, itertools\nfor n in itertools.count():\n    mlflow.log_metric('m', n, step=n)\n"
    "    with open({told!r}, 'a') as file:\n        file.write(f'{{n}}\\n')\n    {then}"
)


def test_cancel_ends_the_cell_its_children_and_its_dask_workers(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    path = make_notebook(
        ("client = None", "parameters"),
        "import subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\ntime.sleep(600)",
        "print('never')",
    )
    record = start(runs, path, profile=runs.config.profile(workers=2, cpus=2))
    until(lambda: cell_runs(runs, record, 3))
    runs.cancel(record.run_id)
    ended = runs.wait(record.run_id)
    assert (ended.state, ended.code) == (RunState.CANCELLED, FailureCode.CANCELLED)
    assert "cancelled by" in ended.message
    until(lambda: nothing_is_left(runs))
    from mlflow.tracking import MlflowClient

    assert MlflowClient(runs.config.mlflow_uri()).get_run(ended.mlflow_run_id).info.status == "KILLED"


def test_a_cell_that_ignores_the_interrupt_and_forks_is_ended_all_the_same(
    runs: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path(os.environ["JUPYTER_CONFIG_DIR"])
    config.mkdir()
    (config / "jupyter_mlops_config.py").write_text("c.MLOps.interrupt_grace = 1.0")
    path = make_notebook(
        "import os, signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    os.setsid()\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    time.sleep(600)\n"
        "while True:\n    time.sleep(1)"
    )
    record = start(runs, path)
    until(lambda: cell_runs(runs, record, 1))
    time.sleep(1)
    runs.cancel(record.run_id)
    assert runs.wait(record.run_id).state is RunState.CANCELLED
    until(lambda: nothing_is_left(runs))


def test_cancel_before_the_kernel_is_there(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    record = start(runs, make_notebook("import time; time.sleep(600)"))
    runs.cancel(record.run_id)
    assert runs.wait(record.run_id).state is RunState.CANCELLED
    until(lambda: nothing_is_left(runs))


@pytest.mark.parametrize("moment", range(KILLS))
def test_an_engine_killed_at_a_random_moment_leaves_a_record_and_nothing_running(
    runs: Runs, make_notebook: Callable[..., Path], tmp_path: Path, moment: int
) -> None:
    told = tmp_path / "told"
    path = make_notebook("print('one')", LOGGING.format(told=str(told), then="pass"))  # it has no end of its own
    record = start(runs, path)
    engine = until(lambda: engine_of(runs, record))
    time.sleep(random.uniform(0, 10))
    engine.send_signal(signal.SIGKILL)
    ended = runs.wait(record.run_id)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    assert "SIGKILL" in ended.message
    until(lambda: nothing_is_left(runs))
    nothing_is_lost_or_doubled(runs, ended, told)


@pytest.mark.parametrize("moment", range(KILLS))
def test_an_engine_killed_while_it_saves_leaves_a_record_and_nothing_running(
    runs: Runs, make_notebook: Callable[..., Path], tmp_path: Path, moment: int
) -> None:
    told = tmp_path / "told"
    record = start(runs, make_notebook(LOGGING.format(told=str(told), then="if n == 20: break"), "print('two')"))
    engine = until(lambda: engine_of(runs, record))
    until(lambda: any(getattr(event, "phase", "") == "saving the results" for event in runs.events(record)))
    time.sleep(random.uniform(0, 1.5))
    with contextlib.suppress(psutil.NoSuchProcess):  # then it has saved, and the rest must hold as well
        engine.send_signal(signal.SIGKILL)
    ended = runs.wait(record.run_id)
    assert ended.code is (None if ended.state is RunState.SUCCEEDED else FailureCode.WORKER_DIED)
    until(lambda: nothing_is_left(runs))
    nothing_is_lost_or_doubled(runs, ended, told)
    assert told.read_text().split()[-1] == "20"


def test_whoever_started_a_run_may_be_killed(runs: Runs, make_notebook: Callable[..., Path], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    path = make_notebook(f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.1)")
    code = (
        "import sys\nfrom pathlib import Path\nfrom jupyter_mlops.runs import Runs\nruns = Runs()\n"
        "record = runs.submit(runs.prepare(Path(sys.argv[1])))\nprint(record.run_id, flush=True)\n"
        "runs.wait(record.run_id)"
    )
    front = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    run_id = front.stdout.readline().strip()
    os.killpg(front.pid, signal.SIGKILL)  # as a Jupyter server dies with its terminals and kernels
    front.communicate()
    gate.touch()
    assert runs.wait(run_id).state is RunState.SUCCEEDED
    until(lambda: nothing_is_left(runs))


def test_a_killed_supervisor_takes_the_run_to_an_orderly_end(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    record = start(runs, make_notebook("import time; time.sleep(600)"))
    until(lambda: cell_runs(runs, record, 1))
    pid = json.loads((runs.files(record) / "worker.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    ended = runs.wait(record.run_id)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    assert "The supervisor of the run was killed" in ended.message
    until(lambda: nothing_is_left(runs))
    nothing_is_lost_or_doubled(runs, ended, Path("none"))


def test_when_everything_is_killed_at_once_the_next_look_makes_the_record(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    record = start(runs, make_notebook("import time; time.sleep(600)"))
    until(lambda: cell_runs(runs, record, 1))
    for process in processes_of(runs.config.data_path):
        process.suspend()
    for process in processes_of(runs.config.data_path):
        process.kill()
    ended = until(lambda: (found := runs.get(record.run_id)).state.is_terminal and found)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    until(lambda: nothing_is_left(runs))
    nothing_is_lost_or_doubled(runs, ended, Path("none"))


def test_two_that_cancel_make_one_end_and_it_names_one_of_them(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    record = start(runs, make_notebook("import time; time.sleep(600)"))
    until(lambda: cell_runs(runs, record, 1))
    runs.cancel(record.run_id)
    runs.cancel(record.run_id)
    ended = runs.wait(record.run_id)
    assert ended.state is RunState.CANCELLED
    with pytest.raises(MLOpsError, match="has ended already"):
        runs.cancel(record.run_id)
    until(lambda: nothing_is_left(runs))
    nothing_is_lost_or_doubled(runs, ended, Path("none"))


def test_a_word_to_cancel_is_enough_without_a_signal(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    record = start(runs, make_notebook("import time; time.sleep(600)"))
    until(lambda: cell_runs(runs, record, 1))
    (runs.files(record) / "cancel.json").write_text('{"by": "somebody on another machine"}')
    ended = runs.wait(record.run_id)
    assert ended.message == "The run was cancelled by somebody on another machine."


def test_a_run_whose_worker_cannot_start_has_a_record(
    runs: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = runs.prepare(make_notebook("print(1)"))
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(MLOpsError, match="could not be started"):
            runs.submit(prepared)
    (record,) = runs.find()
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.INTERNAL)
    assert "could not be started" in record.message
