"""What a job is made of, as immutable values: jobs, and versions with their steps, policies and gates.

Checked where they enter; no logic that needs a clock, a store or a run. The store keeps a `JobVersion` as JSON and
gives back an equal one; `JobVersion.digest` says that it is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import UsageError
from ..profile import Profile
from ..schedule.model import JOB_NAME_PATTERN, Schedule
from ..spec import JSONValue
from .gate import (
    Approval,
    ApprovalGate,
    ChampionGate,
    CleanRunGate,
    DataChecksGate,
    GateResult,
    GateSpec,
    GitGate,
    ImageGate,
    MetricGate,
)
from .slot import Slot, SlotKind, SlotState

__all__ = [
    "Approval", "ApprovalGate", "CatchUp", "ChampionGate", "CleanRunGate", "DataChecksGate", "FiredBy", "GateResult",
    "GateSpec", "GitGate", "ImageGate", "Job", "JobState", "JobVersion", "MetricGate", "Overlap", "Policies",
    "RegisteredModel", "Schedule", "Slot", "SlotKind", "SlotState", "Step", "StepInput", "VersionRecord",
    "VersionState", "checked",
]  # fmt: skip

M = TypeVar("M", bound=BaseModel)
_STEP_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobState(str, Enum):
    """How a job stands."""

    ACTIVE = "active"
    PAUSED = "paused"
    DELETED = "deleted"


class VersionState(str, Enum):
    """How a version stands: proposed until its gates let it live, retired when another one took its place."""

    PROPOSED = "proposed"
    LIVE = "live"
    RETIRED = "retired"
    REFUSED = "refused"


class CatchUp(str, Enum):
    """What becomes of scheduled moments that were missed by more than the grace."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class Overlap(str, Enum):
    """What happens when a slot is due while an earlier one of the job has not ended.

    `FORBID` skips a scheduled moment, and lets a slot of another kind, or of a job that catches up on all, wait.
    """

    ALLOW = "allow"
    FORBID = "forbid"
    REPLACE = "replace"


class FiredBy(str, Enum):
    """Who starts the scheduled runs of a version: our scheduler, or a CronJob in Kubernetes."""

    SCHEDULER = "scheduler"
    KUBERNETES = "kubernetes"


class Policies(_Value):
    """How slots are treated.

    Attributes:
        misfire_grace: Seconds by which a scheduled moment may be late and still count as on time.
        catch_up: What becomes of those that are later.
        overlap: What happens when the one before has not ended.
        start_deadline: Seconds that a slot may wait for its start, from when it was claimed; None: any time.
        retries: How often a failed slot is tried again.
        retry_delay: Seconds before the first of these.
        retry_factor: By which the delay grows each time.
        retry_delay_max: Seconds that it grows to at most.
        max_active: How many slots of the job may run at once; None: any number.
    """

    misfire_grace: float = Field(default=300.0, ge=1, le=366 * 86400)
    catch_up: CatchUp = CatchUp.LATEST
    overlap: Overlap = Overlap.FORBID
    start_deadline: float | None = Field(default=None, gt=0)
    retries: int = Field(default=0, ge=0, le=100)
    retry_delay: float = Field(default=60.0, ge=0, le=7 * 86400)
    retry_factor: float = Field(default=2.0, ge=1, le=100)
    retry_delay_max: float = Field(default=3600.0, ge=0, le=7 * 86400)
    max_active: int | None = Field(default=None, ge=1)

    def retry_wait(self, failures: int) -> float:
        """Seconds to wait after so many failures (1 or more)."""
        try:
            return min(self.retry_delay * self.retry_factor ** (failures - 1), self.retry_delay_max)
        except OverflowError:
            return self.retry_delay_max


class StepInput(_Value):
    """Where a parameter of a step comes from.

    Attributes:
        step: The step that made it.
        name: What it is called there.
        kind: A value that the notebook glued, or the path of an artifact that it logged.
    """

    step: str = Field(pattern=_STEP_NAME)
    name: str = Field(min_length=1, max_length=500)
    kind: Literal["value", "artifact"] = "value"


class Step(_Value):
    """One notebook of a job. What a `RunSpec` needs of it, resolved when the version was made.

    Attributes:
        name: Unique in its version.
        snapshot_id: The content address of what runs.
        notebook: POSIX path of the notebook inside the snapshot.
        source: The notebook as the person knows it.
        profile: The resources, resolved: a profile that an admin changes later does not change the version.
        experiment: Name of the MLflow experiment.
        parameters: Those that are set; the others keep the notebook's defaults.
        inputs: Parameters that come from steps before, by the parameter's name.
        needs: Steps that must have succeeded before; those of `inputs` among them.
        kernel_name: The kernel instead of the notebook's own, or None.
        autolog: Whether `mlflow.autolog()` is called before the first cell.
        seed: Seed of the random generators.
        run_timeout: Seconds for the run, or None.
        cell_timeout: Seconds for one cell, or None.
    """

    name: str = Field(pattern=_STEP_NAME)
    snapshot_id: str = Field(min_length=1, max_length=64)
    notebook: str = Field(min_length=1)
    source: str
    profile: Profile
    experiment: str = Field(min_length=1)
    parameters: dict[str, JSONValue] = Field(default_factory=dict)
    inputs: dict[str, StepInput] = Field(default_factory=dict)
    needs: tuple[str, ...] = ()
    kernel_name: str | None = None
    autolog: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)
    run_timeout: float | None = Field(default=None, gt=0)
    cell_timeout: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _inputs_are_needed(self) -> Step:
        for parameter, given in self.inputs.items():
            if given.step not in self.needs:
                raise ValueError(
                    f"the parameter {parameter!r} of the step {self.name!r} comes from the step {given.step!r}, "
                    "which is not among its needs"
                )
            if parameter in self.parameters:
                raise ValueError(f"the parameter {parameter!r} of the step {self.name!r} is set twice")
        return self


