"""Job schedulers that are killed at random moments: every slot is fired once, none is lost, none is doubled.

`JUPYTER_MLOPS_TEST_KILLS` says how many are killed on each database; 60 unless it is set.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jupyter_mlops.audit import Auditor
from jupyter_mlops.config import MLOps
from jupyter_mlops.jobs.model import (
    CatchUp,
    JobVersion,
    Overlap,
    Policies,
    Schedule,
    Slot,
    SlotKind,
    SlotState,
    Step,
)
from jupyter_mlops.runs import Runs
from jupyter_mlops.schedule import JobTrigger, moments_between
from jupyter_mlops.scheduler.launcher import Standing
from jupyter_mlops.scheduler.loop import JobScheduler, Pace
from jupyter_mlops.snapshot import SnapshotStore
from jupyter_mlops.spec import RunState
from jupyter_mlops.store.database import Store
from jupyter_mlops.store.leases import LeaseStore
from jupyter_mlops.store.slots import SlotStore
from tests.unit.store.cases import ROOT
from tests.unit.store.job_cases import promoted

from .postgresql import PostgreSQL, postgresql
from .scheduler_nursery import LEASE

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("JUPYTER_MLOPS_TEST_KILLS", "60"))
SEED = int(os.environ.get("JUPYTER_MLOPS_TEST_SEED", "0")) or random.randrange(2**32)
ANYHOW = Policies(overlap=Overlap.ALLOW, catch_up=CatchUp.ALL)
PATIENCE = 300.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("server").new_database()
    return f"sqlite:///{tmp_path / 'store.db'}"


class Nursery:
    """Schedulers that come quickly, and go quicker."""

    def __init__(self, url: str, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.scheduler_nursery", url, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(directory / "stderr").open("wb"), text=True, cwd=ROOT,
        )  # fmt: skip
        self.alive: set[int] = set()
        self.killed: set[int] = set()
        self._frozen: dict[int, threading.Timer] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.alive.add(int(self._process.stdout.readline()))

    def disturb(self, chance: random.Random) -> None:
        """Kill one and start another; or freeze one for so long that it comes back when its leases are another's."""
        pid = chance.choice(sorted(self.alive))
        if chance.random() < 0.1 and pid not in self._frozen:
            os.kill(pid, signal.SIGSTOP)
            # In a thread: it may hold a lock that this test is about to wait for.
            self._frozen[pid] = threading.Timer(LEASE * 2, self._thaw, [pid])
            self._frozen[pid].start()
            return
        self._kill(pid)
        self.killed.add(pid)
        self.start()

    def close(self) -> None:
        for pid in list(self.alive):
            self._kill(pid)
        self._process.kill()
        self._process.communicate()

    def _kill(self, pid: int) -> None:
        with self._lock:
            os.kill(pid, signal.SIGKILL)
            self.alive.remove(pid)

    def _thaw(self, pid: int) -> None:
        with self._lock:
            if pid in self.alive:
                os.kill(pid, signal.SIGCONT)
            del self._frozen[pid]


