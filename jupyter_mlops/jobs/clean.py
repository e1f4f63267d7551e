"""The clean run of a version: what it is made from, and whether a run that ended can stand for it. Starts nothing."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..runs import Runs
from ..spec import RunSpec, RunState
from .model import JobVersion, Slot, SlotKind, SlotState

if TYPE_CHECKING:
    from ..store.models import RunRecord


def clean_key(version: JobVersion, job_id: str) -> str:
    """The `run_key` of the clean run: whoever starts it again gets the same run."""
    return f"{job_id}/v{version.number}/clean"


def clean_spec(runs: Runs, version: JobVersion, job_id: str) -> RunSpec:
    """The clean run: as a slot of this moment, except that nothing has triggered it.

    A parameter that asks for what a trigger tells keeps the notebook's default.

    Args:
        runs: The core of runs.
        version: The version; it has one step.
        job_id: The id of its job.

    Raises:
        UsageError: it has several steps.
    """
    from ..scheduler.launcher import step_spec

    if len(version.steps) != 1:
        raise UsageError(f"The job {version.job} has {len(version.steps)} steps, and no clean run of one.", code="job")
    step, now = version.steps[0], datetime.now(timezone.utc)
    given = {
        name: value for name, value in step.parameters.items()
        if not (isinstance(value, str) and value.startswith("${slot.payload."))
    }  # fmt: skip
    slot = Slot(
        slot_id="clean", job_id=job_id, job=version.job, version=version.number,
        key="clean", kind=SlotKind.MANUAL, slot_time=now, state=SlotState.STARTING, create_time=now,
    )  # fmt: skip
    spec = step_spec(
        version, step.model_copy(update={"parameters": given}), slot, run_key=clean_key(version, job_id),
        runs=runs,
    )  # fmt: skip
    tags = {"mlops.job": version.job, "mlops.job_version": str(version.number), "mlops.gate": "clean_run"}
    return spec.model_copy(update={"tags": tags, "owner": version.author})


def usable_run(runs: Runs, name: str, version: JobVersion) -> RunRecord:
    """A run that ended, as the clean run of a version.

    Args:
        runs: The core of runs.
        name: The run.
        version: The version; its only step must be what ran.

    Raises:
        UsageError: it is another notebook, or did not succeed.
    """
    record = runs.get(name)
    spec, step = runs.spec(record.run_id), version.steps[0]
    if record.state is not RunState.SUCCEEDED:
        raise UsageError(f"The run {record.run_id} is {record.state.value}: a clean run has succeeded.", code="gate")
    pairs = {
        "snapshot": (spec.snapshot_id[:12], step.snapshot_id[:12]),
        "parameters": (_text(spec.parameters), _text(step.parameters)),
        "profile": (spec.profile.name, step.profile.name),
        "resources": (_text(spec.profile.model_dump(mode="json")), _text(step.profile.model_dump(mode="json"))),
        "kernel": (spec.kernel_name, step.kernel_name),
        "seed": (spec.seed, step.seed),
    }
    for what, (ran, promoted) in pairs.items():
        if ran != promoted:
            raise UsageError(
                f"The run {record.run_id} had another {what} than what is promoted: {ran}, not {promoted}.",
                hint="Leave --from-run out: the promotion then makes a clean run of its own.",
                code="gate",
            )
    return record


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
