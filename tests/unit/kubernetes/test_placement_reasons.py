"""The texts are those of the kube-scheduler v1.34.4: FitError.Error in k8s.io/kubernetes, pkg/scheduler/framework/types.go,
around the reasons of the plugins in pkg/scheduler/framework/plugins; each row says which."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.kubernetes.nodes import node_uses
from jupyter_mlops.kubernetes.placement_reasons import parse_verdict, unschedulable
from jupyter_mlops.kubernetes.reason import Reason, Stage

from .objects import gpus, node, pod, running

# plugins/dynamicresources/dynamicresources.go (from 1.32 on) and plugins/defaultpreemption/default_preemption.go
NO_VICTIMS = (
    "no new claims to deallocate, preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No "
    "preemption victims found for incoming pod."
)
# plugins/noderesources/fit.go
NO_GPU = f"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu. {NO_VICTIMS}"
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


def look(message: str, wants: Any = None, nodes: Any = None, others: Any = None, **spec: Any) -> Reason:
    asking = pod(node=None, requests=gpus(4) if wants is None else wants, spec=spec)
    uses = None if nodes is None else node_uses(nodes, others or ())
    found = unschedulable(asking, message, nodes=uses, pods_known=others is not None)
    assert (found.stage, found.raw, found.code) == (Stage.PENDING, message, None)
    return found


@pytest.mark.parametrize(
    ("message", "nodes", "reasons", "claim"),
    [
        (NO_GPU, 3, {"node(s) had untolerated taint(s)": 1, "Insufficient nvidia.com/gpu": 2}, ""),
        ("0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.", 1,
         {"Insufficient cpu": 1, "Insufficient memory": 1}, ""),
        # as a real 1.34 says it
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/1 nodes are "
         "available: 1 Preemption is not helpful for scheduling.", 1, {"Insufficient nvidia.com/gpu": 1}, ""),
        # plugins/tainttoleration/taint_toleration.go up to 1.33, and before 1.32 without claims
        ("0/2 nodes are available: 2 node(s) had untolerated taint {team: b}. preemption: 0/2 nodes are available: 2 "
         "Preemption is not helpful for scheduling.", 2, {"node(s) had untolerated taint {team: b}": 2}, ""),
        # plugins/volumebinding/volume_binding.go: a PreFilter message
        ('0/3 nodes are available: persistentvolumeclaim "data" not found. preemption: 0/3 nodes are available: 3 '
         "Preemption is not helpful for scheduling.", 3, {}, 'persistentvolumeclaim "data" not found'),
        ("0/0 nodes are available: .", 0, {}, ""),
        ("0/2 nodes are available: 2 a reason, with a comma.", 2, {"a reason, with a comma": 2}, ""),
    ],
)  # fmt: skip
def test_the_kube_schedulers_words_are_read(message: str, nodes: int, reasons: dict[str, int], claim: str) -> None:
    found = parse_verdict(message)
    assert found is not None
    assert (found.nodes, found.reasons, found.claim) == (nodes, reasons, claim)


@given(st.text())
def test_other_words_are_never_a_fault(text: str) -> None:
    parse_verdict(text)
    parse_verdict(f"0/3 nodes are available: {text}")


def test_gpus_in_use_are_said_with_the_run_that_must_end() -> None:
    nodes = [node("a", nvidia_com__gpu="4", labels=H100), node("b", nvidia_com__gpu="4", labels=H100)]
    others = [
        running(run="big", owner="bob", node="a", requests=gpus(4)),
        running(run="small", owner="eve", node="b", requests=gpus(2)),
    ]
    found = look(NO_GPU, nodes=nodes, others=others)
    assert found.message == "The run asks for 4 GPUs on one node and 2 GPUs are free until the run small of eve ends."
    assert found.hint == (
        "It starts by itself as soon as there is a place. Ask for at most 2 GPUs (--gpus) to start now."
    )
    assert (found.cause, found.blocked) == ("insufficient", False)


def test_the_smallest_run_that_makes_room_is_named() -> None:
    nodes = [node(nvidia_com__gpu="8", labels=H100)]
    others = [
        running(run="big", owner="bob", requests=gpus(5)),
        running(run="small", owner="eve", requests=gpus(2)),
    ]
    found = look(NO_GPU, wants=gpus(2), nodes=nodes, others=others)
    assert found.message == "The run asks for 2 GPUs on one node and 1 GPU is free until the run small of eve ends."


def test_where_no_single_run_makes_room_several_are_named() -> None:
    nodes = [node(nvidia_com__gpu="4", labels=H100)]
    others = [running(run=name, owner="bob", requests=gpus(2)) for name in ("one", "two")]
    found = look(NO_GPU, nodes=nodes, others=others)
    assert found.message == (
        "The run asks for 4 GPUs on one node and 0 GPUs are free until the run one of bob and the run two of bob end."
    )
    assert "to start now" not in found.hint


def test_somebody_elses_pod_is_named_as_such() -> None:
    nodes = [node(nvidia_com__gpu="4")]
    others = [running(run=None, name="web", namespace="shop", requests=gpus(4))]
    assert "until the pod shop/web ends" in look(NO_GPU, nodes=nodes, others=others).message


def test_what_ended_or_waits_holds_nothing() -> None:
    nodes = [node(nvidia_com__gpu="4")]
    others = [
        pod(phase="Succeeded", requests=gpus(4)),
        pod(node=None, requests=gpus(4)),
        running(run="b", owner="bob", requests=gpus(3)),
    ]
    assert "1 GPU is free until the run b of bob ends" in look(NO_GPU, nodes=nodes, others=others).message


def test_more_than_the_largest_node_has_can_never_start() -> None:
    nodes = [node("a", nvidia_com__gpu="4"), node("b", nvidia_com__gpu="2")]
    found = look(NO_GPU, wants=gpus(8), nodes=nodes, others=[])
    assert found.message == "The run asks for 8 GPUs on one node, and the largest node has 4 GPUs."
    assert found.hint == "Ask for at most 4 GPUs (--gpus), or use a profile with more pods."
    assert (found.cause, found.blocked) == ("too_large", True)


def test_nodes_that_may_not_take_the_run_do_not_count() -> None:
    nodes = [
        node("tainted", nvidia_com__gpu="8", taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}]),
        node("elsewhere", nvidia_com__gpu="8", labels={"site": "x"}),
        node("closed", nvidia_com__gpu="8", closed=True, labels={"site": "y"}),
        node("down", nvidia_com__gpu="8", ready=False, labels={"site": "y"}),
        node("mine", nvidia_com__gpu="2", labels={"site": "y"}),
    ]
    found = look(NO_GPU, nodes=nodes, others=[], nodeSelector={"site": "y"})
    assert "the largest node has 2 GPUs" in found.message


def test_the_resource_that_can_never_fit_is_told_before_the_one_that_is_in_use() -> None:
    nodes = [node(cpu="8", memory="64Gi")]
    message = f"0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. {NO_VICTIMS}"
    found = look(
        message, wants={"cpu": "16", "memory": "32Gi"}, nodes=nodes, others=[running(requests={"memory": "48Gi"})]
    )
    assert found.message == "The run asks for 16 CPU cores on one node, and the largest node has 8 CPU cores."
    assert "--cpus" in found.hint


def test_without_a_sight_of_the_nodes_the_request_is_still_told() -> None:
    found = look(NO_GPU)
    assert found.message == "The run asks for 4 GPUs on one node, and no node has so much free."
    assert "--gpus" in found.hint
    assert not found.blocked


def test_without_a_sight_of_the_pods_nothing_is_claimed_about_them() -> None:
    found = look(NO_GPU, nodes=[node(nvidia_com__gpu="8")])
    assert found.message == "The run asks for 4 GPUs on one node, and no node has so much free."


def test_a_label_that_no_node_has_blocks() -> None:
    # plugins/nodeaffinity/node_affinity.go
    message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    selector = {"nvidia.com/gpu.product": "H200", "site": "y"}
    found = look(message, nodes=[node(labels={"site": "y"}), node("b")], nodeSelector=selector)
    assert found.message == "No node has the label nvidia.com/gpu.product=H200 of the profile."
    assert (found.cause, found.blocked) == ("no_such_node", True)
    assert "No node that takes the run has the labels" in look(message, nodeSelector=selector).message


@pytest.mark.parametrize(
    ("message", "nodes", "named"),
    [
        ("0/1 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: present}.", None,
         " (nvidia.com/gpu=present)"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {maintenance: }.", None, " (maintenance)"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", None, ""),
        # from 1.34 on only the nodes tell which
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).",
         [node(taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}, {"key": "known", "effect": "NoSchedule"}])],
         " (team=b)"),
    ],
)  # fmt: skip
def test_reserved_nodes_are_told_with_their_taints(message: str, nodes: Any, named: str) -> None:
    found = look(message, nodes=nodes, tolerations=[{"key": "known", "operator": "Exists"}])
    assert found.message == f"The nodes that would fit are reserved{named}."
    assert (found.cause, found.blocked) == ("tainted", True)


@pytest.mark.parametrize(
    ("message", "nodes"),
    [
        # plugins/nodeunschedulable/node_unschedulable.go
        ("0/1 nodes are available: 1 node(s) were unschedulable.", None),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.", None),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).",
         [node(ready=False, taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}])]),
    ],
)  # fmt: skip
def test_nodes_that_are_away_come_back(message: str, nodes: Any) -> None:
    found = look(message, nodes=nodes)
    assert (found.cause, found.blocked) == ("nodes_away", False)


@pytest.mark.parametrize(
    ("message", "cause", "words", "blocked"),
    [
        ('0/3 nodes are available: persistentvolumeclaim "data" not found.', "volume_claim",
         "The volume claim data of the run does not exist.", True),
        ('0/3 nodes are available: persistentvolumeclaim "data" is being deleted.', "volume_claim",
         "The volume claim data of the run is being deleted.", True),
        # plugins/volumebinding/binder.go
        ("0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind.", "volume", "volume", True),
        ("0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity.", "volume", "volume", True),
        # plugins/volumebinding/volume_binding.go
        ("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "Unschedulable",
         "No node takes the run: pod has unbound immediate PersistentVolumeClaims.", False),
        # plugins/dynamicresources/dynamicresources.go
        ("0/3 nodes are available: 3 cannot allocate all claims.", "device_claim", "cannot allocate all claims", False),
        # plugins/interpodaffinity/filtering.go: passes through
        ("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.", "Unschedulable",
         "No node takes the run: node(s) didn't match pod anti-affinity rules.", False),
        ("no nodes available to schedule pods", "Unschedulable", "no nodes available", False),
        ("the moon is in the wrong phase", "Unschedulable", "the moon is in the wrong phase", False),
    ],
)  # fmt: skip
def test_the_rest_is_told_or_passes_through(message: str, cause: str, words: str, blocked: bool) -> None:
    found = look(message)
    assert (found.cause, found.blocked) == (cause, blocked)
    assert words in found.message
    assert found.hint
