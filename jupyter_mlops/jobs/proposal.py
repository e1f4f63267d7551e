"""A notebook as a version of a job that was checked and not yet created: bad input is refused here, all of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotFoundError, UsageError, nearest
from ..identity import current_user
from ..redact import Redactor
from ..runs import Runs, running_inside
from ..schedule import describe_schedule
from ..schedule.model import JOB_NAME_PATTERN
from .gate import DataChecksGate, GateSpec, GitGate
from .judge import wanted
from .model import JobVersion, Policies, RegisteredModel, Schedule, Step, checked
from .policy import demand
from .require import in_order

if TYPE_CHECKING:
    from ..profile import Profile
    from ..runs import PreparedRun
    from ..snapshot import Snapshot
    from ..store.jobs import JobStore

STEP = "main"
"""The name of the only step of a job that is one notebook."""


@dataclass(frozen=True)
class Proposal:
    """A version that was checked and not yet created.

    Attributes:
        version: What is going to be proposed.
        snapshot: What ships.
        notices: Sentences that the person should read first.
        uncommitted: Files that ship and are in no commit; None: nobody asked, or git does not tell.
    """

    version: JobVersion
    snapshot: Snapshot
    notices: tuple[str, ...] = ()
    uncommitted: tuple[str, ...] | None = None


def prepare_proposal(
    runs: Runs, notebook: Path, *, job: str, schedule: Schedule | None = None, policies: Policies | None = None,
    gates: Sequence[GateSpec] = (), owner: str | None = None, reason: str = "", force: bool = False,
    profile: Profile | None = None, model: RegisteredModel | None = None, **run_options: Any,
) -> Proposal:  # fmt: skip
    """Check everything that can be checked, and create nothing.

    Args:
        runs: The core of runs.
        notebook: The notebook's file.
        job: The job's name; a job of that name gets another version.
        schedule: When; default: by hand only.
        policies: How slots are treated.
        gates: What must pass before it goes live, beside what the policy asks for.
        owner: Who answers for the job; default: who did, else the author.
        reason: Why, in the author's words.
        force: Whether `judge` is going to be told to let it live all the same.
        profile: The resources; default: the configuration's default profile.
        model: Where the model goes that its runs log.
        **run_options: What else `Runs.prepare` takes.

    Raises:
        UsageError: the notebook, a parameter, the name, the schedule or a gate.
    """
    from ..store.jobs import JobStore

    refuse_inside()
    _check_name(job)
    prepared = runs.prepare(notebook, profile=profile, name=job, **run_options)
    schedule = schedule or Schedule()
    _check_triggers(JobStore(runs.store), job, schedule)
    asked = demand(runs.config.promotion_policy, job, [prepared.spec.profile.name])
    if force:
        check_force(job, asked.may_force, reason)
    all_gates = in_order((*gates, *asked.gates))
    _check_tags(notebook, all_gates)
    version = checked(JobVersion, {
        "job": job, "steps": (_step(prepared),), "schedule": schedule, "policies": policies or Policies(),
        "gates": all_gates, "owner": owner or _owner(JobStore(runs.store), job), "author": current_user(),
        "reason": masked(runs, reason), "model": model,
    }, what="job")  # fmt: skip
    uncommitted = None
    if any(isinstance(gate, GitGate) and gate.clean for gate in all_gates):
        from ..snapshot.committed import uncommitted as look

        uncommitted = look(prepared.snapshot, notebook.expanduser())
    notices = (*prepared.notices, *_given_up(JobStore(runs.store), version))
    return Proposal(version, prepared.snapshot, notices, uncommitted)


def refuse_inside() -> None:
    """Refuse what a run must not do to itself.

    Raises:
        UsageError: this process belongs to a run.
    """
    inside = running_inside()
    if inside is not None:
        raise UsageError(
            f"This process belongs to the run {inside}, and a run does not promote.",
            hint="Promote from outside: a terminal, or a notebook that is not being run.",
            code="inside_run",
        )


def check_force(job: str, may_force: bool, reason: str) -> None:
    """Refuse to force where the policy does not allow it, or without a reason.

    Raises:
        UsageError: so it is.
    """
    if not may_force:
        raise UsageError(
            f"The policy does not allow to force a promotion of the job {job}.",
            hint="c.MLOps.promotion_policy says where it is allowed (allow_force).",
            code="not_allowed",
        )
    if not reason.strip():
        hint = "Add --reason: the audit log keeps it."
        raise UsageError("A forced promotion needs a reason.", hint=hint, code="gate")


def masked(runs: Runs, text: str) -> str:
    """What a person wrote, without secrets: it is recorded for all to read."""
    return Redactor.from_environment(runs.config.secret_pattern).text(text)


def _given_up(jobs: JobStore, version: JobVersion) -> list[str]:
    """What the live version has and this one has not: a version is made from what was asked for, and nothing else."""
    try:
        number = jobs.job(version.job).live_version
    except NotFoundError:
        return []
    if number is None:
        return []
    live = jobs.version(version.job, number).version
    found = []
    if live.schedule != version.schedule:
        now = describe_schedule(version.schedule)
        found.append(f"Version {number}, which is live, runs {describe_schedule(live.schedule)}; this one runs {now}.")
    gone = [wanted(gate) for gate in live.gates if gate not in version.gates]
    if gone:
        found.append(f"Version {number}, which is live, had gates that this one has not: {'; '.join(gone)}.")
    return found


def _owner(jobs: JobStore, job: str) -> str:
    try:
        return jobs.job(job).owner
    except NotFoundError:
        return current_user()


def _check_triggers(jobs: JobStore, job: str, schedule: Schedule) -> None:
    """Refuse to wait for a job that there is not, or that waits for this one."""
    asked = [trigger.job for trigger in schedule.triggers if trigger.kind == "job"]
    seen: set[str] = set()
    while asked:
        other = asked.pop()
        if other == job:
            raise UsageError(f"The job {job} would start itself, for ever.", code="job")
        if other in seen:
            continue
        seen.add(other)
        try:
            live = jobs.job(other).live_version
        except NotFoundError:
            names = [known.name for known in jobs.jobs(limit=200)]
            raise UsageError(
                f"There is no job {other!r} to start after.", hint=nearest(other, names, noun="job"), code="job"
            ) from None
        if live is not None:
            triggers = jobs.version(other, live).version.schedule.triggers
            asked += [trigger.job for trigger in triggers if trigger.kind == "job"]


def _check_name(job: str) -> None:
    if not re.fullmatch(JOB_NAME_PATTERN.removeprefix("^").removesuffix("$"), job):
        raise UsageError(
            f"{job!r} is no name of a job.",
            hint="Lower-case letters, digits and '-', a letter or digit at both ends, at most 52 characters.",
            code="job",
        )


def _check_tags(notebook: Path, gates: Sequence[GateSpec]) -> None:
    from ..notebook.document import read_notebook

    tags = [gate.tag for gate in gates if isinstance(gate, DataChecksGate)]
    if not tags:
        return
    nb = read_notebook(notebook.expanduser())
    known = {tag for cell in nb.cells if cell.cell_type == "code" for tag in cell.metadata.tags}
    for tag in tags:
        if tag not in known:
            raise UsageError(
                f"No code cell of {notebook.name} is tagged {tag!r}, and a gate asks for its data checks.",
                hint=nearest(tag, known, noun="tag"),
                code="gate",
            )


def _step(prepared: PreparedRun) -> Step:
    spec = prepared.spec
    return Step(
        name=STEP, snapshot_id=spec.snapshot_id, notebook=spec.notebook, source=spec.source, profile=spec.profile,
        experiment=spec.experiment, parameters=spec.parameters, kernel_name=spec.kernel_name, autolog=spec.autolog,
        seed=spec.seed, run_timeout=spec.run_timeout, cell_timeout=spec.cell_timeout,
    )  # fmt: skip
