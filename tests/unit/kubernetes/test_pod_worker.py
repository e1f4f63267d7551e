"""A worker pod: when it waits, when it starts Dask again, and with what it ends."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlops.kubernetes import contract, pod_worker
from jupyter_mlops.kubernetes.pod_dask import DaskProcesses

from .specs import profile


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The variables of a worker pod, and what the test decides: whether the head answers, and how Dask ends."""
    told = profile(pods=2, memory="16Gi")
    fields = told.model_dump(mode="json", exclude={"description", "context"}, exclude_defaults=True)
    variables = {
        contract.VERSION_VARIABLE: contract.VERSION, contract.PROFILE_VARIABLE: json.dumps(fields),
        contract.INDEX_VARIABLE: "1", contract.POD_NAME_VARIABLE: "train-1-abc", contract.POD_IP_VARIABLE: "10.0.0.2",
        contract.JOB_VARIABLE: "train", contract.SERVICE_VARIABLE: "train",
        contract.MEMORY_VARIABLE: str(8 * 2**30), contract.CPUS_VARIABLE: "2000",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    over = tmp_path / "over"
    state: dict[str, Any] = {"answers": [], "ends": [], "over": over, "started": []}
    monkeypatch.setattr(pod_worker, "_LOOK", 0.0)
    monkeypatch.setattr(pod_worker, "_GONE", 0.05)
    monkeypatch.setattr(pod_worker, "end_of_run_file", lambda: str(over))
    monkeypatch.setattr(pod_worker, "answers", lambda _address: state["answers"].pop(0) if state["answers"] else False)
    monkeypatch.setattr(pod_worker, "resolved", lambda _address: "10.0.0.1")

    class Dask:
        def __init__(self, command: list[str], **_options: Any) -> None:
            state["started"].append(command)

        def wait(self) -> int:
            status, is_over = state["ends"].pop(0)
            if is_over:
                over.touch()
            return int(status)

    monkeypatch.setattr(pod_worker.subprocess, "Popen", Dask)
    return state


def test_it_ends_well_when_the_head_said_that_the_run_is_over(pod: dict[str, Any]) -> None:
    pod["answers"], pod["ends"] = [False, False, True], [(0, True)]
    assert pod_worker.main() == 0
    assert pod["started"][0][3] == "worker"


def test_it_waits_again_when_the_head_is_gone_and_serves_the_next_one(
    pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod["answers"], pod["ends"] = [True, *[False] * 2000, True, True], [(0, False), (0, True)]

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 0.001
            return self.now

        def sleep(self, _seconds: float) -> None:
            pass

    monkeypatch.setattr(pod_worker, "time", Clock())
    assert pod_worker.main() == 0
    assert len(pod["started"]) == 2


@pytest.mark.parametrize(("status", "expected"), [(137, 137), (1, 1), (0, 1)])
def test_its_own_failure_is_for_kubernetes_to_mend_and_never_a_zero(
    pod: dict[str, Any], status: int, expected: int
) -> None:
    pod["answers"], pod["ends"] = [True, True], [(status, False)]
    assert pod_worker.main() == expected


def test_it_ends_when_the_head_was_lost_as_often_as_it_may_be_started(
    pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_worker, "_GONE", 0.0)
    # For each of three heads: it answers, has an address, is asked after Dask's end, and its name is gone.
    pod["answers"] = [True, False, False] * 3
    names = iter(["10.0.0.1", None, None] * 3)
    monkeypatch.setattr(pod_worker, "resolved", lambda _address: next(names))
    pod["ends"] = [(1, False)] * 3
    assert pod_worker.main() == 0
    assert len(pod["started"]) == 3


def test_a_scheduler_that_is_lost_in_a_pod_that_stays_is_waited_for(
    pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_worker, "_GONE", 0.0)
    pod["answers"] = [True, *[False, True, True] * 5]
    pod["ends"] = [*[(1, False)] * 5, (0, True)]
    assert pod_worker.main() == 0
    assert len(pod["started"]) == 6


def test_a_head_that_never_comes_is_given_up(pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "HEAD_PATIENCE", 0.01)
    assert pod_worker.main() == 1
    assert pod["started"] == []


def test_a_run_of_another_version_is_not_worked_for(pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(contract.VERSION_VARIABLE, "0")
    assert pod_worker.main() == contract.EXIT_RECORDED
    assert pod["started"] == []


def test_whether_somebody_answers_is_asked_of_the_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert pod_worker.answers(f"tls://127.0.0.1:{port}")
    assert not pod_worker.answers(f"tls://127.0.0.1:{port}")
    assert not pod_worker.answers("tls://no-such-host.invalid:8786")


def test_a_run_in_one_pod_starts_no_dask_of_its_own() -> None:
    dask = DaskProcesses({contract.PROFILE_VARIABLE: "{}"})
    assert dask.start() == {}
    assert not dask.running
