"""Promotion: a notebook becomes a proposed version, its gates are judged, and it goes live, waits or is refused.

Every step is written down before the next, so that whoever was killed in between, or another, goes on with `judge`.
Stands on `runs` and the store; `judge` decides, `findings` looks, this does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotFoundError, UsageError
from ..identity import current_user
from ..runs import Runs
from ..spec import RunState
from . import findings
from .clean import clean_key, clean_spec, usable_run
from .gate import Approval, ApprovalGate, ChampionGate, DataChecksGate, GateResult, GateSpec
from .judge import Findings, StepSource, Waiting, judge, may_approve, wanted
from .model import (
    Job,
    JobVersion,
    VersionRecord,
    VersionState,
)
from .models import CHALLENGER, CHAMPION, register
from .policy import demanded_of
from .proposal import STEP, Proposal, check_force, masked, prepare_proposal, refuse_inside
from .require import in_order

if TYPE_CHECKING:
    from ..store.jobs import JobStore
    from ..store.models import RunRecord

_LOOKED_AT = 50


@dataclass(frozen=True)
class Verdict:
    """How a version stands after its gates were judged.

    Attributes:
        job: The job.
        record: The version.
        results: The last result of each gate that has one, in the order in which gates are judged.
        waiting: Gates that cannot be judged yet, and what is missing.
        why: Why it was refused, if not by a gate.
    """

    job: Job
    record: VersionRecord
    results: tuple[GateResult, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    why: str = ""

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The gates that did not let it pass."""
        return tuple(result for result in self.results if not result.passed and not result.forced)

    def as_dict(self) -> dict[str, Any]:
        """The verdict as `--json` prints it."""
        return {
            "job": self.job.name, "version": self.record.version.number, "state": self.record.state.value,
            "gates": [result.as_dict() for result in self.results],
            "waiting": [{"gate": one.gate.model_dump(mode="json"), "missing": one.missing,
                         "wanted": wanted(one.gate)} for one in self.waiting],
            "why": self.why,
        }  # fmt: skip