class RegisteredModel(_Value):
    """The model that the runs of a job make, in MLflow's registry.

    Attributes:
        name: Of the registered model.
        logged_as: The name that the notebook logs it under; None: a run logs one only.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]{0,199}$")
    logged_as: str | None = Field(default=None, min_length=1, max_length=500)


class JobVersion(_Value):
    """One version of a job: what runs, when, and under which conditions. It never changes.

    Attributes:
        job: The job's name.
        number: 1 for the first; the store numbers a version that it is given (0: it has not yet).
        steps: In an order that runs each after what it needs; a single notebook is a pipeline of one step.
        schedule: When.
        policies: How slots are treated.
        gates: What had to pass before it went live.
        owner: Who answers for the job.
        author: Who made this version.
        reason: Why, in the author's words.
        fired_by: Who starts its scheduled runs.
        model: What becomes of the model that its runs log, or None: nothing.
        copy_of: The earlier version that a rollback repeats, or None.
        create_time: When it was made.
    """

    job: str = Field(pattern=JOB_NAME_PATTERN)
    number: int = Field(default=0, ge=0)
    steps: tuple[Step, ...] = Field(min_length=1, max_length=200)
    schedule: Schedule = Schedule()
    policies: Policies = Policies()
    gates: tuple[GateSpec, ...] = ()
    owner: str = Field(min_length=1, max_length=255)
    author: str = Field(min_length=1, max_length=255)
    reason: str = Field(default="", max_length=10_000)
    fired_by: FiredBy = FiredBy.SCHEDULER
    model: RegisteredModel | None = None
    copy_of: int | None = None
    create_time: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))

    @field_validator("steps")
    @classmethod
    def _in_order(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        by_name = {step.name: step for step in steps}
        if len(by_name) != len(steps):
            raise ValueError("two steps have the same name")
        for step in steps:
            for needed in step.needs:
                if needed not in by_name:
                    raise ValueError(f"the step {step.name!r} needs the step {needed!r}, which there is not")
        try:
            ordered = tuple(TopologicalSorter({step.name: step.needs for step in steps}).static_order())
        except CycleError as error:
            raise ValueError(f"the steps need each other in a circle: {' -> '.join(error.args[1])}") from None
        return tuple(by_name[name] for name in ordered)

    @property
    def digest(self) -> str:
        """SHA-256 of what runs and when: the same for two versions that differ in number, author and time only."""
        content = self.model_dump(mode="json", exclude={"number", "author", "reason", "copy_of", "create_time"})
        # A field that is newer than a version that is stored must not change the version's digest.
        if content["model"] is None:
            del content["model"]
        # The parameters as they are: pydantic's JSON mode makes null of nan and inf.
        for step, given in zip(content["steps"], self.steps, strict=True):
            step["parameters"] = given.parameters
        text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def to_json(self) -> str:
        """The version as the store holds it: nan and inf in parameters survive."""
        data = self.model_dump(mode="python")
        data["create_time"] = self.create_time.isoformat()
        if self.schedule.start is not None:
            data["schedule"]["start"] = self.schedule.start.isoformat()
        return json.dumps(data, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> JobVersion:
        """The version back from `to_json`.

        Raises:
            ValueError: it is not one.
        """
        return cls.model_validate(json.loads(text))


class VersionRecord(_Value):
    """A version and how it stands.

    Attributes:
        version: The version.
        state: How it stands.
        live_time: When it went live, or None.
    """

    version: JobVersion
    state: VersionState
    live_time: datetime | None = None


class Job(_Value):
    """A job, as the store knows it.

    Attributes:
        job_id: Ours; never used again, also when the job is deleted.
        name: Unique, also among the deleted: promoting under a deleted name brings that job back.
        owner: Who answers for it: the owner of its newest version.
        state: How it stands.
        live_version: The number of the version that runs, or None: none has gone live.
        next_time: The next scheduled moment, or None.
        create_time: When it was made.
    """

    job_id: str
    name: str
    owner: str
    state: JobState
    live_version: int | None = None
    next_time: datetime | None = None
    create_time: datetime

    def as_dict(self) -> dict[str, Any]:
        """The job as `--json` prints it."""
        return self.model_dump(mode="json")


def checked(model: type[M], fields: Mapping[str, Any], *, what: str) -> M:
    """The value of these fields, or a sentence that says which one is wrong.

    Args:
        model: The class of the value.
        fields: Its fields, as a person or a file gave them.
        what: What the person calls it, like "schedule".

    Raises:
        UsageError: they do not fit.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"The {what} is wrong{f' in {where}' if where else ''}: {why}.", code="job") from None
