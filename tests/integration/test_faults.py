"""Faults that a run on one machine survives, injected into real processes (see docs/explanation/faults.md)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest

from jupyter_mlops.errors import MLOpsError
from jupyter_mlops.events import CellEvent, RunEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from .conftest import processes_of

pytestmark = pytest.mark.integration


def until(condition: Callable[[], object], *, patience: float = 120.0) -> object:
    """Wait for something that must come; how fast is not what is tested."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def cell_runs(runs: Runs, record, number: int) -> bool:
    return any(
        isinstance(event, CellEvent) and event.number == number and event.state == "running"
        for event in runs.events(record)
    )


def start(runs: Runs, path: Path, **options):
    return runs.submit(runs.prepare(path, **options))


def nothing_is_left(runs: Runs) -> bool:
    return not processes_of(runs.config.data_path)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("import os; os._exit(7)", "exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL"),
    ],
)
def test_a_kernel_that_dies_is_told_with_cell_and_cause(
    runs: Runs, run_notebook: Callable, cell: str, words: str
) -> None:
    record = run_notebook("print('before')", cell, "print('never')")
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.KERNEL_DIED)
    assert "in cell 2" in record.message
    assert words in record.message
    nb = nbformat.read(runs.files(record) / "executed.ipynb", as_version=4)
    assert nb.cells[0].outputs[0].text == "before\n"
    until(lambda: nothing_is_left(runs))


def test_a_run_over_its_memory_is_stopped_and_told_with_limit_and_use(runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook(
        "import time\nblocks = []\nwhile True:\n    blocks.append(bytearray(20_000_000))\n    time.sleep(0.05)",
        profile=runs.config.profile(memory="600Mi"),
    )
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.OUT_OF_MEMORY)
    assert "600.0 MiB" in record.message
    until(lambda: nothing_is_left(runs))


def test_a_memory_error_in_a_cell_is_told_as_one(run_notebook: Callable) -> None:
    record = run_notebook(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\nx = bytearray(2**33)"
    )
    assert record.code is FailureCode.OUT_OF_MEMORY


def test_a_cell_that_runs_too_long_is_stopped_and_its_output_kept(runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook("print('begun', flush=True)\nwhile True:\n    pass", cell_timeout=3.0)
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.CELL_TIMEOUT)
    nb = nbformat.read(runs.files(record) / "executed.ipynb", as_version=4)
    assert "begun" in nb.cells[0].outputs[0].text


def test_a_run_that_takes_too_long_is_stopped(run_notebook: Callable) -> None:
    record = run_notebook("import time", "time.sleep(600)", run_timeout=6.0)
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.RUN_TIMEOUT)


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


def engine_of(runs: Runs, record) -> psutil.Process | None:
    for process in processes_of(runs.config.data_path):
        try:
            if "--engine" in process.cmdline() and record.run_id in " ".join(process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None


@pytest.mark.parametrize("moment", range(int(os.environ.get("JUPYTER_MLOPS_KILLS", "4"))))
def test_an_engine_killed_at_a_random_moment_leaves_a_record_and_nothing_running(
    runs: Runs, make_notebook: Callable[..., Path], moment: int
) -> None:
    path = make_notebook("print('one')", "import time\ntime.sleep(1)", "time.sleep(1)", "time.sleep(1)")
    record = start(runs, path)
    engine = until(lambda: engine_of(runs, record))
    time.sleep(random.uniform(0, 6))
    try:
        engine.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        pytest.skip("the run was faster than the kill")
    ended = runs.wait(record.run_id)
    assert ended.state in (RunState.FAILED, RunState.SUCCEEDED)
    if ended.state is RunState.FAILED:
        assert ended.code is FailureCode.WORKER_DIED
        assert "SIGKILL" in ended.message
    until(lambda: nothing_is_left(runs))
    executed = runs.files(ended) / "executed.ipynb"
    if executed.exists():
        nbformat.read(executed, as_version=4)
    terminal = [event for event in runs.events(ended) if isinstance(event, RunEvent) and event.state.is_terminal]
    assert len(terminal) == 1
    from mlflow.tracking import MlflowClient

    client = MlflowClient(runs.config.mlflow_uri())
    found = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        f"tags.`jupyter_mlops.run_id` = '{record.run_id}'",
    )
    assert [run.info.status for run in found] == ["FAILED" if ended.state is RunState.FAILED else "FINISHED"]


def test_a_killed_supervisor_takes_the_run_to_an_orderly_end(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    record = start(runs, make_notebook("import time; time.sleep(600)"))
    until(lambda: cell_runs(runs, record, 1))
    pid = json.loads((runs.files(record) / "worker.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    ended = runs.wait(record.run_id)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    until(lambda: nothing_is_left(runs))


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


def test_a_full_disk_is_told_and_what_was_there_stays_whole(
    runs: Runs, make_notebook: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"no tmpfs can be mounted: {mounted.stderr.decode()}")
        pytest.skip("needs the right to mount a small tmpfs (root)")
    try:
        import shutil

        shutil.copy(runs.config.data_path / "mlflow.db", small / "mlflow.db")
        monkeypatch.setenv("JUPYTER_MLOPS_DATA_DIR", str(small))
        core = Runs()
        path = make_notebook(
            "print('first')",
            "with open('big', 'wb') as file:\n    while True:\n        file.write(b'x' * 100_000); file.flush()",
            "print('never')",
        )
        before = core.wait(core.submit(core.prepare(make_notebook("print(1)", name="small.ipynb"))).run_id)
        assert before.state is RunState.SUCCEEDED, before.message
        ended = core.wait(core.submit(core.prepare(path)).run_id)
        assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.DISK_FULL), ended.message
        assert core.get(before.run_id).state is RunState.SUCCEEDED
        nbformat.read(core.files(before) / "executed.ipynb", as_version=4)
        until(lambda: not processes_of(small))
    finally:
        for process in processes_of(small):
            process.kill()
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_kernel_that_is_not_installed_is_refused_before_anything_is_created(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    with pytest.raises(MLOpsError) as caught:
        runs.prepare(make_notebook("1", kernel="julia-1.9"))
    assert "julia-1.9" in caught.value.message
    assert not (runs.config.data_path / "runs").exists()


def test_an_mlflow_that_is_away_at_the_start_is_told_and_the_record_is_sent_later(
    runs: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path(os.environ["JUPYTER_CONFIG_DIR"])
    config.mkdir()
    (config / "jupyter_mlops_config.py").write_text("c.MLOps.mlflow_wait = 2.0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    record = start(Runs(), make_notebook("print(1)"))
    ended = Runs().wait(record.run_id)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.MLFLOW_UNREACHABLE)
    assert "127.0.0.1:9" in ended.message
    assert (runs.files(ended) / "unpublished").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    from jupyter_mlops.engine.publish import publish_pending

    lines: list[str] = []
    assert publish_pending(Runs().config, told=lines.append) == 0
    assert lines == [f"{record.run_id}: sent"]
