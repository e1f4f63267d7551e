"""The texts are those of v1.34.4; each row says where from. "Error creating: " is that of RealPodControl.createPods in
k8s.io/kubernetes, pkg/controller/controller_utils.go."""

from __future__ import annotations

from decimal import Decimal

import pytest

from jupyter_mlops.kubernetes.admission_reasons import is_refusal, quota_excess, refused
from jupyter_mlops.kubernetes.nodes import Holder

# k8s.io/apiserver, pkg/admission/plugin/resourcequota/controller.go, behind NewForbidden of k8s.io/apimachinery
QUOTA = (
    'Error creating: pods "train-abc-0-kx2vq" is forbidden: exceeded quota: team-a, requested: requests.nvidia.com/gpu=2, '
    "used: requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4"
)


def test_a_full_quota_says_what_is_allowed_used_and_asked_for() -> None:
    found = refused(QUOTA)
    assert found.message == (
        "The quota team-a allows the namespace 4 GPUs; in use: 4 GPUs; a pod of the run asks for 2 GPUs."
    )
    assert "starts by itself" in found.hint
    assert "--gpus" in found.hint
    assert (found.cause, found.blocked) == ("quota", False)
    assert found.raw == QUOTA.removeprefix("Error creating: ")


def test_a_full_quota_names_who_has_it() -> None:
    holders = [
        Holder("small", "bob", True, {"nvidia.com/gpu": Decimal(1)}),
        Holder("large", "ann", True, {"nvidia.com/gpu": Decimal(3)}),
        Holder("team-a/web", "", False, {"cpu": Decimal(1)}),
    ]
    assert "in use by run large of ann (3 GPUs), run small of bob (1 GPU)." in refused(QUOTA, holders=holders).hint


def test_more_than_the_quota_ever_allows_can_never_start() -> None:
    found = refused(QUOTA.replace("requests.nvidia.com/gpu=2", "requests.nvidia.com/gpu=8"))
    assert found.blocked
    assert "can never start" in found.hint


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (QUOTA, [("team-a", "requests.nvidia.com/gpu", 2.0, 4.0, 4.0)]),
        (
            "exceeded quota: compute, requested: limits.cpu=8,limits.memory=64Gi, used: limits.cpu=30,limits.memory=500Gi, "
            "limited: limits.cpu=32,limits.memory=512Gi",
            [("compute", "limits.cpu", 8.0, 30.0, 32.0),
             ("compute", "limits.memory", 64.0 * 2**30, 500.0 * 2**30, 512.0 * 2**30)],
        ),
        (
            'jobs.batch "train-abc" is forbidden: exceeded quota: objects, requested: count/jobs.batch=1, used: '
            "count/jobs.batch=50, limited: count/jobs.batch=50",
            [("objects", "count/jobs.batch", 1.0, 50.0, 50.0)],
        ),
        ("exceeded quota: q, requested: cpu=x, used: cpu=1, limited: cpu=1", []),
        ("exceeded quota: ", []),
        ("pods is forbidden", []),
    ],
)  # fmt: skip
def test_a_quotas_words_are_read(text: str, lines: list[tuple[str, str, float, float, float]]) -> None:
    found = quota_excess(text)
    assert [(each.quota, each.resource, each.requested, each.used, each.limited) for each in found] == lines


def test_of_several_resources_the_one_that_can_never_fit_is_told() -> None:
    found = refused(
        "exceeded quota: q, requested: limits.cpu=2,limits.memory=64Gi, used: limits.cpu=31,limits.memory=0, limited: "
        "limits.cpu=32,limits.memory=32Gi"
    )
    assert "64 GiB memory" in found.message
    assert found.blocked


