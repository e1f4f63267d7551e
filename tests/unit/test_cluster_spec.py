from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jupyter_mlops.cluster_spec import SPEC_FILE, ClusterSpec
from jupyter_mlops.profile import Profile


def cluster(profile: dict[str, Any] | None = None, **changes: Any) -> ClusterSpec:
    fields: dict[str, Any] = {
        "cluster_id": "0f9a3c5e7b21", "name": "gpus", "owner": "ann", "tracking_uri": "https://mlflow.example.org",
        "idle_timeout": 1800.0, "lifetime": 28800.0, "profile": Profile(name="local", **(profile or {})),
    }  # fmt: skip
    return ClusterSpec(**{**fields, **changes})


def test_a_spec_is_the_same_after_its_file(tmp_path: Path) -> None:
    spec = cluster({"gpus": 2, "memory": "4Gi"})
    (tmp_path / SPEC_FILE).write_text(spec.model_dump_json())
    assert ClusterSpec.read(tmp_path) == spec


@pytest.mark.parametrize("name", ["", "Gpus", "a b", "../up", "-a", "a" * 64, "a;rm -rf", "ü"])
def test_a_name_that_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        cluster(name=name)


@pytest.mark.parametrize("field", ["idle_timeout", "lifetime"])
def test_a_cluster_has_a_limit_in_time(field: str) -> None:
    with pytest.raises(ValidationError):
        cluster(**{field: 0.0})


def test_its_objects_are_named_and_sized_as_those_of_a_run() -> None:
    run = cluster({"gpus": 2}).as_run()
    assert (run.run_id, run.name, run.owner, run.profile.gpus) == ("0f9a3c5e7b21", "gpus", "ann", 2)
