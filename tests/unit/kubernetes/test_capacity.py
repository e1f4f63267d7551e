from __future__ import annotations

from typing import Any

from jupyter_mlops.kubernetes.capacity import Kind, capacity, quota_left

from .objects import condition, gpus, node, pod, running, workload

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
A30 = {"nvidia.com/gpu.product": "NVIDIA-A30"}
GPU = "nvidia.com/gpu"


def quota(hard: int, used: int, **spec: Any) -> dict[str, Any]:
    amounts = {"hard": {"requests.nvidia.com/gpu": str(hard), "pods": "50"}}
    return {"spec": {**amounts, **spec}, "status": {**amounts, "used": {"requests.nvidia.com/gpu": str(used)}}}


def kinds(**given: Any) -> dict[tuple[str, str], Kind]:
    found = capacity(**{"nodes": None, "pods": None, **given})
    return {(kind.resource, kind.product): kind for kind in found.kinds}


NODES = [node("a", nvidia_com__gpu="4", labels=H100), node("b", nvidia_com__gpu="4", labels=H100),
         node("c", nvidia_com__gpu="2", labels=A30), node("d")]  # fmt: skip
PODS = [
    running(index=0, run="big", owner="ann", node="a", requests=gpus(2)),
    running(index=1, run="big", owner="ann", node="b", requests=gpus(3)),
    running(run=None, name="web", namespace="shop", node="a", requests=gpus(1)),
    pod(node=None, run="next", requests=gpus(2)),
]


def test_every_kind_tells_what_there_is_and_who_has_it() -> None:
    found = kinds(nodes=NODES, pods=PODS)
    h100 = found[GPU, H100["nvidia.com/gpu.product"]]
    assert (h100.total, h100.free, h100.largest, h100.largest_ever, h100.queued) == (8, 2, 1, 4, 2)
    assert [(str(use.holder), use.count) for use in h100.uses] == [("run big of ann", 5), ("pod shop/web", 1)]
    a30 = found[GPU, "NVIDIA-A30"]
    assert (a30.total, a30.free, a30.largest, a30.uses) == (2, 2, 2, ())
    assert set(found) == {(GPU, H100["nvidia.com/gpu.product"]), (GPU, "NVIDIA-A30")}


def test_slices_are_kinds_of_their_own() -> None:
    sliced = node("m", nvidia_com__gpu="0", nvidia_com__mig="0", labels=H100)
    sliced["status"]["allocatable"] |= {"nvidia.com/mig-3g.40gb": "2", "nvidia.com/mig-1g.10gb": "1"}
    taken = running(node="m", requests={"nvidia.com/mig-3g.40gb": "1"})
    found = kinds(nodes=[sliced], pods=[taken])
    product = H100["nvidia.com/gpu.product"]
    assert found["nvidia.com/mig-3g.40gb", product].free == 1
    assert found["nvidia.com/mig-1g.10gb", product].free == 1
    assert (GPU, product) not in found


def test_a_node_that_takes_no_pods_has_nothing_to_give() -> None:
    found = kinds(nodes=[node(nvidia_com__gpu="4", closed=True)], pods=[])[GPU, ""]
    assert (found.total, found.free, found.largest, found.largest_ever) == (0, 0, 0, 4)


def test_the_quota_bounds_what_one_could_have() -> None:
    found = kinds(nodes=NODES, pods=[], quotas=[quota(4, 3)])[GPU, "NVIDIA-A30"]
    assert (found.quota, found.quota_left, found.largest, found.free) == (4, 1, 1, 2)


def test_without_a_sight_of_the_nodes_the_quota_is_what_is_known() -> None:
    found = capacity(nodes=None, pods=None, quotas=[quota(4, 1)])
    assert found.missing == ("nodes", "pods", "queues")
    assert found.kinds == (Kind(resource=GPU, product="", largest=3, quota=4, quota_left=3),)


def test_without_a_sight_of_the_pods_nobody_knows_what_is_free() -> None:
    found = kinds(nodes=NODES, pods=None)[GPU, "NVIDIA-A30"]
    assert (found.total, found.free, found.largest, found.largest_ever, found.queued) == (2, None, None, 2, None)


def test_without_a_sight_of_others_pods_those_of_the_namespace_are_told() -> None:
    found = kinds(nodes=NODES, pods=None, own_pods=PODS[:1])[GPU, H100["nvidia.com/gpu.product"]]
    assert (found.total, found.free, found.largest, found.queued) == (8, None, None, 0)
    assert [(str(use.holder), use.count) for use in found.uses] == [("run big of ann", 2)]


def test_without_a_sight_of_the_nodes_the_pods_tell_who_has_what() -> None:
    found = kinds(own_pods=PODS)[GPU, ""]
    assert (found.total, found.free, found.largest, found.queued) == (None, None, None, 2)
    assert [(str(use.holder), use.count) for use in found.uses] == [("run big of ann", 5), ("pod shop/web", 1)]


def test_without_a_sight_of_anything_nothing_is_claimed() -> None:
    found = capacity(nodes=None, pods=None)
    assert (found.kinds, found.missing) == ((), ("nodes", "pods", "quotas", "queues"))


def test_what_waits_in_a_queue_counts_where_it_would_go() -> None:
    def asking(selector: dict[str, str], *conditions: dict[str, Any], pods: int = 1) -> dict[str, Any]:
        found = workload(*conditions, requests=gpus(1), pods=pods)
        found["spec"]["podSets"][0]["template"]["spec"]["nodeSelector"] = selector
        return found

    workloads = [
        asking(A30, pods=2),
        asking({}),
        asking(H100, condition("QuotaReserved")),
        asking(H100, condition("Finished")),
    ]
    found = kinds(nodes=NODES, pods=[], workloads=workloads)
    assert found[GPU, "NVIDIA-A30"].queued == 3
    assert found[GPU, H100["nvidia.com/gpu.product"]].queued == 1


def test_the_narrowest_quota_counts_and_one_for_some_pods_only_does_not() -> None:
    quotas = [quota(8, 1), quota(4, 2), quota(1, 1, scopes=["BestEffort"]),
              quota(1, 1, scopeSelector={"matchExpressions": []})]  # fmt: skip
    assert quota_left(quotas, GPU) == 2
    assert quota_left(quotas, "amd.com/gpu") is None
    assert quota_left([quota(1, 3)], GPU) == 0


def test_a_resource_of_a_maker_we_do_not_know_counts_where_it_is_named() -> None:
    here = node()
    here["status"]["allocatable"]["example.com/npu"] = "2"
    assert kinds(nodes=[here], pods=[]) == {}
    assert kinds(nodes=[here], pods=[], resources=["example.com/npu"])["example.com/npu", ""].free == 2
