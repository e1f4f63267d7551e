"""One process of the job scheduler: finds what is due, takes it, has it done, writes down how it stands.

Everything that it knows is in the store, so that it may be killed at any moment: what it held is taken by another when
the lease has run out, and done again under the same `run_key`.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from ..audit import Auditor
from ..errors import MLOpsError, StoreError, UsageError
from ..jobs.model import Job, JobState, JobVersion, Slot, SlotState
from ..store.database import Store
from ..store.jobs import JobStore
from ..store.leases import Admission, Crowd, Lease, LeaseStore, SchedulerProcess
from ..store.slots import SlotStore
from ..store.watches import Watch, WatchStore
from .admission import Limits, decide
from .due import due_slots
from .files import find_objects
from .launcher import Launcher, Standing
from .outcome import next_state

_log = logging.getLogger(__name__)
_AGAIN = timedelta(seconds=10)
"""After which something that could not be done now is tried again."""


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Pace:
    """How a process works.

    Attributes:
        workers: Slots that it works on at once.
        lease: Seconds for which a slot is its own; prolonged while it works.
        interval: Seconds between two looks when nothing was to do.
    """

    workers: int = 4
    lease: float = 30.0
    interval: float = 1.0


class JobScheduler:
    """A process of the job scheduler.

    Args:
        store: The store that all processes share.
        launcher: What starts runs.
        auditor: For what the scheduler does by itself.
        limits: What an admin allows.
        pace: How it works.
        clock: Tells the time, in UTC.
    """

    def __init__(
        self,
        store: Store,
        launcher: Launcher,
        *,
        auditor: Auditor,
        limits: Limits | None = None,
        pace: Pace | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._jobs, self._slots = JobStore(store), SlotStore(store)
        self._leases, self._watches = LeaseStore(store), WatchStore(store)
        self._launcher, self._auditor, self._limits = launcher, auditor, limits or Limits()
        self._pace, self._clock = pace or Pace(), clock
        started = clock()
        self._process = SchedulerProcess(
            secrets.token_hex(6), socket.gethostname(), os.getpid(), started, started
        )  # fmt: skip
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; what has been begun is brought to a point where another can go on."""
        self._leases.beat(self._process)
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(done,), name="mlops-lease", daemon=True)
        beating.start()
        with ThreadPoolExecutor(self._pace.workers, thread_name_prefix="mlops-slot") as pool:
            while not stop.is_set():
                try:
                    busy = self.step(lambda work: pool.submit(self._guarded, work))
                except StoreError as error:
                    _log.warning("%s The job scheduler tries again.", error.message)
                    stop.wait(5)
                    continue
                if not busy:
                    stop.wait(self._pace.interval)
        done.set()
        beating.join()
        now = self._clock()
        self._leases.beat(replace(self._process, beat_time=now, end_time=now))

    def step(self, do: Callable[[Callable[[], None]], object] = lambda work: work()) -> bool:
        """Look once at what is due, and have it done.

        Args:
            do: Does one piece of work; by itself, at once.

        Returns:
            Whether there was anything.
        """
        now = self._clock()
        made = sum(self._claim(job, version, now) for job, version in self._slots.due_jobs(now))
        for watch in self._watches.due_watches(now):
            if self._watches.take_watch(watch, self._until(now)):
                do(lambda watch=watch: self._look(watch))  # type: ignore[misc]
        taken = 0
        free = self._pace.workers * 2 - len(self._held)
        for slot_id, token in self._leases.wakeable(now, limit=free) if free > 0 else []:
            lease = self._leases.take(
                slot_id, token, process_id=self._process.process_id, now=now, until=self._until(now)
            )
            if lease is None:
                continue
            taken += 1
            with self._lock:
                self._held[slot_id] = lease.token
            do(lambda lease=lease: self._work(lease))  # type: ignore[misc]
        return bool(made or taken)

    def _claim(self, job: Job, version: JobVersion | None, now: datetime) -> int:
        if version is None:
            why = f"Version {job.live_version} is not what was promoted: it was changed in the database."
            _log.error("The job %s is paused. %s", job.name, why)
            entry = self._auditor.entry("job.pause", f"job {job.name}", reason=why)
            self._jobs.set_state(job.name, JobState.PAUSED, entry=entry, now=now)
            return 0
        assert job.next_time is not None
        planned, following = due_slots(version.schedule, version.policies, next_time=job.next_time, now=now)
        return self._slots.claim(job, version, planned, following, now)

    def _look(self, watch: Watch) -> None:
        now = self._clock()
        wake_time = now + timedelta(seconds=watch.trigger.poll)
        try:
            found = find_objects(
                watch.trigger, now, lambda keys: self._watches.seen(watch, keys),
                since=None if watch.armed else watch.since,
            )  # fmt: skip
        except MLOpsError as error:
            self._watches.finish_watch(watch, {}, now=now, wake_time=wake_time, message=error.message)
            return
        self._watches.finish_watch(watch, found.new, old=found.old, now=now, wake_time=wake_time)

    def _work(self, lease: Lease) -> None:
        try:
            self._advance(lease)
        finally:
            with self._lock:
                self._held.pop(lease.slot.slot_id, None)

    def _advance(self, lease: Lease) -> None:
        if lease.version is None:
            self._end(lease, "Its version is not what was promoted: it was changed in the database.")
            return
        version = lease.version
        if lease.slot.state in (SlotState.WAITING, SlotState.RETRYING):
            now = self._clock()

            def decided(crowd: Crowd) -> Admission:
                return decide(lease.slot, version, crowd, self._limits, now)

            slot = self._leases.admit(lease, decided, now)
            if slot is None or slot.state is not SlotState.STARTING:
                return
            lease = replace(lease, slot=slot)
        try:
            standing = self._standing(lease)
        except StoreError:
            raise  # the lease runs out, and the slot is taken up again
        except UsageError as error:
            standing = Standing(SlotState.FAILED, lease.slot.run_id, f"{error.message} {error.hint}".strip())
        except MLOpsError as error:
            self._put_off(lease, error.message)
            return
        except Exception as error:  # noqa: BLE001 - one slot must not end the scheduler
            _log.exception("The slot %s of the job %s could not be advanced.", lease.slot.slot_id, lease.slot.job)
            self._put_off(lease, f"{type(error).__name__}: {error}")
            return
        now = self._clock()
        told = replace(lease, slot=lease.slot.model_copy(update={"state": self._told(lease.slot)}))
        after = next_state(told.slot, version.policies, standing, now)
        written = self._leases.save(
            lease, now=now, state=after.state, wake_time=after.wake_time, message=after.message,
            run_id=standing.run_id, failures=after.failures,
        )  # fmt: skip
        if written and after.state is not lease.slot.state:
            _log.info(
                "%s of %s is %s: run %s, attempt %d. %s", lease.slot.slot_id, lease.slot.job, after.state.value,
                standing.run_id, lease.slot.attempt, after.message,
            )  # fmt: skip

    def _standing(self, lease: Lease) -> Standing:
        assert lease.version is not None
        if lease.slot.state is SlotState.CANCELLING:
            return self._launcher.cancel(lease.version, lease.slot)
        return self._launcher.advance(lease.version, lease.slot)

    @staticmethod
    def _told(slot: Slot) -> SlotState:
        return SlotState.STOPPING if slot.state is SlotState.CANCELLING else slot.state

    def _put_off(self, lease: Lease, message: str) -> None:
        now = self._clock()
        self._leases.save(lease, now=now, state=lease.slot.state, wake_time=now + _AGAIN, message=message)

    def _end(self, lease: Lease, message: str) -> None:
        self._leases.save(lease, now=self._clock(), state=SlotState.FAILED, wake_time=None, message=message)

    def _until(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._pace.lease)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except MLOpsError as error:
            _log.warning("%s It is tried again when the lease has run out.", error.message)
        except Exception:  # noqa: BLE001 - nor one look
            _log.exception("The job scheduler goes on after an error.")

    def _beat(self, done: threading.Event) -> None:
        while not done.wait(self._pace.lease / 3):
            with self._lock:
                held = list(self._held.items())
            now = self._clock()
            try:
                if held:
                    self._leases.extend(held, self._until(now))
                self._leases.beat(replace(self._process, beat_time=now))
            except StoreError as error:
                _log.warning("%s Leases could not be prolonged.", error.message)
