"""The runner of this machine: whose processes live, what is recorded when they do not, and who is told to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.engine.publish import PENDING_FILE
from jupyter_mlops.errors import MLOpsError, NotFoundError, ProfileError
from jupyter_mlops.events import EventWriter, RunEvent, read_events
from jupyter_mlops.profile import Profile
from jupyter_mlops.runner import get_runner
from jupyter_mlops.runner import local as local_module
from jupyter_mlops.runner.local import LocalRunner
from jupyter_mlops.spec import FailureCode, RunSpec, RunState
from jupyter_mlops.worker import PROCESS_FILE, birth_of, end_processes, record_death, write_process_file

RUN_ID = "aaaaaaaaaaaa"
ROOT = Path(__file__).parents[3]
NOBODY = {"pid": 2**22 + 1, "born": "never"}
"""Above the largest process id of Linux."""


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> LocalRunner:
    # The process that sends the results of a dead run to MLflow is another room's, and tested there.
    monkeypatch.setattr(sys, "executable", "/bin/true")
    return LocalRunner(MLOps())


@pytest.fixture
def run_dir(runner: LocalRunner) -> Path:
    path = runner.files(RUN_ID)
    path.mkdir(parents=True)
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a process that ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str, **options: object) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(list(command), **options))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def spec(**changes: object) -> RunSpec:
    fields = {
        "run_id": RUN_ID, "name": "n", "notebook": "n.ipynb", "source": "/p/n.ipynb", "snapshot_id": "s",
        "profile": Profile(name="local"), "experiment": "e", "tracking_uri": "u", "owner": "ann",
    }  # fmt: skip
    return RunSpec(**{**fields, **changes})


def say(run_dir: Path, known: dict[str, object], *, host: str | None = None) -> None:
    (run_dir / PROCESS_FILE).write_text(json.dumps({"host": host or socket.gethostname(), **known}))


def ends(run_dir: Path) -> list[RunEvent]:
    return [event for event in read_events(run_dir) if isinstance(event, RunEvent) and event.state.is_terminal]


def age(path: Path, seconds: float) -> None:
    past = time.time() - seconds
    os.utime(path, (past, past))


def test_a_process_is_told_from_another_of_the_same_id_and_from_its_own_corpse(start: Callable) -> None:
    process = start("sleep", "600")
    born = birth_of(process.pid)
    assert born is not None
    assert birth_of(process.pid) == born
    assert birth_of(os.getpid()) != born
    assert birth_of(2**22 + 1) is None
    process.kill()
    deadline = time.monotonic() + 60
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert birth_of(process.pid) is None


def test_a_run_whose_worker_lives_is_left_alone(runner: LocalRunner, run_dir: Path, start: Callable) -> None:
    write_process_file(run_dir, start("sleep", "600").pid)
    age(run_dir, 3600)
    runner.reconcile(RUN_ID)
    assert ends(run_dir) == []


def test_an_engine_that_has_lost_its_supervisor_is_left_to_end_in_order(
    runner: LocalRunner, run_dir: Path, start: Callable
) -> None:
    engine = start("sleep", "600")
    say(run_dir, {**NOBODY, "engine": {"pid": engine.pid, "born": birth_of(engine.pid)}})
    runner.reconcile(RUN_ID)
    assert ends(run_dir) == []
    engine.kill()
    engine.wait()
    runner.reconcile(RUN_ID)
    assert [event.code for event in ends(run_dir)] == [FailureCode.WORKER_DIED]


def test_a_process_id_that_was_used_again_is_not_the_run(runner: LocalRunner, run_dir: Path, start: Callable) -> None:
    stranger = start("sleep", "600")
    say(run_dir, {"pid": stranger.pid, "born": "an earlier one"})
    runner.cancel(RUN_ID, by="ann")
    assert [event.state for event in ends(run_dir)] == [RunState.CANCELLED]
    assert stranger.poll() is None


def test_a_worker_that_is_a_zombie_is_dead(runner: LocalRunner, run_dir: Path, start: Callable) -> None:
    worker = start("sleep", "600")
    write_process_file(run_dir, worker.pid)
    worker.kill()
    deadline = time.monotonic() + 60
    while birth_of(worker.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    runner.reconcile(RUN_ID)
    (end,) = ends(run_dir)
    assert (end.state, end.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    assert "killed, or the machine was restarted" in end.message
    assert RUN_ID in end.hint
    assert (run_dir / PENDING_FILE).exists()


def test_the_record_keeps_what_the_run_had_learned(runner: LocalRunner, run_dir: Path) -> None:
    writer = EventWriter(run_dir)
    writer.write(RunEvent(state=RunState.RUNNING, mlflow_run_id="m1", mlflow_url="http://x/#m1", total_cells=7))
    writer.close()
    with (run_dir / "events.jsonl").open("ab") as file:
        file.write(b'{"type":"run","state":"succ')  # torn by the kill
    (run_dir / ".executed.ipynb.x7f").write_text("{")
    say(run_dir, NOBODY)
    runner.reconcile(RUN_ID)
    (end,) = ends(run_dir)
    assert (end.mlflow_run_id, end.mlflow_url, end.total_cells) == ("m1", "http://x/#m1", 7)
    assert not (run_dir / ".executed.ipynb.x7f").exists()


def test_a_run_of_another_machine_is_judged_only_after_a_long_silence(runner: LocalRunner, run_dir: Path) -> None:
    say(run_dir, NOBODY, host="gpu-7")
    runner.reconcile(RUN_ID)
    age(run_dir / PROCESS_FILE, local_module._SILENCE - 60)
    runner.reconcile(RUN_ID)
    assert ends(run_dir) == []
    age(run_dir / PROCESS_FILE, local_module._SILENCE + 60)
    runner.reconcile(RUN_ID)
    (end,) = ends(run_dir)
    assert "nothing has been heard of it on gpu-7 for 15 minutes" in end.message


def test_a_run_of_another_machine_is_cancelled_by_the_word_alone(runner: LocalRunner, run_dir: Path) -> None:
    say(run_dir, {"pid": os.getpid(), "born": birth_of(os.getpid())}, host="gpu-7")
    runner.cancel(RUN_ID, by="ann")  # a signal would reach a stranger on this machine: this test
    assert json.loads((run_dir / "cancel.json").read_text()) == {"by": "ann"}
    assert ends(run_dir) == []


@pytest.mark.parametrize("content", [None, "", "{", "[]", '"x"', "{}"])
def test_a_run_without_a_usable_process_file_has_a_minute_to_begin(
    runner: LocalRunner, run_dir: Path, content: str | None
) -> None:
    if content is not None:
        (run_dir / PROCESS_FILE).write_text(content)
    if content == "{}":  # a file that names nobody is no promise
        runner.reconcile(RUN_ID)
        assert len(ends(run_dir)) == 1
        return
    runner.reconcile(RUN_ID)
    assert ends(run_dir) == []
    age(run_dir, 61)
    runner.reconcile(RUN_ID)
    (end,) = ends(run_dir)
    assert "never started" in end.message


def test_of_several_that_notice_at_once_one_records(runner: LocalRunner, run_dir: Path) -> None:
    say(run_dir, NOBODY)
    code = (
        "import sys\nfrom jupyter_mlops.config import MLOps\nfrom jupyter_mlops.runner.local import LocalRunner\n"
        "print('ready', flush=True)\nsys.stdin.readline()\nsys.executable = '/bin/true'\n"
        f"LocalRunner(MLOps()).reconcile('{RUN_ID}')"
    )
    python = Path(sys.prefix) / "bin" / "python"
    others = [
        subprocess.Popen([python, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    assert [other.stdout.readline() for other in others] == ["ready\n"] * 3
    threads = [threading.Thread(target=runner.reconcile, args=[RUN_ID]) for _ in range(6)]
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.communicate()
        assert other.returncode == 0
    assert len(ends(run_dir)) == 1


def test_who_is_killed_while_recording_leaves_it_to_the_next(
    runner: LocalRunner, run_dir: Path, start: Callable
) -> None:
    say(run_dir, NOBODY)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom jupyter_mlops.worker import one_at_a_time\n"
        f"with one_at_a_time(Path({str(run_dir)!r})):\n    print('held', flush=True)\n    time.sleep(600)"
    )
    holder = start(str(Path(sys.prefix) / "bin" / "python"), "-c", code, stdout=subprocess.PIPE, cwd=ROOT)
    assert holder.stdout.readline() == b"held\n"
    waiting = threading.Thread(target=runner.reconcile, args=[RUN_ID])
    waiting.start()
    waiting.join(1)
    assert ends(run_dir) == []
    holder.kill()
    waiting.join(60)
    assert len(ends(run_dir)) == 1


def test_a_record_that_is_there_is_not_made_again(runner: LocalRunner, run_dir: Path) -> None:
    writer = EventWriter(run_dir)
    writer.write(RunEvent(state=RunState.SUCCEEDED))
    writer.close()
    say(run_dir, NOBODY)
    runner.reconcile(RUN_ID)
    assert not record_death(run_dir, "x")
    runner.cancel(RUN_ID, by="ann")
    assert [event.state for event in ends(run_dir)] == [RunState.SUCCEEDED]
    assert not (run_dir / "cancel.json").exists()


def test_cancel_tells_the_worker_and_doing_it_twice_changes_nothing(
    runner: LocalRunner, run_dir: Path, start: Callable, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    code = f"trap 'echo told >> {told}' TERM; echo ready; while :; do sleep 0.1; done"
    worker = start("sh", "-c", code, stdout=subprocess.PIPE)
    assert worker.stdout.readline() == b"ready\n"
    write_process_file(run_dir, worker.pid)
    for by in ("ann", "bob"):
        lines = len(told.read_text().splitlines()) if told.exists() else 0
        runner.cancel(RUN_ID, by=by)
        deadline = time.monotonic() + 60
        while not (told.exists() and len(told.read_text().splitlines()) > lines) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert told.read_text() == "told\ntold\n"
    assert ends(run_dir) == []  # the worker makes the record
    worker.kill()
    worker.wait()
    runner.cancel(RUN_ID, by="eve")
    (end,) = ends(run_dir)
    assert end.state is RunState.CANCELLED


def test_a_run_that_is_not_here_is_told(runner: LocalRunner) -> None:
    with pytest.raises(NotFoundError, match="The files of the run bbbb are not here"):
        runner.cancel("bbbb", by="ann")
    with pytest.raises(NotFoundError, match="not here"):
        runner.events("bbbb", follow=True, stop=lambda: False)
    assert list(runner.events("bbbb", follow=False, stop=lambda: True)) == []
    runner.reconcile("bbbb")
    assert not runner.files("bbbb").exists()


def test_following_ends_when_the_run_died_and_when_its_directory_is_removed(
    runner: LocalRunner, run_dir: Path, start: Callable
) -> None:
    worker = start("sleep", "600")
    write_process_file(run_dir, worker.pid)
    seen = runner.events(RUN_ID, follow=True, stop=lambda: False)
    threading.Timer(0.5, worker.kill).start()
    assert [event.code for event in seen if isinstance(event, RunEvent)] == [FailureCode.WORKER_DIED]
    other = runner.files("cccccccccccc")
    other.mkdir()
    seen = runner.events("cccccccccccc", follow=True, stop=lambda: False)
    threading.Timer(0.5, other.rmdir).start()
    assert list(seen) == []


def test_a_worker_that_cannot_be_started_is_told(
    runner: LocalRunner, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(MLOpsError, match=r"could not be started: No such file"):
        runner.submit(spec())


def test_a_worker_that_ends_at_once_is_recorded_without_waiting(
    runner: LocalRunner, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    runner.submit(spec())
    assert [event.code for event in runner.events(RUN_ID, follow=True, stop=lambda: False)] == [FailureCode.WORKER_DIED]


def test_a_run_that_is_submitted_twice_is_started_once(
    runner: LocalRunner, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho started >> {tmp_path / 'starts'}\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    threads = [threading.Thread(target=runner.submit, args=[spec()]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 60
    while not (tmp_path / "starts").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(json.loads((run_dir / PROCESS_FILE).read_text())["pid"], signal.SIGKILL)
    assert (tmp_path / "starts").read_text() == "started\n"


def test_what_the_supervisor_has_written_is_not_written_over(run_dir: Path) -> None:
    write_process_file(run_dir, os.getpid(), os.getppid())
    write_process_file(run_dir, os.getpid(), only_if_missing=True)
    assert json.loads((run_dir / PROCESS_FILE).read_text())["engine"]["pid"] == os.getppid()
    assert [entry.name for entry in run_dir.iterdir()] == [PROCESS_FILE]


def test_what_a_dead_run_left_running_is_ended_and_nothing_else(
    runner: LocalRunner, run_dir: Path, start: Callable
) -> None:
    stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    left = start("sh", "-c", stubborn, env={**os.environ, "JUPYTER_MLOPS_RUN_ID": RUN_ID}, stdout=subprocess.PIPE)
    other = start("sleep", "600", env={**os.environ, "JUPYTER_MLOPS_RUN_ID": "bbbbbbbbbbbb"})
    assert left.stdout.readline() == b"ready\n"
    say(run_dir, NOBODY)
    runner.reconcile(RUN_ID)
    assert birth_of(left.pid) is None
    assert other.poll() is None


def test_who_looks_for_leftovers_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os\nfrom jupyter_mlops.worker import end_processes\n"
        "end_processes(os.environ['JUPYTER_MLOPS_RUN_ID'])\nprint('alive')"
    )
    shell = f'exec 3>&1; {sys.executable} -c "{code}"; echo parent'
    done = subprocess.run(
        ["sh", "-c", shell],
        env={**os.environ, "JUPYTER_MLOPS_RUN_ID": "dddd"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout == "alive\nparent\n"
    end_processes("eeee")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpus": 10_000}, r"asks for 10000 CPU cores, this machine has \d+\."),
        ({"memory": 2**60}, r"asks for 1073741824\.0 GiB of memory, this machine has [\d.]+ GiB\."),
        ({"gpus": 10_000}, r"asks for 10000 GPUs, this machine has \d+\."),
    ],
)
def test_what_this_machine_has_not_is_refused(runner: LocalRunner, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ProfileError, match=words) as caught:
        runner.check(spec(profile=Profile(name="big", **changes)))
    assert "--" in caught.value.hint


@pytest.mark.parametrize("changes", [{}, {"cpus": 0.5}, {"cpus": 1, "memory": 2**20}, {"gpus": 0}, {"workers": 500}])
def test_what_this_machine_has_is_accepted(runner: LocalRunner, changes: dict[str, object]) -> None:
    runner.check(spec(profile=Profile(name="small", **changes)))


def test_a_runner_that_is_not_installed_is_told_with_those_that_are() -> None:
    with pytest.raises(ProfileError, match="There is no runner 'locl'") as caught:
        get_runner("locl", MLOps())
    assert "Did you mean 'local'?" in caught.value.hint
    assert isinstance(get_runner("local", MLOps()), LocalRunner)
