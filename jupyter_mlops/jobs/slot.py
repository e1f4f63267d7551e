"""A slot: one moment at which a job runs, once."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..spec import JSONValue


class SlotState(str, Enum):
    """How a slot stands."""

    WAITING = "waiting"
    """Claimed; waits for a free place, or for the one before it."""
    STARTING = "starting"
    """An attempt is being handed to the launcher: whoever finds it so hands it over again, which changes nothing."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    """Somebody wants it to end, and its run has not been told yet."""
    STOPPING = "stopping"
    """Its run was told to end, and has not yet."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRYING = "retrying"
    """An attempt failed; waits for the time of the next."""
    SKIPPED = "skipped"
    """It was never started; `message` says why."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow it."""
        return self in (SlotState.SUCCEEDED, SlotState.FAILED, SlotState.CANCELLED, SlotState.SKIPPED)

    @property
    def is_active(self) -> bool:
        """Whether a run of it exists, or may."""
        return self in (SlotState.STARTING, SlotState.RUNNING, SlotState.CANCELLING, SlotState.STOPPING)


class SlotKind(str, Enum):
    """What made a slot."""

    SCHEDULE = "schedule"
    BACKFILL = "backfill"
    MANUAL = "manual"
    FILE = "file"
    JOB = "job"
    EVENT = "event"
    WEBHOOK = "webhook"


class Slot(BaseModel):
    """One moment at which a job runs, once.

    Attributes:
        slot_id: Ours.
        job_id: The job.
        job: Its name.
        version: The version that was live when the slot was claimed.
        key: Unique in its job: what makes it the same slot, whoever claims it.
        kind: What made it.
        slot_time: The scheduled moment, or when the trigger was seen.
        state: How it stands.
        attempt: Number of the attempt that is running, or was the last; 0: none yet.
        failures: How many of them failed.
        run_id: The run of the last attempt; of a pipeline, the run of the step that it was last in.
        message: Why it stands so, in a sentence.
        payload: What the trigger told, like the URL of a file.
        create_time: When it was claimed.
        start_time: When its first attempt started.
        end_time: When it ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slot_id: str
    job_id: str
    job: str
    version: int
    key: str
    kind: SlotKind
    slot_time: datetime
    state: SlotState
    attempt: int = 0
    failures: int = 0
    run_id: str | None = None
    message: str = ""
    payload: dict[str, JSONValue] = Field(default_factory=dict)
    create_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def run_key(self) -> str:
        """The `run_key` of the attempt: a repeated submission gives the same run. A pipeline adds `/STEP`."""
        return f"{self.job_id}/v{self.version}/{self.slot_id}/{self.attempt}"

    def as_dict(self) -> dict[str, Any]:
        """The slot as `--json` prints it."""
        return self.model_dump(mode="json")
