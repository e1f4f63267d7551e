"""`Launcher`: what turns an attempt of a slot into runs. The one here handles versions of one step.

A launcher knows runs and no slots but the one that it is given; it keeps nothing, so that any process can go on where
another was killed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol
from zoneinfo import ZoneInfo

from ..errors import UsageError
from ..events import CellEvent, RunEvent
from ..jobs.model import JobVersion, Slot, SlotKind, SlotState, Step
from ..runs import Runs
from ..spec import FailureCode, JSONValue, RunSpec, RunState
from ..store.models import RunRecord

_STATES = {
    RunState.PENDING: SlotState.RUNNING, RunState.RUNNING: SlotState.RUNNING, RunState.SUCCEEDED: SlotState.SUCCEEDED,
    RunState.FAILED: SlotState.FAILED, RunState.CANCELLED: SlotState.CANCELLED,
}  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """How the attempt of a slot stands.

    Attributes:
        state: RUNNING, SUCCEEDED, FAILED or CANCELLED.
        run_id: Its run; of a pipeline, that of the step which tells most.
        message: Why it failed or was cancelled.
        lost: It failed before anything of it was executed: a new attempt repeats nothing.
    """

    state: SlotState
    run_id: str | None = None
    message: str = ""
    lost: bool = False


class Launcher(Protocol):
    """Starts the attempts of slots and tells how they stand."""

    def advance(self, version: JobVersion, slot: Slot) -> Standing:
        """Do what is to be done next for the attempt, and tell how it stands.

        It is called until the attempt has ended, by whatever process, and perhaps by two at once: what is started is
        started under `slot.run_key`, so that starting it again gives the same run.

        Raises:
            UsageError: it cannot be started, now or later.
            MLOpsError: it cannot be started or seen now; the call is repeated.
        """

    def cancel(self, version: JobVersion, slot: Slot) -> Standing:
        """Ask the runs of the attempt to end, and tell how it stands; CANCELLED if nothing of it was started.

        Raises:
            MLOpsError: it cannot be asked now; the call is repeated.
        """


class StepLauncher:
    """Versions of one step: a run each.

    Args:
        runs: The core; its `front` is what the audit log says.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def advance(self, version: JobVersion, slot: Slot) -> Standing:
        """Submit the run, or look how it stands."""
        if len(version.steps) != 1:
            raise UsageError(
                f"Version {version.number} of the job {version.job} has {len(version.steps)} steps, and this launcher "
                "takes one.",
                code="job",
            )
        if slot.run_id is not None:
            return standing_of(self._runs, self._runs.get(slot.run_id))
        spec = step_spec(version, version.steps[0], slot, run_key=slot.run_key, runs=self._runs)
        record = self._runs.submit_spec(spec)
        return standing_of(self._runs, self._runs.get(record.run_id))

    def cancel(self, version: JobVersion, slot: Slot) -> Standing:
        """Ask the run to end."""
        record = self._runs.store.run_with_key(slot.run_key)
        if record is None:
            return Standing(SlotState.CANCELLED)
        try:
            self._runs.cancel(record.run_id)
        except UsageError as error:
            if error.code != "ended":
                raise
        return standing_of(self._runs, self._runs.get(record.run_id))


class ModelLauncher:
    """Another launcher, whose runs' models are registered before their slot has succeeded.

    Args:
        inner: The launcher.
        runs: The core.
    """

    def __init__(self, inner: Launcher, runs: Runs) -> None:
        self._inner, self._runs = inner, runs

    def advance(self, version: JobVersion, slot: Slot) -> Standing:
        """As the launcher does; while MLflow is away, the slot goes on running."""
        from ..jobs.models import crown

        standing = self._inner.advance(version, slot)
        by_hand = slot.kind is SlotKind.MANUAL and "parameters" in slot.payload
        if version.model is None or standing.state is not SlotState.SUCCEEDED or standing.run_id is None or by_hand:
            return standing
        try:
            crown(self._runs, version, self._runs.get(standing.run_id))
        except UsageError as error:
            return replace(standing, state=SlotState.FAILED, message=f"{error.message} {error.hint}".strip())
        return standing

    def cancel(self, version: JobVersion, slot: Slot) -> Standing:
        """As the launcher does."""
        return self._inner.cancel(version, slot)


