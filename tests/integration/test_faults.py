"""Faults that a run on one machine survives, injected into real processes (see docs/explanation/promises.md)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


MEMORY_GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group that may have 400 MB of memory."""
    group = make_memory_group(400 * 2**20)
    if group is None:
        pytest.skip("needs the right to make a control group of memory (root, outside of a container)")
    yield group
    until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def make_memory_group(size: int) -> Path | None:
    for root in MEMORY_GROUPS:
        group = root / f"mlops-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / ("memory.limit_in_bytes" if root.name == "memory" else "memory.max")).write_text(str(size))
        except OSError:  # a control group of version 2 whose parent does not hand memory on
            group.rmdir()
        else:
            return group
    return None


def test_a_kernel_that_the_system_ends_for_want_of_memory_is_told_with_limit_and_use(
    runs: Runs, run_notebook: Callable, memory_group: Path
) -> None:
    record = run_notebook(
        f"import os, pathlib, time\npathlib.Path({str(memory_group / 'cgroup.procs')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(2)",
        "blocks = []\nwhile True:\n    blocks.append(bytearray(10_000_000))\n    time.sleep(0.02)",
    )
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.OUT_OF_MEMORY), record.message
    assert "in cell 2 for want of memory: the limit is 400.0 MiB" in record.message
    assert "MiB in use at the last look" in record.message
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


def test_the_limit_of_a_cell_may_be_a_part_of_a_second_and_is_not_one_of_the_preparation(
    runs: Runs, run_notebook: Callable
) -> None:
    assert run_notebook("1 + 1", "2 + 2", cell_timeout=5.0, autolog=True).state is RunState.SUCCEEDED
    record = run_notebook("x = 1", "import time; time.sleep(600)", cell_timeout=0.75)
    assert (record.code, record.message) == (
        FailureCode.CELL_TIMEOUT,
        "Cell 2 was stopped: it ran longer than 0.75 s.",
    )


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


KILLS = int(os.environ.get("JUPYTER_MLOPS_KILLS", "3"))
LOGGING = (
    "import mlflow, itertools\nfor n in itertools.count():\n    mlflow.log_metric('m', n, step=n)\n"
    "    with open({told!r}, 'a') as file:\n        file.write(f'{{n}}\\n')\n    {then}"
)


def mlflow_runs(runs: Runs, run_id: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(runs.config.mlflow_uri())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`jupyter_mlops.run_id` = '{run_id}'"))


def nothing_is_lost_or_doubled(runs: Runs, ended: Any, told: Path) -> None:
    """One end in the events, one run in MLflow, every metric that the cell saw taken once, files that can be read."""
    ends = [event for event in runs.events(ended) if isinstance(event, RunEvent) and event.state.is_terminal]
    assert [event.state for event in ends] == [ended.state]
    until(lambda: not (runs.files(ended) / "unpublished").exists())
    found = mlflow_runs(runs, ended.run_id)
    status = {RunState.FAILED: "FAILED", RunState.SUCCEEDED: "FINISHED", RunState.CANCELLED: "KILLED"}[ended.state]
    assert [run.info.status for run in found] == [status]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(runs.config.mlflow_uri())
    steps = [point.step for point in client.get_metric_history(found[0].info.run_id, "m")]
    acknowledged = told.read_text().split() if told.exists() else []
    assert steps == list(range(len(steps)))
    assert len(steps) >= len(acknowledged)
    names = {file.path for file in client.list_artifacts(found[0].info.run_id)}
    assert "events.jsonl" in names
    executed = runs.files(ended) / "executed.ipynb"
    assert ("executed.ipynb" in names) == executed.exists()
    if executed.exists():
        nbformat.validate(nbformat.read(executed, as_version=4))
    assert not list(runs.files(ended).glob(".executed.ipynb.*"))


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


def test_a_kernel_that_is_not_installed_is_refused_before_anything_is_created(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    with pytest.raises(MLOpsError) as caught:
        runs.prepare(make_notebook("1", kernel="julia-1.9"))
    assert "julia-1.9" in caught.value.message
    assert not (runs.config.data_path / "runs").exists()


def install_kernel(name: str, *argv: str) -> None:
    """A kernel that starts this program."""
    directory = Path(os.environ["HOME"]) / ".local" / "share" / "jupyter" / "kernels" / name
    directory.mkdir(parents=True)
    spec = {"argv": list(argv), "display_name": name, "language": "python"}
    (directory / "kernel.json").write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("name", "argv", "words"),
    [
        ("ends", ["/bin/sh", "-c", "echo no such module >&2; exit 3"], "ended (exit code 3)"),
        ("vanishes", ["no-such-program-anywhere"], "could not be started"),
    ],
)
def test_a_kernel_that_does_not_start_is_told_at_once(
    runs: Runs, run_notebook: Callable, name: str, argv: list[str], words: str
) -> None:
    install_kernel(name, *argv)
    record = run_notebook("print('never')", kernel_name=name)
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.KERNEL_START), record.message
    assert name in record.message
    assert words in record.message
    until(lambda: nothing_is_left(runs))


