"""Stopping a kernel: whose reason counts, what is interrupted, what is ended with its children."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import psutil
import pytest

from jupyter_mlops.engine.outcome import Outcome
from jupyter_mlops.engine.stop import Stopper, end_tree, kernel_process
from jupyter_mlops.spec import FailureCode, RunState

CANCELLED = Outcome(RunState.CANCELLED, FailureCode.CANCELLED, "cancelled")
TOO_LONG = Outcome(RunState.FAILED, FailureCode.RUN_TIMEOUT, "too long")
PATIENT = "echo ready; while :; do sleep 0.1; done"
STUBBORN = "trap '' INT TERM; " + PATIENT


@pytest.fixture
def start() -> Iterator[Callable[[str], psutil.Process]]:
    started: list[subprocess.Popen[str]] = []

    def begin(script: str) -> psutil.Process:
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return psutil.Process(process.pid)

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_first_reason_counts(start: Callable[[str], psutil.Process]) -> None:
    stopper = Stopper(60)
    kernel = start(PATIENT)
    stopper.watch_kernel(kernel)
    stopper.request(CANCELLED)
    stopper.request(TOO_LONG, at_once=True)
    assert stopper.reason is CANCELLED
    until(lambda: ended(kernel))  # by the interrupt
    stopper.kernel_done()


def test_a_wish_that_comes_before_the_kernel_reaches_it(start: Callable[[str], psutil.Process]) -> None:
    stopper = Stopper(0.2)
    stopper.request(CANCELLED)
    stopper.watch_kernel(None)
    kernel = start(STUBBORN)
    stopper.watch_kernel(kernel)
    until(lambda: ended(kernel))


def test_a_kernel_that_is_done_is_not_ended_again(start: Callable[[str], psutil.Process]) -> None:
    stopper = Stopper(0.2)
    other = start(PATIENT)
    before = threading.active_count()
    stopper.watch_kernel(other)
    stopper.kernel_done()
    stopper.request(CANCELLED)
    until(lambda: threading.active_count() <= before)
    assert not ended(other)


def test_want_of_memory_does_not_wait_for_the_cell(start: Callable[[str], psutil.Process]) -> None:
    stopper = Stopper(3600)
    kernel = start(STUBBORN)
    stopper.watch_kernel(kernel)
    stopper.request(TOO_LONG, at_once=True)
    until(lambda: ended(kernel))


def test_a_process_is_ended_with_its_children_and_theirs(start: Callable[[str], psutil.Process]) -> None:
    root = start("sh -c \"trap '' TERM; sleep 600 & sleep 600; sleep 600\" & sleep 0.3; " + PATIENT)
    family = [root, *root.children(recursive=True)]
    assert len(family) >= 4
    end_tree(root, patience=0.3)
    until(lambda: all(ended(process) for process in family))
    end_tree(root)  # gone already


def test_a_kernel_without_a_process_here_is_none() -> None:
    for provisioner in (None, SimpleNamespace(), SimpleNamespace(pid=None), SimpleNamespace(pid=2**22 + 1)):
        assert kernel_process(SimpleNamespace(provisioner=provisioner)) is None
    assert kernel_process(None) is None
