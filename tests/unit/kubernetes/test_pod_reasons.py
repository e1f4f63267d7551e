"""The texts are those of v1.34.4; each row says where from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jupyter_mlops.events import RunEvent
from jupyter_mlops.kubernetes import contract
from jupyter_mlops.kubernetes.nodes import node_uses
from jupyter_mlops.kubernetes.pod_reasons import death, explain_pod, pod_index
from jupyter_mlops.kubernetes.reason import Stage
from jupyter_mlops.states import FailureCode, RunState

from .objects import IMAGE, condition, dead, disrupted, event, node, pod, running, unschedulable, waiting


def test_a_pod_without_a_word_waits_for_the_kube_scheduler() -> None:
    found = explain_pod(pod(node=None))
    assert (found.stage, found.cause) == (Stage.PENDING, "scheduling")


def test_a_pod_that_a_queue_holds_says_so() -> None:
    # pkg/scheduler/framework/plugins/schedulinggates; the reason is PodReasonSchedulingGated of k8s.io/api
    found = explain_pod(unschedulable("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated"))
    assert (found.stage, found.cause, found.blocked) == (Stage.QUEUED, "gated", False)


def test_a_pod_for_which_a_node_is_being_added_waits_for_it() -> None:
    # cluster-autoscaler, processors/status/eventing_scale_up_processor.go
    asking = unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    events = [event(asking, "TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 0->1 (max: 4)}]")]
    found = explain_pod(asking, events)
    assert (found.stage, found.cause, found.blocked) == (Stage.PENDING, "scaling_up", False)


def test_a_fault_of_the_kube_scheduler_passes_through() -> None:
    found = explain_pod(unschedulable("binding rejected: the moon", "SchedulerError"))
    assert found.cause == "SchedulerError"
    assert "binding rejected: the moon" in found.message


def test_a_slow_pull_is_no_fault_while_pulling_is_the_last_event() -> None:
    slow = waiting("ContainerCreating")
    events = [
        event(slow, "Scheduled", "Successfully assigned team-a/x to node-1", at=0),
        event(slow, "Pulling", f'Pulling image "{IMAGE}"', at=1),
    ]
    found = explain_pod(slow, events)
    assert (found.stage, found.cause, found.blocked) == (Stage.PULLING, "pulling", False)
    assert found.message == f"The image {IMAGE} is being pulled to the node node-1."
    after = [*events, event(slow, "Pulled", f'Successfully pulled image "{IMAGE}" in 9m', at=550)]
    assert explain_pod(slow, after).stage is Stage.STARTING


def test_another_pods_events_tell_nothing_of_this_one() -> None:
    mine, other = waiting("ContainerCreating"), waiting("ContainerCreating")
    assert explain_pod(mine, [event(other, "Pulling", 'Pulling image "x"')]).stage is Stage.STARTING


def test_an_image_that_does_not_come_is_explained() -> None:
    found = explain_pod(waiting("ErrImagePull", f"{IMAGE}: not found"))
    assert (found.stage, found.cause, found.blocked) == (Stage.PENDING, "image_not_found", True)


def test_a_container_that_somebody_put_in_is_looked_at_too() -> None:
    stuck = waiting("PodInitializing")
    stuck["status"]["initContainerStatuses"] = [
        {
            "name": "vault",
            "image": "vault:9",
            "state": {"waiting": {"reason": "ErrImagePull", "message": "vault:9: not found"}},
        }
    ]
    assert "The image vault:9 does not exist" in explain_pod(stuck).message


def test_a_running_pod_says_where() -> None:
    found = explain_pod(running())
    assert (found.stage, found.message) == (Stage.RUNNING, "The run is running on the node node-1.")


def test_a_worker_is_told_from_the_run() -> None:
    assert explain_pod(running(index=2)).message.startswith("Worker pod 2 is running")
    assert pod_index(running(index=2)) == 2
    assert pod_index({"metadata": {"labels": {"batch.kubernetes.io/job-completion-index": "3"}}}) == 3
    assert pod_index({}) == 0


def test_a_node_that_does_not_answer_is_told_before_its_pod_is_lost() -> None:
    nodes = node_uses([node(ready=False)], [])
    found = explain_pod(running(), nodes=nodes)
    assert (found.stage, found.cause, found.code) == (Stage.RUNNING, "node_away", None)
    assert "node-1" in found.message
    assert explain_pod(running(), nodes=node_uses([node(closed=True)], [])).cause == "running"


def test_a_container_that_cannot_be_made_passes_through() -> None:
    # pkg/kubelet/kuberuntime/kuberuntime_container.go: ErrCreateContainer
    found = explain_pod(
        waiting("CreateContainerError", "nvidia-container-cli: initialization error: driver not loaded")
    )
    assert (found.stage, found.cause) == (Stage.STARTING, "CreateContainerError")
    assert "driver not loaded" in found.message


# ---- deaths


def test_a_notebook_that_failed_tells_itself_why() -> None:
    event_ = RunEvent(
        state=RunState.FAILED, code=FailureCode.CELL_FAILED, message="Cell 3 failed: KeyError", hint="Look."
    )
    line = json.dumps({**event_.model_dump(), "time": event_.time.isoformat()})
    found = death(dead("Error", contract.EXIT_RECORDED, f"some output\n{line}\n"))
    assert (found.stage, found.code) == (Stage.FAILED, FailureCode.CELL_FAILED)
    assert (found.message, found.hint) == ("Cell 3 failed: KeyError", "Look.")


def test_a_run_that_was_cancelled_inside_is_cancelled_outside() -> None:
    event_ = RunEvent(state=RunState.CANCELLED, code=FailureCode.CANCELLED, message="Cancelled by bob.")
    line = json.dumps({**event_.model_dump(), "time": event_.time.isoformat()})
    assert death(dead("Error", contract.EXIT_RECORDED, line)).run_state is RunState.CANCELLED


@pytest.mark.parametrize("message", ["", "not json", "{}", '{"type":"run","state":"running"}', '{"type": "run'])
def test_a_record_that_cannot_be_read_is_still_no_death(message: str) -> None:
    found = death(dead("Error", contract.EXIT_RECORDED, message))
    assert (found.stage, found.cause, found.raw) == (Stage.FAILED, "recorded", message)


def test_a_record_goes_before_a_disruption() -> None:
    both = dead(
        "Error", contract.EXIT_RECORDED, conditions=[condition("DisruptionTarget", reason="EvictionByEvictionAPI")]
    )
    assert death(both).cause == "recorded"


def test_out_of_main_memory_names_the_limit_and_says_that_it_was_not_the_gpu() -> None:
    # The runtime's reason; pkg/kubelet/kuberuntime/helpers.go
    found = death(dead("OOMKilled", 137))
    assert found.message == "The run used all of its 128 GiB of main memory (not GPU memory) and was ended."
    assert found.code is FailureCode.OUT_OF_MEMORY
    assert "--memory" in found.hint
    assert "its node had" in death(dead("OOMKilled", 137, requests={})).message
    assert death(dead("OOMKilled", 137, index=2)).message.startswith("Worker pod 2 used all")


@pytest.mark.parametrize(
    ("reason", "cause", "words"),
    [
        # pkg/scheduler/framework/preemption/preemption.go
        ("PreemptionByScheduler", "preempted", "made way for more important work"),
        # pkg/controller/tainteviction/taint_eviction.go
        ("DeletionByTaintManager", "node_lost", "lost its node"),
        # pkg/registry/core/pod/storage/eviction.go
        ("EvictionByEvictionAPI", "drained", "being drained"),
        # pkg/controller/podgc/gc_controller.go
        ("DeletionByPodGC", "node_lost", "lost its node"),
        # pkg/kubelet/nodeshutdown/nodeshutdown_manager.go, preemption/preemption.go
        ("TerminationByKubelet", "evicted", "ended by its node"),
        ("SomethingNew", "SomethingNew", "was disturbed: the text"),
    ],
)
@pytest.mark.parametrize("phase", ["Running", "Failed"])
def test_a_disruption_is_nobodys_fault_and_told_while_the_pod_still_ends(
    phase: str, reason: str, cause: str, words: str
) -> None:
    found = explain_pod(disrupted(reason, "the text", phase=phase))
    assert (found.stage, found.cause, found.code) == (Stage.FAILED, cause, FailureCode.EVICTED)
    assert words in found.message
    assert found.raw == f"{reason}: the text"
    assert "not your code" in found.hint


def test_a_disruption_goes_before_the_exit_code_that_it_led_to() -> None:
    killed = dead("Error", 143, conditions=[condition("DisruptionTarget", reason="EvictionByEvictionAPI")])
    assert death(killed).cause == "drained"


@pytest.mark.parametrize(
    ("message", "cause", "code", "words"),
    [
        # pkg/kubelet/eviction/helpers.go: nodeLowMessageFmt, thresholdMetMessageFmt, containerMessageFmt
        ("The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. Container run was using 4Gi, "
         "request is 2Gi, has larger consumption of memory. ", "evicted", FailureCode.EVICTED, "ran short of memory"),
        ("The node was low on resource: ephemeral-storage. ", "evicted", FailureCode.EVICTED,
         "ran short of ephemeral-storage"),
        ("The node had condition: [DiskPressure]. ", "evicted", FailureCode.EVICTED, "ended by its node"),
        # podEphemeralStorageMessageFmt, containerEphemeralStorageMessageFmt, emptyDirMessageFmt
        ("Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ", "disk_full",
         FailureCode.DISK_FULL, "wrote more to the node's disk"),
        ('Container run exceeded its local ephemeral storage limit "10Gi". ', "disk_full", FailureCode.DISK_FULL, "disk"),
        ('Usage of EmptyDir volume "spill" exceeds the limit "100Gi". ', "disk_full", FailureCode.DISK_FULL, "disk"),
        ('Usage of EmptyDir volume "shm" exceeds the limit "8Gi". ', "shm_full", FailureCode.OUT_OF_MEMORY,
         "more than the 8 GiB of /dev/shm"),
    ],
)  # fmt: skip
def test_an_eviction_tells_whose_fault_it_was(message: str, cause: str, code: FailureCode, words: str) -> None:
    found = death(pod(phase="Failed", reason="Evicted", message=message))
    assert (found.cause, found.code) == (cause, code)
    assert words in found.message


@pytest.mark.parametrize(
    ("reason", "message", "cause", "code"),
    [
        # pkg/util/node/node.go
        ("NodeLost", "Node node-1 which was running pod x is unresponsive", "node_lost", FailureCode.EVICTED),
        # pkg/kubelet/nodeshutdown/nodeshutdown_manager.go
        ("Terminated", "Pod was terminated in response to imminent node shutdown.", "node_shutdown", FailureCode.EVICTED),
        ("NodeShutdown", "Pod was rejected as the node is shutting down.", "node_shutdown", FailureCode.EVICTED),
        # pkg/kubelet/preemption/preemption.go
        ("Preempting", "Preempted in order to admit critical pod", "preempted", FailureCode.EVICTED),
        # pkg/kubelet/lifecycle/predicate.go
        ("OutOfcpu", "Node didn't have enough resource: cpu, requested: 8000, used: 60000, capacity: 64000", "node_full",
         FailureCode.EVICTED),
        ("OutOfnvidia.com/gpu", "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, requested: 1, used: "
         "4, capacity: 4", "node_full", FailureCode.EVICTED),
        ("UnexpectedAdmissionError", "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices "
         "nvidia.com/gpu, which is unexpected", "node_refused", FailureCode.EVICTED),
        ("NodeAffinity", "Predicate NodeAffinity failed", "node_changed", FailureCode.EVICTED),
        # pkg/kubelet/active_deadline.go
        ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", "deadline",
         FailureCode.RUN_TIMEOUT),
        ("SomethingNew", "the text", "SomethingNew", FailureCode.WORKER_DIED),
    ],
)  # fmt: skip
def test_what_the_node_said_of_the_pod_is_told(reason: str, message: str, cause: str, code: FailureCode) -> None:
    found = death(pod(phase="Failed", reason=reason, message=message))
    assert (found.cause, found.code) == (cause, code)
    assert found.raw == f"{reason}: {message}"
    assert found.hint


@pytest.mark.parametrize(
    ("reason", "code", "message", "cause", "failure", "words"),
    [
        # containerd's words of runc's; the reason is containerd's, and ContainerCannotRun was dockershim's
        ("StartError", 128, 'failed to create containerd task: failed to create shim task: OCI runtime create failed: runc '
         'create failed: unable to start container process: exec: "python": executable file not found in $PATH: unknown',
         "start", FailureCode.NOT_STARTED, "the image has no python"),
        ("ContainerCannotRun", 127, "nvidia-container-cli: initialization error: driver error: unknown", "start",
         FailureCode.NOT_STARTED, "driver error"),
        # Python's own, in the message by terminationMessagePolicy FallbackToLogsOnError
        ("Error", 1, "/usr/bin/python: No module named jupyter_mlops", "image_without_product", FailureCode.NOT_STARTED,
         "lacks jupyter-mlops"),
        ("Error", 1, "/usr/bin/python: Error while finding module specification for 'jupyter_mlops.kubernetes.pod' "
         "(ModuleNotFoundError: No module named 'jupyter_mlops')", "image_without_product", FailureCode.NOT_STARTED,
         "lacks jupyter-mlops"),
        ("Error", 1, "Traceback", "died", FailureCode.WORKER_DIED, "exit code 1"),
        ("Error", 139, "", "died", FailureCode.WORKER_DIED, "signal SIGSEGV"),
        ("Error", 137, "", "died", FailureCode.WORKER_DIED, "it was killed"),
        # pkg/kubelet/kubelet_pods.go, container/runtime.go
        ("ContainerStatusUnknown", 137, "The container could not be located when the pod was deleted.  The container used "
         "to be Running", "node_lost", FailureCode.EVICTED, "does not know what became of it"),
    ],
)  # fmt: skip
def test_a_death_tells_how(reason: str, code: int, message: str, cause: str, failure: FailureCode, words: str) -> None:
    found = death(dead(reason, code, message))
    assert (found.stage, found.cause, found.code) == (Stage.FAILED, cause, failure)
    assert words in found.message
    assert found.hint


def test_a_sidecar_that_died_is_told_where_our_container_says_nothing() -> None:
    strange = pod(phase="Failed")
    strange["status"]["containerStatuses"] = [
        {"name": "proxy", "state": {"terminated": {"exitCode": 3, "reason": "Error", "message": "proxy: no config"}}}
    ]
    found = death(strange)
    assert "exit code 3" in found.message
    assert "no config" in found.raw


def test_a_failure_without_any_word_is_still_one() -> None:
    found = death(pod(phase="Failed"))
    assert (found.code, found.cause) == (FailureCode.WORKER_DIED, "unknown")


@pytest.mark.parametrize("strange", [{}, {"status": {}}, {"metadata": {}, "spec": {}, "status": {"phase": "Unknown"}}])
def test_an_object_with_holes_is_no_fault(strange: dict[str, Any]) -> None:
    assert explain_pod(strange).message
