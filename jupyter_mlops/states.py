"""The words for how a run stands (`RunState`) and why it ended badly (`FailureCode`), and the file that tells both.

Apart from `spec` and `events`, so that the command line and the supervisor know them without loading what checks
specs and events. Knows no runner, no MLflow and no store: each of them maps these words at its own border.
"""

from __future__ import annotations

from enum import Enum

EVENTS_FILE = "events.jsonl"
"""In a run's directory: what the run told, a JSON object a line. The last tells how it ended."""
RUN_ID_VARIABLE = "JUPYTER_MLOPS_RUN_ID"
"""The run that a process belongs to."""


class RunState(str, Enum):
    """How a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow it."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


class FailureCode(str, Enum):
    """Why a run ended other than well; each has its own sentence and remedy."""

    CELL_FAILED = "cell_failed"
    KERNEL_DIED = "kernel_died"
    OUT_OF_MEMORY = "out_of_memory"
    CELL_TIMEOUT = "cell_timeout"
    RUN_TIMEOUT = "run_timeout"
    CANCELLED = "cancelled"
    KERNEL_MISSING = "kernel_missing"
    KERNEL_START = "kernel_start"
    NOTEBOOK_INVALID = "notebook_invalid"
    DISK_FULL = "disk_full"
    MLFLOW_UNREACHABLE = "mlflow_unreachable"
    WORKER_DIED = "worker_died"
    NOT_STARTED = "not_started"
    EVICTED = "evicted"
    INTERNAL = "internal"
