"""An engine that a run leaves behind: the next run uses it, and nothing depends on it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from .conftest import processes_of
from .watching import cell_runs, executed, nothing_is_left, outputs_text, until

pytestmark = pytest.mark.integration

FACTS = (
    "import os, sys, signal\n"
    "print('pid', os.getpid())\nprint('cwd', os.getcwd())\nprint('names', sorted(n for n in dir() if n[:1] != '_'))\n"
    "print('group', os.getpgrp() == os.getpid())\nprint('int', signal.getsignal(signal.SIGINT) is not None)"
)


@pytest.fixture
def core(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setenv("JUPYTER_MLOPS_WARM_SECONDS", "300")
    return runs


def waiting(runs: Runs) -> dict[str, Any] | None:
    try:
        known: dict[str, Any] = json.loads((runs.config.data_path / "waiting" / "engine.json").read_text())
    except (OSError, ValueError):
        return None
    return known


def run(runs: Runs, path: Path, **options: Any) -> Any:
    return runs.wait(runs.submit(runs.prepare(path, **options)).run_id)


def served_by(runs: Runs, record: Any) -> str | None:
    """The name of the engine that waited for this run, or None: it was started for it."""
    found: str | None = json.loads((runs.files(record) / "worker.json").read_text()).get("waiting")
    return found


def test_the_next_run_uses_it_and_finds_what_a_fresh_one_finds(core: Runs, make_notebook: Callable[..., Path]) -> None:
    path = make_notebook(("x: int = 1", "parameters"), FACTS, "import random\nprint(random.random(), x)")
    first = run(core, path, parameters={"x": 5})
    assert served_by(core, first) is None
    engine = until(lambda: waiting(core))
    second = run(core, path, parameters={"x": 5})
    assert second.state is RunState.SUCCEEDED, second.message
    assert served_by(core, second) == engine["pipe"].partition(".")[0]
    told, retold = (outputs_text(executed(core, record)).splitlines() for record in (first, second))
    assert told[0] != retold[0]
    assert told[1].replace(first.run_id, second.run_id) == retold[1]
    assert told[2:] == retold[2:]
    third = until(lambda: waiting(core))
    assert third["pipe"] != engine["pipe"]


def test_it_goes_when_nobody_comes(
    runs: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_MLOPS_WARM_SECONDS", "1")
    assert run(runs, make_notebook("1")).state is RunState.SUCCEEDED
    log = runs.config.data_path / "waiting" / "engine.log"
    until(log.exists)  # it was there
    until(lambda: nothing_is_left(runs))
    assert [path.name for path in log.parent.iterdir()] == ["engine.log"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_is_gone_is_not_missed(core: Runs, make_notebook: Callable[..., Path], number: signal.Signals) -> None:
    path = make_notebook("print('ran')")
    run(core, path)
    engine = until(lambda: waiting(core))
    family = [psutil.Process(engine["pid"]), *psutil.Process(engine["pid"]).children(recursive=True)]
    os.kill(engine["pid"], number)
    psutil.wait_procs(family, timeout=60)
    record = run(core, path)
    assert (record.state, served_by(core, record)) == (RunState.SUCCEEDED, None)
    assert not any(process.is_running() for process in family)


def test_a_caller_with_another_environment_does_not_get_it(
    core: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_notebook("import os\nprint(os.environ.get('COLOUR'))")
    run(core, path)
    engine = until(lambda: waiting(core))
    monkeypatch.setenv("COLOUR", "red")
    record = run(core, path)
    assert served_by(core, record) is None
    assert "red" in outputs_text(executed(core, record))
    until(lambda: not psutil.pid_exists(engine["pid"]))


def test_of_two_runs_at_once_one_has_it_and_both_succeed(core: Runs, make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("print('ran')")
    run(core, path)
    until(lambda: waiting(core))
    prepared = [core.prepare(path) for _ in range(3)]
    records: list[Any] = []
    threads = [threading.Thread(target=lambda p=p: records.append(core.submit(p))) for p in prepared]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = [core.wait(record.run_id) for record in records]
    assert [record.state for record in ended] == [RunState.SUCCEEDED] * 3
    assert sum(served_by(core, record) is not None for record in ended) == 1


def test_another_kernel_seed_and_cancel_are_as_ever(core: Runs, make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("import os, random\nprint(os.environ['PYTHONHASHSEED'], hash('a'), random.random())")
    fresh = run(core, path, seed=7)
    until(lambda: waiting(core))
    again = run(core, path, seed=7)
    assert served_by(core, again) is not None
    assert outputs_text(executed(core, again)) == outputs_text(executed(core, fresh))
    until(lambda: waiting(core))
    record = core.submit(core.prepare(make_notebook("import time; time.sleep(600)", name="long.ipynb")))
    until(lambda: cell_runs(core, record, 1))
    core.cancel(record.run_id)
    assert core.wait(record.run_id).state is RunState.CANCELLED
    assert served_by(core, core.get(record.run_id)) is not None


def test_when_all_of_such_a_run_is_killed_it_has_a_record_and_nothing_is_left(
    core: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(core, make_notebook("1"))
    until(lambda: waiting(core))
    long = make_notebook("import subprocess, time\nsubprocess.Popen(['sleep', '600'])\ntime.sleep(600)", name="l.ipynb")
    record = core.submit(core.prepare(long))
    until(lambda: cell_runs(core, record, 1))
    assert served_by(core, record) is not None
    monkeypatch.setenv("JUPYTER_MLOPS_WARM_SECONDS", "0")
    supervisor = psutil.Process(json.loads((core.files(record) / "worker.json").read_text())["pid"])
    family = [supervisor, *supervisor.children()]  # the kernel and its child are found by what they carry
    for process in family:
        process.suspend()
    for process in family:
        process.kill()
    ended = until(lambda: (found := core.get(record.run_id)).state.is_terminal and found)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    until(lambda: not processes_of(core.files(record)))
    until(lambda: nothing_is_left(core))
