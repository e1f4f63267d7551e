from decimal import Decimal

import pytest

from jupyter_mlops.kubernetes.nodes import holders_of, node_uses, pod_requests

from .objects import gpus, node, pod, running


def test_a_pod_asks_for_the_sum_of_its_containers_or_the_largest_of_its_init_containers() -> None:
    # The cases of PodRequests in k8s.io/component-helpers, resource/helpers.go.
    spec = {
        "containers": [
            {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
            {"resources": {"limits": {"cpu": "500m", "nvidia.com/gpu": "2"}}},
        ],
        "initContainers": [
            {"resources": {"requests": {"cpu": "250m"}}, "restartPolicy": "Always"},
            {"resources": {"requests": {"cpu": "1", "memory": "4Gi"}}},
        ],
        "overhead": {"cpu": "10m"},
    }
    assert pod_requests(spec) == {
        "cpu": Decimal("1.76"),
        "memory": Decimal(4 * 2**30),
        "nvidia.com/gpu": Decimal(2),
    }


def test_an_init_container_runs_beside_the_sidecars_before_it() -> None:
    spec = {
        "containers": [{"resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [
            {"resources": {"requests": {"cpu": "2"}}, "restartPolicy": "Always"},
            {"resources": {"requests": {"cpu": "3"}}},
        ],
    }
    assert pod_requests(spec) == {"cpu": Decimal(5)}


def test_what_the_pod_as_a_whole_asks_for_goes_before_its_containers() -> None:
    spec = {
        "resources": {"requests": {"cpu": "3"}},
        "containers": [{"resources": {"requests": {"cpu": "1", "nvidia.com/gpu": "1"}}}],
    }
    assert pod_requests(spec) == {"cpu": Decimal(3), "nvidia.com/gpu": Decimal(1)}


def test_what_is_no_quantity_counts_as_nothing() -> None:
    assert pod_requests({"containers": [{"resources": {"requests": {"cpu": "lots"}}}, {}]}) == {}


def test_a_run_holds_what_all_its_pods_hold() -> None:
    found = holders_of([running(index=0, requests=gpus(2)), running(index=1, requests=gpus(2)), running(run="b")])
    assert [(str(each), each.amounts.get("nvidia.com/gpu")) for each in found] == [
        ("run abc of ann", Decimal(4)),
        ("run b of ann", None),
    ]


def test_a_node_tells_what_is_left_and_nothing_when_it_takes_no_pods() -> None:
    pods = [running(requests=gpus(3)), pod(phase="Failed", requests=gpus(1)), pod(node=None, requests=gpus(1))]
    use = node_uses([node(nvidia_com__gpu="4")], pods)[0]
    assert use.free("nvidia.com/gpu") == 1
    assert use.free("pods") == 109
    assert use.free("example.com/none") == 0
    for away in (node(nvidia_com__gpu="4", closed=True), node(nvidia_com__gpu="4", ready=False)):
        assert node_uses([away], pods)[0].free("nvidia.com/gpu") == 0


def test_a_node_that_was_shrunk_has_nothing_left_and_not_less() -> None:
    assert node_uses([node(nvidia_com__gpu="1")], [running(requests=gpus(3))])[0].free("nvidia.com/gpu") == 0


TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "takes"),
    [
        # The cases of ToleratesTaint in k8s.io/api, core/v1/toleration.go.
        ({"operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "value": "present"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "nvidia.com/gpu", "value": "absent"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_taint_keeps_off_who_does_not_tolerate_it(toleration: dict[str, str], takes: bool) -> None:
    use = node_uses([node(taints=[TAINT])], [])[0]
    assert use.takes({"tolerations": [toleration]}) is takes
    assert use.takes({}) is False


def test_a_taint_that_is_only_a_wish_keeps_nobody_off() -> None:
    assert node_uses([node(taints=[{**TAINT, "effect": "PreferNoSchedule"}])], [])[0].takes({})
