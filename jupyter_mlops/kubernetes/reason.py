"""`Reason`: how a run on Kubernetes stands and why, in one sentence, with one next step and Kubernetes' own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..states import FailureCode, RunState


class Stage(str, Enum):
    """How far a run has come on Kubernetes."""

    QUEUED = "queued"
    PENDING = "pending"
    PULLING = "pulling"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


_RUN_STATES = {Stage.RUNNING: RunState.RUNNING, Stage.SUCCEEDED: RunState.SUCCEEDED, Stage.FAILED: RunState.FAILED}


@dataclass(frozen=True)
class Reason:
    """How a run stands and why.

    Attributes:
        stage: How far it has come.
        cause: What holds or ended it, for machines: `quota`, `image_not_found`, `out_of_memory`; where Kubernetes
            gives a reason that is not known here, that reason.
        message: One sentence for the person.
        hint: The next step, or an empty string when there is none.
        raw: Kubernetes' own words.
        code: Why the run ended, where it did.
        blocked: Whether it waits for somebody to change something: waiting longer will not help.
    """

    stage: Stage
    cause: str
    message: str
    hint: str = ""
    raw: str = ""
    code: FailureCode | None = None
    blocked: bool = False

    @property
    def run_state(self) -> RunState:
        """The same in the words that every runner shares."""
        if self.stage is Stage.FAILED and self.code is FailureCode.CANCELLED:
            return RunState.CANCELLED
        return _RUN_STATES.get(self.stage, RunState.PENDING)
