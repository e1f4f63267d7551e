"""What a process tree uses, and what it may use: numbers of this machine."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import psutil

from jupyter_mlops.engine.resources import (
    ResourceMonitor,
    count_oom_kills,
    group_memory_limit,
    memory_of_machine,
    tree_use,
)
from jupyter_mlops.events import ResourceEvent


def test_the_children_of_a_process_count() -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        alone = psutil.Process().memory_info().rss
        memory, cpu = tree_use(os.getpid())
        assert memory > alone // 2
        assert cpu > 0
        assert 0 < tree_use(child.pid)[0] < memory
    finally:
        child.kill()
        child.wait()
    assert tree_use(child.pid) == (0, 0.0)


def test_this_machine_has_memory_and_no_more_than_there_is() -> None:
    assert 0 < memory_of_machine() <= psutil.virtual_memory().total
    limit = group_memory_limit()
    assert limit is None or limit > 0
    assert group_memory_limit(2**22 + 1) is None
    assert count_oom_kills() >= 0


def test_who_is_over_the_limit_is_told_once(tmp_path: Path) -> None:
    events: list[ResourceEvent] = []
    over: list[int] = []
    told = threading.Event()

    def over_limit(used: int) -> None:
        over.append(used)
        told.set()

    monitor = ResourceMonitor(
        os.getpid(), tmp_path, emit=events.append, interval=0.1, memory_limit=1000, over_limit=over_limit, gpus=[]
    )
    (tmp_path / "dask.json").write_text('{"http": "http://192.0.2.1:80"}')  # not on this machine: not asked
    monitor.start()
    assert told.wait(60)
    deadline = time.monotonic() + 60
    while len(events) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    monitor.stop()
    assert len(over) == 1
    assert over[0] > 1000
    assert (events[0].memory_limit, events[0].gpus, events[0].dask) == (1000, (), None)
    assert monitor.last_memory is not None
    assert monitor.last_memory > 1000