def test_every_slot_is_fired_once_whatever_is_killed(url: str, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    runs = tmp_path / "runs"
    runs.mkdir()
    store = Store(url)
    slots = SlotStore(store)
    schedules = {f"every-{number}": Schedule(every=number) for number in range(1, 5)}
    live: dict[str, datetime] = {}
    for job, schedule in schedules.items():
        live[job] = datetime.now(timezone.utc)
        promoted(store, job, now=live[job], schedule=schedule, policies=ANYHOW)
    promoted(store, "after", schedule=Schedule(triggers=(JobTrigger(job="every-2"),)), policies=ANYHOW)
    by_hand = 0
    nursery = Nursery(url, runs)
    try:
        for _ in range(3):
            nursery.start()
        while len(nursery.killed) < KILLS:
            _something_is_begun(runs / "calls")
            time.sleep(chance.uniform(0, 0.5))
            nursery.disturb(chance)
            if chance.random() < 0.3:
                by_hand += 1
                slots.add_slot("after", SlotKind.MANUAL, f"{by_hand}", now=datetime.now(timezone.utc))
        last = {job: _stop_schedule(store, job) for job in schedules}
        _until(lambda: not slots.counts(), f"seed {SEED}: {slots.counts()} {_errors(runs)}")
    finally:
        nursery.close()
    told = f"seed {SEED} {_errors(runs)}"
    found = _all(slots)
    assert {slot.state for slot in found} == {SlotState.SUCCEEDED}, told
    assert {slot.attempt for slot in found} == {1}, told
    by_job: dict[str, list[Slot]] = defaultdict(list)
    for slot in found:
        by_job[slot.job].append(slot)
    for job, schedule in schedules.items():
        expected = [moment for moment in moments_between(schedule, live[job], last[job]) if moment > live[job]]
        assert sorted(slot.slot_time for slot in by_job[job]) == expected, told
    assert len(by_job["after"]) == by_hand + len(by_job["every-2"]), told
    assert Counter((runs / "runs").read_text().split()) == Counter(slot.run_key for slot in found), told
    # Else nothing was met half done, and the test has shown little.
    calls = Counter((runs / "calls").read_text().split())
    assert KILLS < 50 or max(calls.values()) > 1
    store.close()


def _something_is_begun(calls: Path) -> None:
    """Wait until a run was started since the last time: who kills faster than anything begins shows nothing."""
    before = calls.stat().st_size if calls.exists() else 0
    _until(lambda: calls.exists() and calls.stat().st_size > before, "no run is started", pause=0.05)


def _stop_schedule(store: Store, job: str) -> datetime:
    """Let a version without a schedule live; gives the last moment that belonged to the one before."""
    _until(lambda: bool(SlotStore(store).slots(job=job, limit=1)), f"{job} has no slot")
    promoted(store, job, now=datetime.now(timezone.utc), schedule=Schedule(), policies=ANYHOW)
    return SlotStore(store).slots(job=job, limit=1)[0].slot_time


def _all(slots: SlotStore) -> list[Slot]:
    found = slots.slots(limit=1000)
    while page := slots.slots(limit=1000, before=found[-1]):
        found += page
    return found


def _until(done: Callable[[], bool], what: str, *, pause: float = 0.5) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(pause)


def _errors(directory: Path) -> str:
    return (directory / "stderr").read_text(errors="replace")[-3000:]


def test_a_start_that_takes_longer_than_the_lease_is_not_taken_over(url: str) -> None:
    calls = []

    class SlowRuns:
        def advance(self, version: JobVersion, slot: Slot) -> Standing:
            calls.append(slot.run_key)
            time.sleep(25)
            return Standing(SlotState.SUCCEEDED, "r")

        def cancel(self, version: JobVersion, slot: Slot) -> Standing:
            raise AssertionError("nobody cancels here")

    store = Store(url)
    promoted(store, schedule=Schedule())
    SlotStore(store).add_slot("churn", SlotKind.MANUAL, "k", now=datetime.now(timezone.utc))
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=JobScheduler(
                store, SlowRuns(), auditor=Auditor(MLOps(), "scheduler"), pace=Pace(lease=9, interval=0.2)
            ).run,
            args=(stop,),
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    _until(lambda: not SlotStore(store).counts(), "the slot has not ended")
    stop.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert [process.end_time is not None for process in LeaseStore(store).processes()] == [True, True]
    store.close()


def test_real_runs_of_killed_schedulers_are_adopted(
    url: str, runs: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_MLOPS_STORE_URL", url)
    chance = random.Random(SEED)
    core, witness = Runs(), tmp_path / "witness"
    prepared = core.prepare(make_notebook(
        ("slot = ''", "parameters"),
        f"import os, time\nwith open({str(witness)!r}, 'a') as out:\n    out.write(slot + '\\n')\ntime.sleep(1)",
    ))  # fmt: skip
    SnapshotStore(core.config.data_path).save(prepared.snapshot)
    made = prepared.spec
    step = Step(
        name="train", snapshot_id=made.snapshot_id, notebook=made.notebook, source=made.source, profile=made.profile,
        experiment=made.experiment, parameters={"slot": "${slot.payload.number}"},
    )  # fmt: skip
    promoted(core.store, steps=(step,), schedule=Schedule(), policies=ANYHOW)
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "jupyter_mlops_config.py").write_text(
        "c.MLOps.scheduler_lease = 3\nc.MLOps.scheduler_workers = 2\n"
    )
    slots = SlotStore(core.store)
    for number in range(4):
        slots.add_slot(
            "churn", SlotKind.MANUAL, str(number), now=datetime.now(timezone.utc), payload={"number": str(number)}
        )
    log = (tmp_path / "log").open("wb")

    def scheduler() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "jupyter_mlops.cli", "scheduler", "run"]
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)

    processes = [scheduler(), scheduler()]
    try:
        for _ in range(6):
            time.sleep(chance.uniform(3, 8))
            victim = processes.pop(0)
            victim.kill()
            victim.wait()
            processes.append(scheduler())
        _until(lambda: not slots.counts(), f"seed {SEED}: {slots.slots()} {(tmp_path / 'log').read_text()[-3000:]}")
        processes[0].send_signal(signal.SIGTERM)
        assert processes[0].wait(120) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found = slots.slots()
    assert [slot.state for slot in found] == [SlotState.SUCCEEDED] * 4, [slot.message for slot in found]
    assert sorted(witness.read_text().split()) == ["0", "1", "2", "3"]
    records = core.find(limit=100)
    assert Counter(record.state for record in records)[RunState.SUCCEEDED] == 4
    assert {record.run_id for record in records if record.state is RunState.SUCCEEDED} == {s.run_id for s in found}
    log.close()
