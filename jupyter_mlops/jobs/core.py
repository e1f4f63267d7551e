"""What can be done with jobs once they are there. The command line, the magics and REST call these functions.

`promotion` makes versions; the job scheduler starts them. Every change has its entry in the audit log.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreError, UsageError
from ..identity import current_user
from ..runs import Runs
from ..schedule import next_moments
from .firing import live_version
from .model import Approval, Job, JobState, JobVersion, Slot, VersionRecord
from .promotion import Promotions, Verdict
from .proposal import masked

if TYPE_CHECKING:
    from ..store.jobs import JobStore
    from ..store.slots import SlotStore
    from .differences import Change

_LOOKED_AT = 200
_NEXT = 3
_SLOTS = 5


@dataclass(frozen=True)
class JobLine:
    """A job in a list.

    Attributes:
        job: The job.
        live: Its live version, or None.
        proposed: The numbers of versions that wait for their gates.
        last: Its newest slot, or None.
    """

    job: Job
    live: JobVersion | None
    proposed: tuple[int, ...]
    last: Slot | None


@dataclass(frozen=True)
class JobView:
    """Everything about one version of a job.

    Attributes:
        verdict: The version, its gates and what they wait for.
        approvals: What people said.
        moments: Its next scheduled moments, if it is live and the job is active.
        slots: The job's newest slots.
        proposed: The numbers of versions that wait for their gates.
    """

    verdict: Verdict
    approvals: tuple[Approval, ...]
    moments: tuple[datetime, ...]
    slots: tuple[Slot, ...]
    proposed: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """How two versions differ.

    Attributes:
        fields: Fields of the version.
        files: Files beside the notebook.
        packages: Packages of the environment.
        notebook: The notebook's cells, as text; empty: they are the same.
    """

    fields: list[Change]
    files: list[Change]
    packages: list[Change]
    notebook: str


class Jobs:
    """The jobs of one configuration.

    Args:
        runs: The core of runs; its `front` is what the audit log says.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.promotions = Promotions(runs)

    @property
    def _jobs(self) -> JobStore:
        from ..store.jobs import JobStore

        return JobStore(self._runs.store)

    @property
    def _slots(self) -> SlotStore:
        from ..store.slots import SlotStore

        return SlotStore(self._runs.store)

    # -- looking ---------------------------------------------------------------------------------------------------

    def find(
        self, *, states: Sequence[JobState] = (JobState.ACTIVE, JobState.PAUSED), owner: str | None = None,
        limit: int = 50, after: str = "",
    ) -> list[JobLine]:  # fmt: skip
        """Jobs by name, with what one wants to know of each at a glance; see `JobStore.jobs`."""
        found = []
        page = self._jobs.jobs(states=states, owner=owner, limit=limit, after=after)
        proposed = self._jobs.proposed([job.name for job in page])
        for job in page:
            live = None
            if job.live_version is not None:
                with suppress(StoreError):  # one that somebody changed in the database is no reason to hide the others
                    live = self._jobs.version(job.name, job.live_version).version
            last = next(iter(self._slots.slots(job=job.name, limit=1)), None)
            found.append(JobLine(job, live, proposed.get(job.name, ()), last))
        return found

    def show(self, job: str, number: int | None = None) -> JobView:
        """A version of a job.

        Args:
            job: The job.
            number: The version; None: the live one, else the newest.

        Raises:
            NotFoundError: no such job or version.
        """
        known = self._jobs.job(job)
        number = number or known.live_version or self.newest(job)
        verdict = self.promotions.look(job, number)
        moments: list[datetime] = []
        if known.next_time is not None and number == known.live_version:
            just_before = known.next_time - timedelta(microseconds=1)
            moments = next_moments(verdict.record.version.schedule, just_before, _NEXT)
        return JobView(
            verdict, tuple(self._jobs.approvals(job, number)), tuple(moments),
            tuple(self._slots.slots(job=job, limit=_SLOTS)), self._jobs.proposed([job]).get(job, ()),
        )  # fmt: skip

    def live(self, job: str) -> JobVersion:
        """The live version of a job.

        Raises:
            NotFoundError: no such job.
            UsageError: no version of it is live.
        """
        return live_version(self._jobs, job)

    def newest(self, job: str) -> int:
        """The number of the newest version of a job.

        Raises:
            NotFoundError: no such job.
        """
        return self._jobs.versions(job, limit=1)[0].version.number

    def history(self, job: str, *, limit: int = 20) -> list[tuple[Verdict, tuple[Approval, ...]]]:
        """The versions of a job, newest first, with their gates and approvals.

        Raises:
            NotFoundError: no such job.
        """
        numbers = [record.version.number for record in self._jobs.versions(job, limit=limit)]
        return [(self.promotions.look(job, number), tuple(self._jobs.approvals(job, number))) for number in numbers]

    def diff(self, job: str, first: int, second: int) -> Difference:
        """How two versions of a job differ.

        Raises:
            NotFoundError: no such job or version, or a snapshot is gone.
        """
        from ..snapshot import SnapshotStore
        from .differences import file_changes, package_changes, version_changes

        one, other = (self._jobs.version(job, number).version for number in (first, second))
        store = SnapshotStore(self._runs.config.data_path)
        steps = {step.name: step for step in other.steps}
        pairs = [(step, steps[step.name]) for step in one.steps if step.name in steps]
        files: list[Change] = []
        packages: dict[Change, None] = {}
        texts = []
        for before, after in pairs:
            if before.snapshot_id == after.snapshot_id:
                continue
            snapshots = store.load(before.snapshot_id), store.load(after.snapshot_id)
            files += file_changes(*snapshots)
            packages |= dict.fromkeys(package_changes(*snapshots))
            texts.append(_notebook_diff(store.notebook(before.snapshot_id), store.notebook(after.snapshot_id)))
        return Difference(version_changes(one, other), files, list(packages), "\n".join(filter(None, texts)))

    def scheduler_runs(self) -> bool:
        """Whether a job scheduler has been heard of lately: without one nothing is started."""
        from ..store.leases import LeaseStore

        now, silent = datetime.now(timezone.utc), 2 * self._runs.config.scheduler_lease
        return any(
            process.end_time is None and (now - process.beat_time).total_seconds() <= silent
            for process in LeaseStore(self._runs.store).processes()
        )

    # -- changing --------------------------------------------------------------------------------------------------

    def pause(self, job: str, *, reason: str = "") -> Job:
        """Start nothing more of a job; what runs goes on, and what is missed is not made up for.

        Raises:
            NotFoundError: no such job.
            UsageError: it is deleted.
        """
        return self._set_state(job, JobState.PAUSED, "job.pause", reason)

    def resume(self, job: str, *, reason: str = "") -> Job:
        """Let a paused job run again.

        Raises:
            NotFoundError: no such job.
            UsageError: it is deleted.
        """
        return self._set_state(job, JobState.ACTIVE, "job.resume", reason)

    def delete(self, job: str, *, reason: str = "") -> Job:
        """Take a job out of service; its versions, slots and log stay, and a rollback brings it back.

        Raises:
            NotFoundError: no such job.
            UsageError: it is deleted already.
        """
        return self._set_state(job, JobState.DELETED, "job.delete", reason)

    def _set_state(self, job: str, state: JobState, action: str, reason: str) -> Job:
        if self._jobs.job(job).state is JobState.DELETED:
            raise UsageError(
                f"The job {job} is deleted.",
                hint=f"To have it back: jupyter mlops jobs rollback {job} --to VERSION",
                code="job",
            )
        entry = self._runs.audit.entry(action, f"job {job}", reason=masked(self._runs, reason))
        return self._jobs.set_state(job, state, entry=entry)

    def rollback(self, job: str, to: int | None = None, *, reason: str = "") -> Verdict:
        """Let an earlier version live again, as a version of its own; its gates are not judged again.

        Args:
            job: The job; a deleted one is there again.
            to: The version; None: the one that was live before the one that is.
            reason: Why.

        Raises:
            NotFoundError: no such job or version, or its snapshot is gone.
            UsageError: it never was live, or is live now.
        """
        from ..snapshot import SnapshotStore

        earlier = self._earlier(job, to).version
        for step in earlier.steps:
            SnapshotStore(self._runs.config.data_path).load(step.snapshot_id)
        copy = earlier.model_copy(update={
            "number": 0, "author": current_user(), "reason": masked(self._runs, reason), "copy_of": earlier.number,
            "create_time": datetime.now(timezone.utc),
        })  # fmt: skip
        entry = self._runs.audit.entry("job.propose", f"job {job}", copy_of=earlier.number, reason=copy.reason)
        record = self._jobs.add_version(copy, entry=entry)
        return self.promotions.judge(job, record.version.number)

    def _earlier(self, job: str, to: int | None) -> VersionRecord:
        live = self._jobs.job(job).live_version
        if to is None:
            known = self._jobs.versions(job, limit=_LOOKED_AT)
            found = before(known, live)
            if found is None:
                raise UsageError(
                    f"The job {job} has no earlier version that was live.",
                    hint=f"jupyter mlops jobs history {job}",
                    code="job",
                )
            return found
        record = self._jobs.version(job, to)
        if to == live:
            raise UsageError(f"Version {to} of the job {job} is live now.", code="job")
        if record.live_time is None:
            raise UsageError(
                f"Version {to} of the job {job} never was live: it is {record.state.value}.",
                hint="Promote the notebook again.",
                code="job",
            )
        return record

    def export(self, job: str, number: int | None, directory: Path) -> list[Path]:
        """Write a version and its snapshots, enough to have the job elsewhere.

        Args:
            job: The job.
            number: The version; None: the live one.
            directory: Where to; made if it is not there.

        Returns:
            The files: `job.json` and a zip for each snapshot.

        Raises:
            NotFoundError: no such job or version, or a snapshot is gone.
            UsageError: no version is live, or the directory cannot be written.
        """
        from ..snapshot import SnapshotStore

        version = self._jobs.version(job, number).version if number is not None else self.live(job)
        store = SnapshotStore(self._runs.config.data_path)
        names = dict.fromkeys(step.snapshot_id for step in version.steps)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            written = [store.write_zip(name, directory / f"snapshot-{name[:12]}.zip") for name in names]
            path = directory / "job.json"
            path.write_text(version.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{directory} cannot be written: {error.strerror or error}.") from error
        return [path, *written]


def before(known: Sequence[VersionRecord], live: int | None) -> VersionRecord | None:
    """The version that was live before the live one, or before what the live one is a copy of; None: there is none.

    So one rollback after the other goes on into the past, and not to and fro. Pure.

    Args:
        known: Versions of a job.
        live: The number of the live one; None: none is.
    """
    by_number = {record.version.number: record for record in known}
    origin = by_number.get(live) if live is not None else None
    while origin is not None and origin.version.copy_of is not None and origin.version.copy_of in by_number:
        origin = by_number[origin.version.copy_of]
    lived = [
        (record.live_time, record) for record in known
        if record.live_time is not None
        and (origin is None or origin.live_time is None or record.live_time < origin.live_time)
    ]  # fmt: skip
    return max(lived, key=lambda one: one[0])[1] if lived else None


def _notebook_diff(one: bytes, other: bytes) -> str:
    import tempfile

    from ..notebook_diff import diff_notebooks

    if one == other:
        return ""
    with tempfile.TemporaryDirectory() as directory:
        paths = Path(directory) / "before.ipynb", Path(directory) / "after.ipynb"
        for path, data in zip(paths, (one, other), strict=True):
            path.write_bytes(data)
        text = diff_notebooks(*paths, outputs=False, color=False)
    # Its first two lines are the names of these files.
    return "\n".join(text.splitlines()[2:])