def test_a_kernel_that_keeps_silent_can_be_cancelled(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    install_kernel("silent", "/bin/sh", "-c", "trap '' INT TERM; while :; do sleep 1; done")
    record = start(runs, make_notebook("print('never')"), kernel_name="silent")
    until(lambda: any(getattr(event, "phase", "") == "starting the kernel" for event in runs.events(record)))
    time.sleep(2)
    runs.cancel(record.run_id)
    ended = runs.wait(record.run_id)
    assert ended.state is RunState.CANCELLED, ended.message
    until(lambda: nothing_is_left(runs))


def test_a_kernel_that_dies_before_the_first_cell_and_after_the_last_is_told(
    runs: Runs, run_notebook: Callable
) -> None:
    startup = Path(os.environ["IPYTHONDIR"]) / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("import threading, os\nthreading.Timer(0.1, os._exit, [9]).start()")
    record = run_notebook("print('never')")
    assert record.code in (FailureCode.KERNEL_DIED, FailureCode.KERNEL_START), record.message
    assert "exit code 9" in record.message
    (startup / "00.py").unlink()
    record = run_notebook(
        "import threading, os\nthreading.Timer(0.3, os._exit, [9]).start()", "x = 1\nimport sys; sys.exit()"
    )
    assert (record.state, record.code) in (
        (RunState.SUCCEEDED, None),
        (RunState.FAILED, FailureCode.KERNEL_DIED),
    ), record.message
    until(lambda: nothing_is_left(runs))


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


def not_a_notebook(directory: Path) -> dict[str, Path]:
    from nbformat import v4

    directory.mkdir(parents=True, exist_ok=True)
    good = v4.new_notebook(cells=[v4.new_code_cell("print(1)")])
    unknown = v4.new_notebook(
        cells=[v4.new_code_cell("1")], metadata={"kernelspec": {"name": "r", "display_name": "R"}}
    )
    nameless = v4.new_notebook(cells=[v4.new_code_cell("1")], metadata={"language_info": {"name": "R"}})
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": []}]}
    contents = {
        "old": json.dumps(old),
        "newer": json.dumps({**good, "nbformat": 9}),
        "text": "this is no JSON",
        "zero": "",
        "list": "[]",
        "empty": json.dumps(v4.new_notebook()),
        "cut": json.dumps(good)[:-20],
        "merge": "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> x\n",
        "deep": "[" * 100_000,
        "unknown": json.dumps(unknown),
        "nameless": json.dumps(nameless),
    }
    paths = {name: directory / f"{name}.ipynb" for name in [*contents, "huge", "missing", "pipe", "loop", "latin"]}
    for name, content in contents.items():
        paths[name].write_text(content)
    with paths["huge"].open("wb") as file:
        file.truncate(3 * 2**30)
    paths["latin"].write_bytes(json.dumps(good).replace("print", "\xe9").encode("latin-1"))
    os.mkfifo(paths["pipe"])
    paths["loop"].symlink_to(paths["loop"])
    paths["directory"] = directory
    return paths


def test_what_is_no_notebook_is_refused_with_the_reason_and_nothing_is_created(runs: Runs, tmp_path: Path) -> None:
    words = {
        "old": "old notebook format 3", "newer": "notebook format 9", "text": "not JSON", "zero": "0 bytes",
        "list": "not a notebook", "empty": "no code", "cut": "not JSON", "merge": "unresolved merge",
        "deep": "nested too deeply", "unknown": "kernel 'r' is not installed", "nameless": "names no kernel",
        "huge": "at most", "missing": "There is no file", "pipe": "not a regular file", "loop": "cannot be read",
        "latin": "not text in UTF-8", "directory": "is a directory",
    }  # fmt: skip
    paths = not_a_notebook(tmp_path / "project")
    assert set(words) == set(paths)
    before = sorted(runs.config.data_path.iterdir())
    for name, path in paths.items():
        with pytest.raises(MLOpsError, match=words[name]) as caught:
            runs.prepare(path)
        assert caught.value.hint, name
        assert caught.value.exit_code == 2, name
    assert sorted(runs.config.data_path.iterdir()) == before


HOSTILE = [
    "'\"\\", 'triple """ and \'\'\'', "new\nline\r\n", "{{ x }} {% y %} {z}", "$(id) `id` ${HOME} %s %(a)s %PATH%",
    "nul \x00 and \x1b[31m", "😀 \u202e \u2028 \ud7ff", "__import__('os').system('id')", "# comment", "x" * 900_000,
    "'; DROP TABLE runs; --", "<script>alert(1)</script>", "-----BEGIN", "\\N{BULLET} \\x41 \\", "",
]  # fmt: skip


def test_hostile_parameters_arrive_as_they_are(runs: Runs, run_notebook: Callable, tmp_path: Path) -> None:
    numbers = {"nan": float("nan"), "inf": [float("inf"), -0.0, 1e-320, 2**80], "none": None, "yes": True}
    values = {"texts": HOSTILE, "nested": {text[:20]: [text[:50]] for text in HOSTILE}, **numbers}
    out = tmp_path / "out.json"
    record = run_notebook(
        ("texts = []\nnested = {}\nnan = 0.0\ninf = []\nnone: int | None = 1\nyes = False", "parameters"),
        f"import json\nopen({str(out)!r}, 'w').write(json.dumps([texts, nested, nan, inf, none, yes]))",
        parameters=values,
    )
    assert record.state is RunState.SUCCEEDED, record.message
    texts, nested, nan, inf, none, yes = json.loads(out.read_text())
    assert (texts, nested, inf, none, yes) == (values["texts"], values["nested"], values["inf"], None, True)
    assert math.isnan(nan)
    assert runs.get(record.run_id).parameters["texts"] == HOSTILE
