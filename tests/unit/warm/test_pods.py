from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from jupyter_mlops.kubernetes import names
from jupyter_mlops.warm.known import Place
from jupyter_mlops.warm.pods import _found, _has_ended, _runs


def job(*conditions: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "gpus-0f", "uid": "u", "labels": {names.RUN_LABEL: "0f", names.CLUSTER_LABEL: "gpus"},
            "annotations": {names.OWNER_ANNOTATION: "Ann <a@b>"},
        },
        "spec": {"parallelism": 2, "activeDeadlineSeconds": 3600},
        "status": {"conditions": [{"type": each, "status": "True"} for each in conditions], **status},
    }  # fmt: skip


@pytest.mark.parametrize("condition", ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"])
def test_a_cluster_whose_head_is_done_has_ended_while_its_pods_still_end(condition: str) -> None:
    assert _has_ended(job(condition))


def test_a_cluster_that_waits_runs_or_is_suspended_has_not_ended() -> None:
    assert not _has_ended(job())
    assert not _has_ended(job("Suspended"))
    assert not _has_ended({**job(), "status": {}})


def test_what_is_being_deleted_has_ended() -> None:
    deleted = job()
    deleted["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    assert _has_ended(deleted)


def test_the_time_that_is_left_counts_from_when_kubernetes_started_it() -> None:
    place = Place(None, "https://k8s", "team-a", "gpus-0f", "u")
    start = datetime.now(timezone.utc) - timedelta(seconds=600)
    found = _found(job(startTime=start.strftime("%Y-%m-%dT%H:%M:%SZ")), place)
    assert found.lifetime_left == pytest.approx(3000, abs=30)
    assert (found.name, found.cluster_id, found.owner, found.pods) == ("gpus", "0f", "Ann <a@b>", 2)
    assert _found(job(), place).lifetime_left is None


@pytest.mark.parametrize(
    ("state", "deleted", "expected"),
    [
        ({"running": {}}, False, True),
        ({"running": {}}, True, False),
        ({"waiting": {}}, False, False),
        ({}, False, False),
    ],
)
def test_a_head_runs_when_its_container_does_and_it_is_not_being_deleted(
    state: dict[str, Any], deleted: bool, expected: bool
) -> None:
    pod: dict[str, Any] = {"metadata": {}, "status": {"containerStatuses": [{"state": state}]}}
    if deleted:
        pod["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    assert _runs(pod) is expected
    assert not _runs({"metadata": {}})
