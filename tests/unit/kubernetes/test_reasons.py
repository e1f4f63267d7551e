"""The Job's conditions are those of k8s.io/kubernetes v1.34.4, pkg/controller/job/job_controller.go and
pod_failure_policy.go; their reasons stand in k8s.io/api, batch/v1/types.go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.events import RunEvent
from jupyter_mlops.kubernetes import contract
from jupyter_mlops.kubernetes.reasons import Reason, Stage, attempt, explain
from jupyter_mlops.states import FailureCode, RunState

from .objects import condition, dead, disrupted, event, gpus, job, node, running, unschedulable, waiting, workload

NOT_FOUND = "registry.example.org/team/train:1: not found"


def test_a_run_whose_job_is_gone_has_ended() -> None:
    found = explain(None)
    assert (found.stage, found.cause, found.code) == (Stage.FAILED, "gone", FailureCode.WORKER_DIED)


def test_a_job_that_is_being_deleted_is_a_cancelled_run() -> None:
    deleted = job()
    deleted["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    assert explain(deleted, pods=[running()]).run_state is RunState.CANCELLED


# ---- ended


@pytest.mark.parametrize(
    "ending",
    [
        condition("Complete", reason="CompletionsReached"),
        condition("SuccessCriteriaMet", reason="SuccessPolicy", message="Matched rules at index 0"),
    ],
)
def test_a_run_whose_notebook_is_done_has_succeeded_while_its_workers_still_end(ending: dict[str, Any]) -> None:
    found = explain(job(pods=2, conditions=[ending]), pods=[running(index=1)])
    assert (found.stage, found.run_state, found.code) == (Stage.SUCCEEDED, RunState.SUCCEEDED, None)


def failed(reason: str, message: str, kind: str = "Failed") -> dict[str, Any]:
    return job(conditions=[condition(kind, reason=reason, message=message)])


@pytest.mark.parametrize("kind", ["Failed", "FailureTarget"])
def test_a_notebook_that_failed_is_told_in_its_own_words(kind: str) -> None:
    recorded = RunEvent(
        state=RunState.FAILED, code=FailureCode.CELL_FAILED, message="Cell 3 failed: KeyError", hint="Look."
    )
    head = dead(
        "Error", contract.EXIT_RECORDED, json.dumps({**recorded.model_dump(), "time": recorded.time.isoformat()})
    )
    message = "Container run for pod team-a/x failed with exit code 91 matching FailJob rule at index 0"
    found = explain(failed("PodFailurePolicy", message, kind), pods=[head])
    assert (found.stage, found.code) == (Stage.FAILED, FailureCode.CELL_FAILED)
    assert (found.message, found.hint) == ("Cell 3 failed: KeyError", "Look.")
    assert f"PodFailurePolicy: {message}" in found.raw


def test_a_deadline_is_a_time_out() -> None:
    found = explain(failed("DeadlineExceeded", "Job was active longer than specified deadline"), pods=[running()])
    assert (found.cause, found.code) == ("deadline", FailureCode.RUN_TIMEOUT)
    assert "--timeout" in found.hint


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
        ("FailedIndexes", "Job has failed indexes"),
        ("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"),
    ],
)
def test_when_the_retries_are_used_up_the_last_death_is_told(reason: str, message: str) -> None:
    pods = [
        dead("Error", 1, created="2026-11-24T10:00:00Z"),
        dead("Error", 1, created="2026-11-24T10:10:00Z", failures=1),
        dead("OOMKilled", 137, created="2026-11-24T10:20:00Z", failures=2),
        dead("Error", 1, index=1, created="2026-11-24T10:30:00Z"),
    ]
    found = explain(failed(reason, message), pods=pods)
    assert (found.cause, found.code) == ("out_of_memory", FailureCode.OUT_OF_MEMORY)
    assert found.message.endswith("It was tried 3 times.")
    assert f"{reason}: {message}" in found.raw


@pytest.mark.parametrize("reason", ["BackoffLimitExceeded", "SomethingNew"])
def test_a_failure_whose_pods_are_gone_passes_through(reason: str) -> None:
    found = explain(failed(reason, "the text"))
    assert (found.stage, found.cause, found.code) == (Stage.FAILED, reason, FailureCode.WORKER_DIED)
    assert "the text" in found.message


def test_without_a_success_policy_a_lost_worker_does_not_undo_a_finished_notebook() -> None:
    pods = [{**running(), "status": {"phase": "Succeeded"}}, dead("OOMKilled", 137, index=1)]
    found = explain(failed("FailedIndexes", "Job has failed indexes"), pods=pods)
    assert found.stage is Stage.SUCCEEDED


# ---- queued


def test_a_workload_that_waits_is_told_with_its_place() -> None:
    mine = workload(condition("QuotaReserved", "False", "Pending", "x"))
    others = [mine, workload(uid="older", created="2026-11-24T08:00:00Z")]
    found = explain(job(suspend=True, queue="team-a"), workload=mine, workloads=others)
    assert (found.stage, found.run_state) == (Stage.QUEUED, RunState.PENDING)
    assert "team-a, position 2" in found.message


def test_a_queue_that_cannot_be_read_is_still_named() -> None:
    found = explain(job(suspend=True, queue="team-a"))
    assert found.stage is Stage.QUEUED
    assert "team-a" in found.message
    assert "Kueue" in found.hint


def test_a_run_that_was_let_through_and_is_not_released_yet_waits_no_more() -> None:
    found = explain(job(suspend=True, queue="team-a"), workload=workload(condition("Admitted")))
    assert (found.stage, found.cause) == (Stage.QUEUED, "admitted")


def test_a_job_that_we_hold_ourselves_is_starting() -> None:
    assert explain(job(suspend=True)).cause == "held"
    assert explain(job(pods=0)).cause == "held"


def test_a_job_that_was_never_released_says_so_and_not_that_it_took_too_long() -> None:
    failed = condition("Failed", reason="DeadlineExceeded", message="Job was active longer than specified deadline")
    assert explain(job(pods=0, conditions=[failed])).cause == "not_released"
    assert explain(job(conditions=[failed])).cause == "deadline"


def test_a_workload_that_was_admitted_leaves_the_word_to_the_pods() -> None:
    found = explain(job(queue="team-a"), workload=workload(condition("Admitted")), pods=[running()])
    assert found.stage is Stage.RUNNING


# ---- no pods


QUOTA = (
    'Error creating: pods "train-abc-0-kx2vq" is forbidden: exceeded quota: team-a, requested: requests.nvidia.com/gpu=2, '
    "used: requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4"
)


def test_a_job_without_pods_is_being_taken_up() -> None:
    found = explain(job())
    assert (found.stage, found.cause) == (Stage.STARTING, "accepted")


def test_a_quota_that_keeps_all_pods_out_is_told_with_who_has_it() -> None:
    asked = job()
    holders = [
        running(run="big", owner="bob", requests=gpus(4)),
        running(run="far", owner="eve", requests=gpus(4), namespace="team-b"),
    ]
    found = explain(asked, events=[event(asked, "FailedCreate", QUOTA, kind="Warning")], all_pods=holders)
    assert (found.stage, found.cause) == (Stage.PENDING, "quota")
    assert "the namespace 4 GPUs; in use: 4 GPUs" in found.message
    assert "run big of bob (4 GPUs)" in found.hint
    assert "eve" not in found.hint


def test_a_refusal_that_has_passed_is_not_told() -> None:
    asked = job()
    events = [event(asked, "FailedCreate", QUOTA, at=1), event(asked, "SuccessfulCreate", "Created pod: x", at=2)]
    assert explain(asked, events=events).cause == "accepted"
    assert explain(asked, pods=[running()], events=events[:1]).stage is Stage.RUNNING


def test_another_jobs_events_tell_nothing_of_this_one() -> None:
    other = job()
    other["metadata"]["uid"] = "another-uid"
    assert explain(job(), events=[event(other, "FailedCreate", QUOTA)]).cause == "accepted"


def test_between_two_attempts_there_may_be_no_pod() -> None:
    assert explain(job(failed=1)).cause == "retrying"


# ---- pending, starting, running


def test_gpus_in_use_are_told_with_the_run_that_must_end() -> None:
    asking = unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", requests=gpus(4))
    holder = running(run="big", owner="bob", requests=gpus(2))
    found = explain(job(), pods=[asking], nodes=[node(nvidia_com__gpu="4")], all_pods=[holder, asking])
    assert found.message == "The run asks for 4 GPUs on one node and 2 GPUs are free until the run big of bob ends."
    assert (found.stage, found.run_state) == (Stage.PENDING, RunState.PENDING)


def test_an_image_that_is_not_there_blocks() -> None:
    found = explain(job(), pods=[waiting("ErrImagePull", NOT_FOUND)])
    assert (found.cause, found.blocked) == ("image_not_found", True)


def test_a_run_of_one_pod_is_running() -> None:
    found = explain(job(), pods=[running()])
    assert (found.stage, found.cause, found.run_state) == (Stage.RUNNING, "running", RunState.RUNNING)


def test_while_the_notebook_runs_what_its_workers_lack_is_told_and_stops_nothing() -> None:
    pods = [running(), running(index=1), waiting("ErrImagePull", NOT_FOUND, index=2)]
    found = explain(job(pods=3), pods=pods)
    assert (found.stage, found.cause, found.blocked, found.code) == (Stage.RUNNING, "workers_missing", False, None)
    assert found.message.startswith("The run has 1 of its 2 worker pods. The image")


def test_workers_that_a_quota_keeps_out_are_told() -> None:
    asked = job(pods=3)
    found = explain(asked, pods=[running()], events=[event(asked, "FailedCreate", QUOTA)])
    assert (found.stage, found.cause) == (Stage.RUNNING, "workers_missing")
    assert found.message.startswith("The run has 0 of its 2 worker pods. The quota team-a")


def test_workers_without_trouble_are_not_worth_a_word() -> None:
    assert explain(job(pods=3), pods=[running(), running(index=1), running(index=2)]).cause == "running"


# ---- again


def test_a_disruption_is_told_with_the_attempt_that_follows() -> None:
    found = explain(job(), pods=[disrupted("EvictionByEvictionAPI", phase="Running")])
    assert (found.stage, found.code, found.run_state) == (Stage.PENDING, None, RunState.PENDING)
    assert found.message == (
        "The run was moved off its node, which is being drained. It is started again: attempt 2 of 3."
    )
    assert "not your code" in found.hint


def test_the_next_attempt_tells_what_happened_to_the_last() -> None:
    pods = [
        disrupted("DeletionByTaintManager", created="2026-11-24T10:00:00Z"),
        waiting("ContainerCreating", created="2026-11-24T10:05:00Z", disruptions=1),
    ]
    found = explain(job(), pods=pods)
    assert found.stage is Stage.STARTING
    assert found.message.startswith("The run lost its node")
    assert "Attempt 2 of 3: The run is starting" in found.message


def test_an_attempt_whose_predecessor_was_cleaned_up_still_has_its_number() -> None:
    found = explain(job(), pods=[waiting("ContainerCreating", disruptions=1, failures=1)])
    assert found.message.startswith("Attempt 3 of 3: ")


def test_failures_and_disruptions_count_together() -> None:
    assert attempt(job(retries=2), running(failures=1, disruptions=1)) == (3, 3)
    assert attempt(job(retries=0), running()) == (1, 1)
    assert attempt(job(), {"metadata": {"annotations": {"batch.kubernetes.io/job-index-failure-count": "x"}}}) == (1, 3)


def test_the_last_attempt_that_was_disrupted_ends_the_run() -> None:
    found = explain(job(retries=1), pods=[disrupted("PreemptionByScheduler", disruptions=1)])
    assert (found.stage, found.code) == (Stage.FAILED, FailureCode.EVICTED)
    assert found.message == "The run made way for more important work. That was attempt 2 of 2."


def test_out_of_memory_is_tried_again_and_says_what_it_took() -> None:
    found = explain(job(retries=2), pods=[dead("OOMKilled", 137)])
    assert (found.stage, found.cause) == (Stage.PENDING, "out_of_memory")
    assert "128 GiB" in found.message
    assert "attempt 2 of 3" in found.message


def test_a_recorded_end_is_never_called_another_attempt() -> None:
    found = explain(job(), pods=[dead("Error", contract.EXIT_RECORDED, "")])
    assert (found.stage, found.cause) == (Stage.FAILED, "recorded")
    assert "attempt" not in found.message


def test_a_living_pod_counts_more_than_a_younger_dead_one() -> None:
    pods = [running(created="2026-11-24T10:00:00Z"), dead("Error", 1, created="2026-11-24T10:01:00Z")]
    assert explain(job(), pods=pods).stage is Stage.RUNNING


# ---- whatever comes


@pytest.mark.parametrize(
    "strange", [{}, {"metadata": {}}, {"spec": {}, "status": {}}, {"status": {"conditions": None}}]
)
def test_a_job_with_holes_is_no_fault(strange: dict[str, Any]) -> None:
    assert explain(strange).message


words = st.text(max_size=30) | st.sampled_from(
    ["Failed", "Unschedulable", "ErrImagePull", "CreateContainerConfigError", "OOMKilled", "Evicted", "FailedMount",
     "DisruptionTarget", "PodScheduled", "FailedCreate", QUOTA, NOT_FOUND, "0/3 nodes are available: 1 Insufficient cpu."]
)  # fmt: skip
conditions = st.builds(condition, words, st.sampled_from(["True", "False", "Unknown"]), words, words)
states = st.sampled_from(["waiting", "running", "terminated"])
containers = st.builds(
    lambda kind, reason, message, code: {"state": {kind: {"reason": reason, "message": message, "exitCode": code}}},
    states, words, words, st.integers(0, 255),
)  # fmt: skip
phases = st.sampled_from(["Pending", "Running", "Failed", "Succeeded", "Unknown"])


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    from .objects import pod

    return pod(
        index=draw(st.integers(0, 2)), phase=draw(phases), node=draw(st.none() | st.just("node-1")),
        container=draw(st.none() | containers), conditions=draw(st.lists(conditions, max_size=2)), reason=draw(words),
        message=draw(words), failures=draw(st.integers(0, 3)),
    )  # fmt: skip


@given(
    job_conditions=st.lists(conditions, max_size=2),
    found_pods=st.lists(pods(), max_size=3),
    told=st.lists(st.tuples(words, words), max_size=3),
    seen=st.booleans(),
)
def test_whatever_is_read_there_is_a_sentence_and_a_failure_has_a_code(
    job_conditions: list[dict[str, Any]], found_pods: list[dict[str, Any]], told: list[tuple[str, str]], seen: bool
) -> None:
    asked = job(pods=3, conditions=job_conditions)
    events = [event(about, *each) for about in (asked, *found_pods) for each in told]
    nodes = [node(nvidia_com__gpu="4")] if seen else None
    found = explain(asked, pods=found_pods, events=events, nodes=nodes, all_pods=found_pods if seen else None)
    assert isinstance(found, Reason)
    assert found.message.strip()
    assert (found.stage is Stage.FAILED) == (found.code is not None)
    assert found.run_state in RunState