@pytest.mark.parametrize(
    ("text", "cause", "blocked", "words"),
    [
        # k8s.io/kubernetes, pkg/quota/v1/evaluator/core/pods.go: Constraints
        (
            'pods "x" is forbidden: failed quota: team-a: must specify limits.cpu for: run; limits.memory for: run',
            "quota_needs_requests", True, "leaves out: limits.cpu for: run",
        ),
        # plugin/pkg/admission/limitranger/admission.go: maxConstraint, minConstraint
        (
            'pods "x" is forbidden: maximum memory usage per Container is 64Gi, but limit is 128Gi', "limit_range", True,
            "allows a container at most 64 GiB memory, and the run asks for 128 GiB memory",
        ),
        (
            'pods "x" is forbidden: [maximum cpu usage per Pod is 4, but limit is 8, maximum memory usage per Pod is 1Gi, '
            "but limit is 2Gi]", "limit_range", True, "a pod at most 4 CPU cores",
        ),
        (
            'pods "x" is forbidden: minimum cpu usage per Container is 100m, but request is 10m', "limit_range", True,
            "at least 0.1 CPU cores",
        ),
        (
            'pods "x" is forbidden: maximum memory usage per Container is 64Gi.  No limit is specified', "limit_range",
            True, "asks for none",
        ),
        # k8s.io/pod-security-admission, admission/admission.go
        (
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container '
            '"istio-init" must set securityContext.allowPrivilegeEscalation=false)', "pod_security", True,
            "Pod Security level restricted:latest does not allow",
        ),
        # k8s.io/apiserver, pkg/admission/plugin/webhook/errors/statuserror.go
        (
            'admission webhook "validate.kyverno.svc-fail" denied the request: \n\nresource Pod/team-a/x was blocked due to '
            "the following policies\n\nonly-our-registry: images must come from registry.example.org", "policy", True,
            "(validate.kyverno.svc-fail) refuses the run: resource Pod/team-a/x was blocked",
        ),
        ('admission webhook "a.b" denied the request without explanation', "policy", True, "gives no reason"),
        # k8s.io/apiserver, pkg/admission/plugin/policy/validating/dispatcher.go
        (
            "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'gpu-hours' with binding 'all' denied request: no GPUs at "
            "night", "policy", True, "(gpu-hours) refuses the run: no GPUs at night",
        ),
        # k8s.io/apiserver, pkg/util/webhook/error.go
        (
            'Internal error occurred: failed calling webhook "mjob.kb.io": failed to call webhook: Post "https://kueue": '
            "dial tcp 10.96.3.4:443: connect: connection refused", "webhook_unreachable", False, "does not answer",
        ),
        # plugin/pkg/admission/serviceaccount/admission.go
        (
            'pods "x-" is forbidden: error looking up service account team-a/runs: serviceaccount "runs" not found',
            "service_account_missing", True, "team-a/runs does not exist",
        ),
        # plugin/pkg/admission/priority/admission.go
        ('pods "x" is forbidden: no PriorityClass with name high was found', "priority_missing", True, "high"),
        # k8s.io/apiserver, pkg/admission/plugin/namespace/lifecycle/admission.go
        (
            'pods "x" is forbidden: unable to create new content in namespace team-a because it is being terminated',
            "namespace_terminating", True, "team-a is being deleted",
        ),
        # OpenShift: github.com/openshift/apiserver-library-go, securitycontextconstraints/sccadmission
        (
            'pods "x" is forbidden: unable to validate against any security context constraint: [provider restricted-v2: '
            ".spec.x: Forbidden]", "pod_security", True, "No security context constraint",
        ),
    ],
)  # fmt: skip
def test_why_pods_are_not_let_in_is_told(text: str, cause: str, blocked: bool, words: str) -> None:
    found = refused(f"Error creating: {text}")
    assert (found.cause, found.blocked) == (cause, blocked)
    assert words in found.message
    assert found.hint
    assert found.raw == text
    assert is_refusal(text)


def test_what_is_not_known_passes_through_whole() -> None:
    text = 'pods "x" is forbidden: the moon is in the wrong phase'
    found = refused(text)
    assert (found.cause, found.raw) == ("FailedCreate", text)
    assert text in found.message
    assert not is_refusal(text)


def test_a_missing_right_is_no_refusal_of_what_was_asked_for() -> None:
    assert not is_refusal(
        'pods is forbidden: User "ann" cannot create resource "pods" in API group "" in the namespace "x"'
    )