class Promotions:
    """Promotes, approves and rolls back.

    Args:
        runs: The core of runs; its `front` is what the audit log says.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    @property
    def _jobs(self) -> JobStore:
        from ..store.jobs import JobStore

        return JobStore(self.runs.store)

    def prepare(self, notebook: Path, *, job: str, **options: Any) -> Proposal:
        """Check everything that can be checked, and create nothing: see `prepare_proposal`.

        Raises:
            UsageError: the notebook, a parameter, the name, the schedule or a gate.
        """
        return prepare_proposal(self.runs, notebook, job=job, **options)

    def usable_run(self, name: str, version: JobVersion) -> RunRecord:
        """A run that ended, as the clean run of a version: see `clean.usable_run`.

        Raises:
            UsageError: it is another notebook, or did not succeed.
        """
        return usable_run(self.runs, name, version)

    def propose(self, proposal: Proposal, *, force: bool = False) -> Verdict:
        """Record the version, and judge what needs no run.

        A version of the same content that its author proposed before, and that still waits, is gone on with.

        Raises:
            MLOpsError: it could not be recorded.
        """
        from ..snapshot import SnapshotStore

        SnapshotStore(self.runs.config.data_path).save(proposal.snapshot)
        version = proposal.version
        record = self._waiting_twin(version)
        if record is None:
            entry = self.runs.audit.entry(
                "job.propose", f"job {version.job}", snapshots=[step.snapshot_id for step in version.steps],
                schedule=version.schedule.model_dump(mode="json"), gates=[wanted(gate) for gate in version.gates],
                profiles=[step.profile.name for step in version.steps], reason=version.reason,
            )  # fmt: skip
            record = self._jobs.add_version(version, entry=entry)
        return self.judge(
            version.job, record.version.number, force=force, reason=version.reason,
            uncommitted={STEP: proposal.uncommitted},
        )  # fmt: skip

    def clean_run(self, job: str, number: int) -> RunRecord:
        """The run that a proposed version is judged on; it is started if it was not.

        Raises:
            MLOpsError: it could not be created.
        """
        refuse_inside()
        record = self._jobs.version(job, number)
        found = self._run_of(record)
        if found is not None:
            return found
        return self.runs.submit_spec(clean_spec(self.runs, record.version, self._jobs.job(job).job_id))

    def judge(
        self, job: str, number: int, *, run: RunRecord | None = None, force: bool = False, reason: str = "",
        uncommitted: Mapping[str, tuple[str, ...] | None] | None = None,
    ) -> Verdict:  # fmt: skip
        """Judge the gates of a version that have not passed, and let it live if all have.

        Args:
            job: The job.
            number: The version; one that is not proposed any more is only told.
            run: A run to judge it on instead of the version's own clean run.
            force: Let it live whatever the gates say, as far as they can be judged.
            reason: Why it is forced.
            uncommitted: By step, what was found when it was prepared.

        Raises:
            NotFoundError: no such job or version.
            UsageError: it is forced and the policy does not allow that.
            MLOpsError: what it is judged on cannot be read now.
        """
        record, earlier = self._jobs.version(job, number), self._jobs.gate_results(job, number)
        if record.state is not VersionState.PROPOSED:
            return Verdict(self._jobs.job(job), record, _latest(earlier))
        version = record.version
        if version.copy_of is not None:
            if version.model is not None:
                register(self.runs, version, findings.production_run(self.runs, job, version.copy_of), CHAMPION)
            return self._go_live(record, "job.rollback", copy_of=version.copy_of)
        asked = demanded_of(self.runs.config.promotion_policy, version)
        if force:
            check_force(job, asked.may_force, reason)
        live = self._jobs.job(job).live_version
        if live is not None and live > number:
            why = f"Version {live} went live after version {number} was proposed."
            return self._refused(record, [], why=why)
        run = run or self._run_of(record)
        gates = in_order((*version.gates, *asked.gates))
        settled = {result.gate for result in earlier if _settled(result)}
        open_gates = [gate for gate in gates if gate not in settled]
        found = self._findings(record, open_gates, run, live, uncommitted or {})
        judged = [judge(gate, found) for gate in open_gates]
        if force:
            judged = [_forced(one, run) for one in judged]
        return self._conclude(record, run, judged, reason=reason)

    def _conclude(
        self, record: VersionRecord, run: RunRecord | None, judged: Sequence[GateResult | Waiting], *, reason: str
    ) -> Verdict:
        version = record.version
        job, number = version.job, version.number
        new = [one for one in judged if isinstance(one, GateResult)]
        waiting = tuple(one for one in judged if isinstance(one, Waiting))
        refusing = [result for result in new if not result.passed and not result.forced]
        if new:
            entry = self.runs.audit.entry(
                "job.gates", f"job {job}", passed=sum(result.passed for result in new),
                refused=[result.seen for result in refusing],
                forced=[result.seen for result in new if result.forced],
            )  # fmt: skip
            self._jobs.add_gate_results(job, number, new, entry=entry)
        if refusing:
            return self._refused(record, refusing)
        if run is not None and run.state is RunState.SUCCEEDED:
            try:
                register(self.runs, version, run, CHALLENGER if waiting else CHAMPION)
            except UsageError as error:
                return self._refused(record, [], why=f"{error.message} {error.hint}".strip())
        if waiting:
            return self._verdict(job, number, waiting=waiting)
        forced = [result.seen for result in _latest(self._jobs.gate_results(job, number)) if result.forced]
        action = "job.force" if forced else "job.promote"
        return self._go_live(record, action, reason=masked(self.runs, reason or version.reason), forced=forced)

    def look(self, job: str, number: int) -> Verdict:
        """How a version stands, without judging or writing anything.

        Raises:
            NotFoundError: no such job or version.
        """
        record, results = self._jobs.version(job, number), _latest(self._jobs.gate_results(job, number))
        waiting: list[Waiting] = []
        if record.state is VersionState.PROPOSED and record.version.copy_of is None:
            asked = demanded_of(self.runs.config.promotion_policy, record.version)
            run = self._run_of(record)
            for gate in in_order((*record.version.gates, *asked.gates)):
                if gate in {result.gate for result in results}:
                    continue
                said = self._said(gate, record) if isinstance(gate, ApprovalGate) else None
                missing = said.missing if isinstance(said, Waiting) else "it has not been judged yet"
                if said is None and (run is None or not run.state.is_terminal):
                    missing = "the clean run has not been started" if run is None else (
                        f"the clean run {run.run_id} is {run.state.value}"
                    )  # fmt: skip
                waiting.append(Waiting(gate, missing))
        return Verdict(self._jobs.job(job), record, results, tuple(waiting))

    def approve(self, job: str, number: int | None = None, *, approved: bool = True, comment: str = "") -> Verdict:
        """Record what this person says about a proposed version, and judge it.

        Args:
            job: The job.
            number: The version; None: the only one that is proposed.
            approved: Whether they approve; the author may only withdraw.
            comment: Why.

        Raises:
            UsageError: they may not, or nothing waits for an approval.
        """
        record, who = self._proposed(job, number), current_user()
        version, comment = record.version, masked(self.runs, comment)
        number = version.number
        if who == version.author and not approved:
            return self._refused(record, [], why=f"The author, {who}, withdrew it.")
        asked = demanded_of(self.runs.config.promotion_policy, version)
        gates = [gate for gate in (*version.gates, *asked.gates) if isinstance(gate, ApprovalGate)]
        if not gates and approved:
            raise UsageError(
                f"Version {number} of the job {job} waits for no approval.",
                hint=f"What it waits for: jupyter mlops jobs show {job} --version {number}",
                code="gate",
            )
        if not any(may_approve(gate, who, version.author) for gate in gates or [ApprovalGate()]):
            own = who == version.author
            raise UsageError(
                f"{who} made version {number} of the job {job}: somebody else approves it." if own
                else f"{who} may not approve version {number} of the job {job}.",
                hint=f"Who may: {'; '.join(', '.join(gate.by) or 'anybody but the author' for gate in gates)}.",
                code="not_allowed",
            )  # fmt: skip
        said = Approval(who=who, approved=approved, comment=comment)
        action = "job.approve" if approved else "job.reject"
        entry = self.runs.audit.entry(action, f"job {job}", comment=comment, author=version.author)
        self._jobs.add_approval(job, number, said, entry=entry)
        if not approved:
            results = [one for gate in gates if isinstance(one := self._said(gate, record), GateResult)]
            return self._refused(record, results, why=f"{who} rejected it.", store=True)
        return self.judge(job, number)

    # -- what the steps above are made of --------------------------------------------------------------------------

    def _go_live(self, record: VersionRecord, action: str, **details: Any) -> Verdict:
        job, number = record.version.job, record.version.number
        copied = record.version.copy_of
        if copied is not None and not self._jobs.gate_results(job, number):
            results = [
                result.model_copy(update={"evidence": {**result.evidence, "copied_from_version": copied}})
                for result in _latest(self._jobs.gate_results(job, copied))
            ]
            entry = self.runs.audit.entry("job.gates", f"job {job}", copied_from=copied)
            self._jobs.add_gate_results(job, number, results, entry=entry)
        before = self._jobs.job(job).live_version
        entry = self.runs.audit.entry(action, f"job {job}", before=before, author=record.version.author, **details)
        self._jobs.set_live(job, number, entry=entry)
        return self._verdict(job, number)

    def _refused(
        self, record: VersionRecord, results: Sequence[GateResult], *, why: str = "", store: bool = False
    ) -> Verdict:
        job, number = record.version.job, record.version.number
        if store and results:
            self._jobs.add_gate_results(job, number, results)
        reasons = [f"{result.seen}; wanted: {result.wanted}" for result in results] or [why]
        self._jobs.refuse(job, number, entry=self.runs.audit.entry("job.refuse", f"job {job}", why=reasons))
        return self._verdict(job, number, why=why)

    def _verdict(self, job: str, number: int, *, waiting: tuple[Waiting, ...] = (), why: str = "") -> Verdict:
        record, results = self._jobs.version(job, number), self._jobs.gate_results(job, number)
        return Verdict(self._jobs.job(job), record, _latest(results), waiting, why)

    def _findings(
        self, record: VersionRecord, gates: Sequence[GateSpec], run: RunRecord | None, live: int | None,
        uncommitted: Mapping[str, tuple[str, ...] | None],
    ) -> Findings:  # fmt: skip
        version = record.version
        sources: tuple[StepSource, ...] = ()
        if any(gate.kind in ("git_known", "image_digest") for gate in gates):
            sources = findings.step_sources(self.runs, version, uncommitted)
        ended = run is not None and run.state.is_terminal
        production = None
        if live is not None and ended and any(isinstance(gate, ChampionGate) for gate in gates):
            production = findings.production(self.runs, version.job, live)
        checks = any(isinstance(gate, DataChecksGate) for gate in gates)
        return Findings(
            author=version.author, sources=sources, production=production,
            run=findings.clean_run(self.runs, run, checks=checks) if run is not None else None,
            approvals=tuple(self._jobs.approvals(version.job, version.number)),
        )  # fmt: skip

    def _said(self, gate: ApprovalGate, record: VersionRecord) -> GateResult | Waiting:
        approvals = tuple(self._jobs.approvals(record.version.job, record.version.number))
        return judge(gate, Findings(author=record.version.author, approvals=approvals))

    def _run_of(self, record: VersionRecord) -> RunRecord | None:
        version = record.version
        known = findings.clean_run_id(self._jobs.gate_results(version.job, version.number))
        if known is not None:
            return self.runs.get(known)
        found = self.runs.store.run_with_key(clean_key(version, self._jobs.job(version.job).job_id))
        return self.runs.get(found.run_id) if found is not None else None

    def _waiting_twin(self, version: JobVersion) -> VersionRecord | None:
        try:
            known = self._jobs.versions(version.job, limit=_LOOKED_AT)
        except NotFoundError:
            return None
        return next((
            record for record in known
            if record.state is VersionState.PROPOSED and record.version.author == version.author
            and record.version.copy_of is None and record.version.digest == version.digest
        ), None)  # fmt: skip

    def _proposed(self, job: str, number: int | None) -> VersionRecord:
        if number is not None:
            record = self._jobs.version(job, number)
            if record.state is not VersionState.PROPOSED:
                state = record.state.value
                raise UsageError(f"Version {number} of the job {job} is {state}, not proposed.", code="job")
            return record
        known = self._jobs.versions(job, limit=_LOOKED_AT)
        proposed = [record for record in known if record.state is VersionState.PROPOSED]
        if len(proposed) != 1:
            what = "no version that is proposed" if not proposed else "several versions that are proposed"
            numbers = ", ".join(str(record.version.number) for record in proposed)
            raise UsageError(
                f"The job {job} has {what}.",
                hint=f"Name one with --version: {numbers}." if proposed else f"jupyter mlops jobs history {job}",
                code="job",
            )
        return proposed[0]


def _settled(result: GateResult) -> bool:
    """Whether a gate need not be judged again: what it is about cannot change any more."""
    return (result.passed or result.forced) and not isinstance(result.gate, ChampionGate | ApprovalGate)


def _forced(judged: GateResult | Waiting, run: RunRecord | None) -> GateResult | Waiting:
    if isinstance(judged, GateResult):
        return judged if judged.passed else judged.model_copy(update={"forced": True})
    if run is None or not run.state.is_terminal:
        return judged  # the run is waited for all the same
    return GateResult(gate=judged.gate, passed=False, forced=True, seen=judged.missing, wanted=wanted(judged.gate))


def _latest(results: Sequence[GateResult]) -> tuple[GateResult, ...]:
    last = {result.gate: result for result in results}
    return tuple(last[gate] for gate in in_order(tuple(last)))
