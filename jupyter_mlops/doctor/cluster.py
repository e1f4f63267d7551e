"""What a run of a profile on Kubernetes needs: from the profile itself, and from what the API server says.

Asks the API server and makes nothing there. What only a pod could tell (whether the image can be pulled, whether MLflow
is reached from there) is not known here and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, KubernetesError
from ..kubernetes import conditions
from ..kubernetes.capacity import quota_left
from ..kubernetes.quantities import amount
from ..kubernetes.rights import Right
from .check import Check, State, settle

if TYPE_CHECKING:
    from ..kubernetes.api import Api
    from ..profile import Profile

OLDEST = (1, 29)
_SUCCESS_POLICY = (1, 31)
_PATIENCE = 5.0
"""Seconds that a call is repeated while Kubernetes is away."""
_POD_SECURITY = "pod-security.kubernetes.io/enforce"
_ASKED = ("version", "rights", "quota", "pod security", "queue")


def cluster_checks(profile: Profile, tracking_uri: str) -> list[Check]:
    """Everything that is looked at for a profile on Kubernetes.

    Args:
        profile: Its runner is `kubernetes`.
        tracking_uri: MLflow's address, with credentials if it has them.
    """
    checks = [
        settle("image", lambda: image_check(profile)),
        settle("MLflow from pods", lambda: pods_mlflow_check(tracking_uri)),
    ]
    if profile.env_from_secrets or profile.image_pull_secrets:
        checks.append(settle("Secrets", lambda: secrets_check(profile)))
    return [*checks, *_asked_checks(profile)]


def _asked_checks(profile: Profile) -> list[Check]:
    from ..kubernetes.api import Api

    try:
        api = Api(profile.context, profile.namespace, patience=_PATIENCE)
    except ConfigError as error:
        broken = Check("kubeconfig", State.PROBLEM, error.message, error.hint)
        return [broken, *_not_looked(profile, ("API server", *_ASKED), "the kubeconfig")]
    context = f"the context {profile.context}" if profile.context else "the current context"
    found = [
        Check("kubeconfig", State.OK, f"{context[0].upper()}{context[1:]} is {api.host}, namespace {api.namespace}."),
        settle("API server", lambda: _answers(api)),
    ]
    if found[-1].state is not State.OK:  # each of the others would only wait as long and say the same
        return [*found, *_not_looked(profile, _ASKED, "the API server")]
    looks: dict[str, Callable[[], Check]] = {
        "version": lambda: version_check(api.version()),
        "rights": lambda: _rights(api),
        "quota": lambda: quota_check(profile, api.find_if_allowed("resourcequotas"), namespace=api.namespace),
        "pod security": lambda: _pod_security(api),
    }
    if profile.queue is not None:
        looks["queue"] = lambda: _queue(api, str(profile.queue))
    return [*found, *(settle(name, look) for name, look in looks.items())]


def image_check(profile: Profile) -> Check:
    """Whether the profile names its image, and by digest."""
    if profile.image is None:
        return Check(
            "image", State.PROBLEM, f"The profile '{profile.name}' names no image.",
            "Set its field 'image' in c.MLOps.profiles; `jupyter mlops image build` makes one.",
        )  # fmt: skip
    if "@" not in profile.image:
        return Check(
            "image", State.PROBLEM, f"{profile.image} is not pinned: whoever pushes that tag changes what runs.",
            "Name it by digest (NAME@sha256:...); `jupyter mlops image push` prints it.",
        )  # fmt: skip
    return Check(
        "image", State.OK, f"{profile.image} is pinned by digest; whether nodes can pull it shows at the start."
    )


def pods_mlflow_check(tracking_uri: str) -> Check:
    """Whether a pod could reach MLflow, as far as its address tells."""
    from ..kubernetes.manifest import check_tracking_uri
    from ..tracking.address import shown

    check_tracking_uri(tracking_uri)
    return Check(
        "MLflow from pods", State.UNKNOWN, f"Whether pods reach {shown(tracking_uri)} shows in a pod only.",
        "The first run tells, before its first cell.",
    )  # fmt: skip


def secrets_check(profile: Profile) -> Check:
    """What can be said of the Secrets that a profile names: nothing, because we never read one."""
    named = ", ".join((*profile.env_from_secrets, *profile.image_pull_secrets))
    return Check(
        "Secrets", State.UNKNOWN, f"jupyter-mlops never reads a Secret, so whether these exist is not known: {named}.",
        "A run that misses one says so at once; whoever made them can tell: kubectl get secrets",
    )  # fmt: skip


def version_check(version: tuple[int, int]) -> Check:
    """Whether a server of this version takes our Jobs.

    Args:
        version: Major and minor.
    """
    told = ".".join(map(str, version))
    if version < OLDEST:
        return Check(
            "version", State.PROBLEM, f"Kubernetes is {told}, and runs need {'.'.join(map(str, OLDEST))} or newer.",
            "Show this to the platform team.",
        )  # fmt: skip
    policy = (
        "" if version >= _SUCCESS_POLICY else ", without successPolicy (1.31): a run's head ends its workers itself"
    )
    return Check("version", State.OK, f"Kubernetes is {told}{policy}.")


def rights_check(missing: Sequence[tuple[Right, str]], *, namespace: str) -> Check:
    """What missing rights mean.

    Args:
        missing: Resource and verb.
        namespace: Where they are missing.
    """
    needed = [(right, verb) for right, verb in missing if not right.optional]
    remedy = f"Have the platform team apply what `jupyter mlops rbac --namespace {namespace}` prints."
    if needed:
        told = "; ".join(f"{verb} {_resource(right)} ({right.why})" for right, verb in needed)
        return Check("rights", State.PROBLEM, f"You may not in the namespace {namespace}: {told}.", remedy)
    if missing:
        told = "; ".join(f"{verb} {_resource(right)} ({right.why})" for right, verb in missing)
        return Check("rights", State.OK, f"All that runs need in {namespace}. Not given, and optional: {told}.", remedy)
    return Check("rights", State.OK, f"All that runs need in the namespace {namespace}.")


def quota_check(profile: Profile, quotas: Sequence[Mapping[str, Any]] | None, *, namespace: str) -> Check:
    """Whether a run of the profile fits into what is left of the namespace's quotas.

    Args:
        profile: What is asked for.
        quotas: ResourceQuotas; None: not readable.
        namespace: Whose they are.
    """
    if quotas is None:
        return Check(
            "quota", State.UNKNOWN, f"You may not list the quotas of {namespace}.",
            f"Have the platform team apply what `jupyter mlops rbac --namespace {namespace}` prints.",
        )  # fmt: skip
    asked = {profile.gpu_resource: profile.gpus or 0, "cpu": profile.cpus or 0, "memory": profile.memory or 0}
    left = {resource: quota_left(quotas, resource) for resource in asked}
    lacking = [
        f"{amount(resource, bound)} left, {amount(resource, asked[resource])} asked for"
        for resource, bound in left.items()
        if bound is not None and asked[resource] > bound
    ]
    if lacking:
        return Check(
            "quota", State.PROBLEM, f"A run of '{profile.name}' does not fit into the quota of {namespace} now: "
            f"{'; '.join(lacking)}.", "`jupyter mlops capacity` shows who has it; wait, or ask for less.",
        )  # fmt: skip
    bounded = ", ".join(amount(resource, bound) for resource, bound in left.items() if bound is not None)
    if not bounded:
        return Check("quota", State.OK, f"No quota of {namespace} limits GPUs, CPUs or memory.")
    return Check("quota", State.OK, f"Left in {namespace}: {bounded}.")


def queue_check(name: str, queue: Mapping[str, Any] | None, *, namespace: str) -> Check:
    """Whether Kueue's LocalQueue takes runs.

    Args:
        name: Of the LocalQueue, in the profile.
        queue: The LocalQueue; None: there is none.
        namespace: Where.
    """
    if queue is None:
        return Check(
            "queue", State.PROBLEM, f"There is no LocalQueue {name} in the namespace {namespace}.",
            "Correct 'queue' in the profile; the platform team knows the queues of your namespace.",
        )  # fmt: skip
    active = conditions.condition(queue, "Active")
    if active is not None and active.get("status") == "False":
        said = conditions.said(active.get("reason"), active.get("message"))
        return Check(
            "queue", State.PROBLEM, f"The queue {name} admits nothing now: {said}", "Show this to the platform team."
        )
    return Check("queue", State.OK, f"The LocalQueue {name} is in {namespace}.")


def pod_security_check(namespace: Mapping[str, Any], name: str) -> Check:
    """What the namespace's Pod Security level means for our pods, which meet the strictest."""
    labels = (namespace.get("metadata") or {}).get("labels") or {}
    level = labels.get(_POD_SECURITY)
    if level is None:
        return Check("pod security", State.OK, f"{name} enforces no Pod Security level of its own; our pods meet any.")
    return Check("pod security", State.OK, f"{name} enforces '{level}'; our pods meet 'restricted'.")