def production_launcher(runs: Runs) -> Launcher:
    """The launcher of `jupyter mlops scheduler run`."""
    return ModelLauncher(StepLauncher(runs), runs)


def standing_of(runs: Runs, record: RunRecord) -> Standing:
    """How an attempt stands whose only run is this one."""
    lost = record.code is FailureCode.WORKER_DIED and not any(
        isinstance(event, CellEvent) or (isinstance(event, RunEvent) and event.state is RunState.RUNNING)
        for event in runs.events(record)
    )
    return Standing(_STATES[record.state], record.run_id, record.message, lost=lost)


def step_spec(
    version: JobVersion,
    step: Step,
    slot: Slot,
    *,
    run_key: str,
    runs: Runs,
    parameters: dict[str, JSONValue] | None = None,
) -> RunSpec:
    """The run of a step in a slot.

    Args:
        version: The version.
        step: One of its steps.
        slot: The slot.
        run_key: What makes a repeated submission the same run.
        runs: For the settings.
        parameters: Values of the step's inputs.
    """
    return RunSpec(
        run_key=run_key,
        name=version.job if len(version.steps) == 1 else f"{version.job}/{step.name}",
        notebook=step.notebook,
        source=step.source,
        snapshot_id=step.snapshot_id,
        parameters={**slot_values(step.parameters, version, slot), **(parameters or {}), **_by_hand(step, slot)},
        profile=step.profile,
        experiment=step.experiment,
        tracking_uri=runs.config.mlflow_uri_shown(),
        kernel_name=step.kernel_name,
        autolog=step.autolog,
        seed=step.seed,
        run_timeout=step.run_timeout,
        cell_timeout=step.cell_timeout,
        owner=version.owner,
        tags={
            "mlops.job": version.job, "mlops.job_version": str(version.number), "mlops.slot": slot.slot_id,
            "mlops.slot_time": slot.slot_time.isoformat(), "mlops.slot_kind": slot.kind.value,
            "mlops.attempt": str(slot.attempt), "mlops.step": step.name,
        },
    )  # fmt: skip


def _by_hand(step: Step, slot: Slot) -> dict[str, JSONValue]:
    """What a person set for this step when they triggered the job; nobody else who makes slots has a say."""
    given: dict[str, dict[str, JSONValue]] = slot.payload.get("parameters", {}) if slot.kind is SlotKind.MANUAL else {}
    return given.get(step.name, {})


def slot_values(parameters: dict[str, JSONValue], version: JobVersion, slot: Slot) -> dict[str, JSONValue]:
    """The parameters with what the slot knows in the place of the values that ask for it.

    A value is replaced only if it is one of these and nothing else, so that nothing is pasted into other text:
    `${slot.time}` and `${slot.date}` (in the schedule's time zone, ISO 8601) and `${slot.payload.KEY}`.

    Raises:
        UsageError: the slot's trigger told no such key.
    """
    local = slot.slot_time.astimezone(ZoneInfo(version.schedule.tz))
    known = {"${slot.time}": local.isoformat(), "${slot.date}": local.date().isoformat()}
    known |= {f"${{slot.payload.{key}}}": value for key, value in slot.payload.items()}

    def value_of(name: str, value: JSONValue) -> JSONValue:
        if not isinstance(value, str) or not (value.startswith("${slot.") and value.endswith("}")):
            return value
        if value not in known:
            raise UsageError(
                f"The parameter '{name}' asks for {value}, which the slot {slot.slot_id} of the job {version.job} "
                "does not know.",
                hint=f"It knows {', '.join(sorted(known))}.",
                code="job",
            )
        return known[value]

    return {name: value_of(name, value) for name, value in parameters.items()}
