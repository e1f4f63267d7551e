"""Faults of kernels, cells, notebooks and parameters that a run on one machine survives, injected into real processes.

What is promised stands in docs/explanation/promises.md.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from jupyter_mlops.errors import MLOpsError
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from .watching import (
    nothing_is_left,
    start,
    until,
)

pytestmark = pytest.mark.integration


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