def _answers(api: Api) -> Check:
    api.version()
    return Check("API server", State.OK, f"{api.host} answers.")


def _rights(api: Api) -> Check:
    from ..kubernetes.survey import missing_rights

    return rights_check(missing_rights(api), namespace=api.namespace)


def _queue(api: Api, name: str) -> Check:
    try:
        return queue_check(name, api.get("localqueues", name), namespace=api.namespace)
    except KubernetesError as error:
        if error.code == "kubernetes_no_resource":
            return Check(
                "queue", State.PROBLEM, f"The profile names the queue {name}, and this Kubernetes has no Kueue.",
                "Remove 'queue' from the profile, or have Kueue installed.",
            )  # fmt: skip
        if error.code == "kubernetes_forbidden":
            return Check(
                "queue", State.UNKNOWN, f"You may not read the queue {name} of {api.namespace}.",
                "A run that names a wrong one waits and says so.",
            )  # fmt: skip
        raise


def _pod_security(api: Api) -> Check:
    try:
        found = api.get("namespaces", api.namespace)
    except KubernetesError as error:
        if error.code == "kubernetes_forbidden":
            return Check(
                "pod security",
                State.UNKNOWN,
                f"You may not read the namespace {api.namespace}; our pods meet any level.",
            )
        raise
    if found is None:
        return Check(
            "pod security", State.PROBLEM, f"There is no namespace {api.namespace}.",
            "Correct 'namespace' in the profile, or in the kubeconfig's context.",
        )  # fmt: skip
    return pod_security_check(found, api.namespace)


def _not_looked(profile: Profile, names: Sequence[str], cause: str) -> list[Check]:
    return [
        Check(name, State.UNKNOWN, f"Not looked at: first {cause} must work.")
        for name in names
        if name != "queue" or profile.queue is not None
    ]


def _resource(right: Right) -> str:
    return f"{right.resource}.{right.group}" if right.group else right.resource
