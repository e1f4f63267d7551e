"""`RunSpec`: what to run, with what, on what. Everything that starts a run makes one, and a runner takes nothing else.

Knows no runner, no MLflow and no store.
"""

from __future__ import annotations

import json
import secrets
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .profile import Profile
from .states import FailureCode, RunState

__all__ = ["FailureCode", "JSONValue", "RunSpec", "RunState", "new_run_id"]

JSONValue = Any
"""None, bool, int, float (nan and inf too), str, list of these, dict of str to these."""


def new_run_id() -> str:
    """A fresh id: 12 hexadecimal digits, so that it can be part of a Kubernetes name (RFC 1123)."""
    return secrets.token_hex(6)


class RunSpec(BaseModel):
    """One run, before it starts. Immutable, and the same after a round trip through its file.

    Attributes:
        run_id: Ours; the directory, the Kubernetes name and the MLflow tag are made from it.
        run_key: What makes a repeated submission the same run (a slot of a job), or None.
        name: For people; the MLflow run's name.
        notebook: POSIX path of the notebook inside the snapshot.
        source: The notebook as the person knows it, for lists and tags.
        snapshot_id: The content address of the bundle.
        parameters: Those that were set; the others keep the notebook's defaults.
        profile: The resources, resolved.
        experiment: Name of the MLflow experiment.
        tracking_uri: MLflow's address without credentials; those come from the environment.
        kernel_name: The kernel to use instead of the notebook's own, or None.
        autolog: Whether `mlflow.autolog()` is called before the first cell.
        seed: Seed for `random`, NumPy and the hash of str, set before the first cell.
        run_timeout: Seconds for the whole run, or None.
        cell_timeout: Seconds for one cell, or None.
        tags: More MLflow tags.
        owner: Who asked for it.
        create_time: When, in UTC.
        retry_of: The run that this one repeats, or None.
        cluster: Name of the warm cluster that it runs on; None: it gets its own resources.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str = Field(default_factory=new_run_id, pattern=r"^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$")
    run_key: str | None = Field(default=None, min_length=1, max_length=255)
    name: str = Field(min_length=1)
    notebook: str
    source: str
    snapshot_id: str
    parameters: dict[str, JSONValue] = Field(default_factory=dict)
    profile: Profile
    experiment: str = Field(min_length=1)
    tracking_uri: str
    kernel_name: str | None = None
    autolog: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)
    run_timeout: float | None = Field(default=None, gt=0)
    cell_timeout: float | None = Field(default=None, gt=0)
    tags: dict[str, str] = Field(default_factory=dict)
    owner: str
    create_time: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    retry_of: str | None = None
    cluster: str | None = None

    def to_json(self) -> str:
        """The spec as its file holds it.

        The standard library's JSON and not pydantic's: it keeps nan and inf, which parameters may hold.
        """
        data = self.model_dump()
        data["create_time"] = self.create_time.isoformat()
        return json.dumps(data, ensure_ascii=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> RunSpec:
        """The spec back from `to_json`.

        Raises:
            ValueError: it is not one, or one of a newer version with unknown fields.
        """
        return cls.model_validate(json.loads(text))

    @classmethod
    def read(cls, run_dir: Path) -> RunSpec:
        """The spec of the run whose directory this is."""
        return cls.from_json((run_dir / "spec.json").read_text(encoding="utf-8"))
