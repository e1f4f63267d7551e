"""Specs of runs on Kubernetes, of which a test changes what it is about."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import RunSpec

RUN_ID = "0f9a3c5e7b21"


def profile(**changes: Any) -> Profile:
    fields: dict[str, Any] = {
        "name": "cluster", "runner": "kubernetes", "image": "registry.example.org/team/train:1", "cpus": 4,
        "memory": "16Gi", "namespace": "team-a",
    }  # fmt: skip
    return Profile(**{**fields, **changes})


def spec(profile_changes: dict[str, Any] | None = None, **changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "run_id": RUN_ID, "name": "churn", "notebook": "models/train_churn.ipynb",
        "source": "/home/ann/models/train_churn.ipynb", "snapshot_id": "5" * 64, "experiment": "churn",
        "tracking_uri": "https://mlflow.example.org", "owner": "ann", "profile": profile(**(profile_changes or {})),
        "create_time": datetime(2026, 11, 24, 10, tzinfo=timezone.utc),
    }  # fmt: skip
    return RunSpec(**{**fields, **changes})
