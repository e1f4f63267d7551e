"""Every error that a person can meet, in one tree.

Each has a sentence for the person (`str(error)`), a `code` for machines that is stable between releases, and a
`hint`: the next step. The command line, the magics, REST and the widgets render the same three.

    MLOpsError
    ├── UsageError              what was asked cannot be done as asked; nothing was created
    │   ├── ParameterError      a parameter's name, type or value
    │   ├── NotebookError       the notebook cannot be read or is not one
    │   ├── SnapshotError       the bundle cannot be made
    │   ├── ProfileError        the profile or a resource in it
    │   └── NotFoundError       no such run, snapshot or runner
    ├── ConfigError             the configuration files or the environment
    ├── StoreError              the store is locked, damaged, of a newer version, or away
    ├── TrackingError           MLflow is away or refused
    ├── ClusterError            the Dask cluster did not start or is gone
    ├── KubernetesError         Kubernetes is away or refused
    ├── ImageError              an image could not be built or pushed
    └── RunFailedError          a run ended other than well
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class MLOpsError(Exception):
    """What happened, which value or object, and what to do next.

    Args:
        message: One sentence for the person, without a traceback and without secrets.
        hint: The next step, or an empty string when there is none.
        code: A stable name for machines; the class's own when not given.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def _render_traceback_(self) -> list[str]:
        # IPython's hook: a person who mistyped a magic reads the sentence, not our stack.
        return [as_magic(f"{self.message}\n{self.hint}".strip())]

    def as_dict(self) -> dict[str, str]:
        """The error as the wire carries it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


def as_magic(text: str) -> str:
    """What is said to somebody in a terminal, for somebody in a notebook: there the commands are magics.

    Args:
        text: A message or hint that may name commands (`jupyter mlops runs`).
    """
    return re.sub(r"(?<!\S)(`?)jupyter mlops (?=[a-z])", r"\1%mlops ", text)


class UsageError(MLOpsError):
    """What was asked cannot be done as asked; nothing was created."""

    code = "usage"
    exit_code = 2


class ParameterError(UsageError):
    """A parameter's name, type or value."""

    code = "parameter"


class NotebookError(UsageError):
    """The notebook cannot be read, or is not one."""

    code = "notebook_invalid"


class SnapshotError(UsageError):
    """The bundle cannot be made."""

    code = "snapshot"


class ProfileError(UsageError):
    """The profile, or a resource in it."""

    code = "profile"


class NotFoundError(UsageError):
    """No such run, snapshot or runner."""

    code = "not_found"


class ConfigError(MLOpsError):
    """The configuration files or the environment."""

    code = "config"
    exit_code = 2


class StoreError(MLOpsError):
    """The store is locked, damaged, of a newer version, or away."""

    code = "store"


class TrackingError(MLOpsError):
    """MLflow is away, or refused.

    Attributes:
        retryable: Whether the same call may succeed a moment later.
    """

    code = "mlflow_unreachable"
    retryable = False


class ClusterError(MLOpsError):
    """The Dask cluster did not start, or is gone."""

    code = "cluster"


class KubernetesError(MLOpsError):
    """Kubernetes is away, or refused.

    Attributes:
        retryable: Whether the same call may succeed a moment later.
    """

    code = "kubernetes"
    retryable = False


class ImageError(MLOpsError):
    """A container image could not be built or pushed."""

    code = "image"


class RunFailedError(MLOpsError):
    """A run ended other than well; `code` is its `FailureCode`.

    Attributes:
        told: Whether the progress view has told the person already.
    """

    code = "run_failed"
    told = False


def nearest(name: str, known: Iterable[str], *, noun: str) -> str:
    """The tail of a sentence that names what is known, the nearest first.

    Args:
        name: What the person wrote.
        known: The names that exist.
        noun: What they are, in the singular ("parameter", "profile").

    Returns:
        For example ``Did you mean 'depth'? The parameters are: depth, lr.``
    """
    names = sorted(known)
    if not names:
        return f"There is no {noun}."
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}The {noun}s are: {', '.join(names)}."
