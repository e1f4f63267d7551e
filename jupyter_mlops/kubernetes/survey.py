"""Reads from the API server what `capacity` decides from, and asks it what this person may do.

What one may not read is left out and named, never an error. Knows no run and no front.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..errors import KubernetesError, ProfileError
from .capacity import Capacity, capacity
from .rights import RIGHTS, Right, Subject, subject_of

if TYPE_CHECKING:
    from ..config import MLOps
    from ..profile import Profile
    from .api import Api

Things = list[dict[str, Any]]
_NO_KUEUE = "kubernetes_no_resource"


@dataclass(frozen=True)
class Survey:
    """What could be read of one Kubernetes.

    Attributes:
        host: The API server.
        namespace: Whose quota it is.
        capacity: What there is.
        missing: What could not be read, in words for a list.
    """

    host: str
    namespace: str
    capacity: Capacity
    missing: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The survey as JSON carries it."""
        kinds = []
        for kind in self.capacity.kinds:
            told = {each.name: getattr(kind, each.name) for each in fields(kind) if each.name != "uses"}
            told["uses"] = [
                {"what": use.holder.what, "owner": use.holder.owner, "is_run": use.holder.is_run, "count": use.count}
                for use in kind.uses
            ]
            kinds.append(told)
        return {"host": self.host, "namespace": self.namespace, "kinds": kinds, "missing": list(self.missing)}


def survey_of(config: MLOps, name: str | None) -> Survey:
    """The survey of the Kubernetes that a profile is on.

    Args:
        config: The settings.
        name: The profile; None: the default one, or the only one on Kubernetes.

    Raises:
        ProfileError: there is none, there are several, or the one named is not on Kubernetes.
        KubernetesError: the API server does not answer, or refuses the login.
    """
    from .api import Api

    profile = kubernetes_profile(config, name)
    resources = {each.gpu_resource for each in config.all_profiles().values() if each.runner == "kubernetes"}
    return survey(Api(profile.context, profile.namespace), resources=resources)


def kubernetes_profile(config: MLOps, name: str | None) -> Profile:
    """The profile whose Kubernetes is meant.

    Raises:
        ProfileError: there is none, there are several, or the one named is not on Kubernetes.
    """
    chosen = config.profile(name)
    if chosen.runner == "kubernetes":
        return chosen
    others = [each for each in config.all_profiles().values() if each.runner == "kubernetes"]
    listed = f"Profiles on Kubernetes: {', '.join(each.name for each in others)}."
    if name is not None:
        hint = listed if others else "Set one up with 'runner': 'kubernetes' in c.MLOps.profiles."
        raise ProfileError(f"The profile '{name}' is not on Kubernetes.", hint=hint)
    if not others:
        raise ProfileError(
            "No profile is on Kubernetes.", hint="Set one up with 'runner': 'kubernetes' in c.MLOps.profiles."
        )
    if len({(each.context, each.namespace) for each in others}) > 1:
        raise ProfileError("Several profiles are on Kubernetes.", hint=f"Name one with --profile. {listed}")
    return others[0]


def survey(api: Api, *, resources: Iterable[str] = ()) -> Survey:
    """What GPUs there are, who has them and who waits, as far as this person may see it.

    Args:
        api: The Kubernetes and the namespace.
        resources: More resources to count as GPUs than those that are known by name.

    Raises:
        KubernetesError: the API server does not answer, or refuses the login.
    """
    nodes, _ = _read(api, "nodes", everywhere=True)
    pods, _ = _read(api, "pods", everywhere=True)
    own_pods, _ = (None, "") if pods is not None else _read(api, "pods")
    quotas, _ = _read(api, "resourcequotas")
    workloads, _ = _read(api, "workloads", everywhere=True)
    own_workloads, answer = (workloads, "") if workloads is not None else _read(api, "workloads")
    missing = {
        "the nodes": nodes is None,
        "the pods of other namespaces": pods is None,
        "the pods of this namespace": pods is None and own_pods is None,
        "the quotas": quotas is None,
        "the queues of other namespaces": workloads is None and answer != _NO_KUEUE,
        "the queues of this namespace": own_workloads is None,
    }
    found = capacity(
        nodes=nodes,
        pods=pods,
        own_pods=own_pods,
        quotas=quotas,
        workloads=own_workloads,
        resources=resources,
    )
    return Survey(api.host, api.namespace, found, tuple(words for words, unread in missing.items() if unread))


def allowed(api: Api, right: Right, verb: str, *, namespace: str | None = None) -> bool:
    """Whether this person may do that; asked of the API server, which needs no right itself.

    Args:
        api: The Kubernetes.
        right: The resource.
        verb: One of Kubernetes' verbs.
        namespace: Where; None: in that of `api`, empty: in all of them.

    Raises:
        KubernetesError: the API server does not answer, or refuses the login.
    """
    resource, _, subresource = right.resource.partition("/")
    asked = {
        "namespace": api.namespace if namespace is None else namespace,
        "verb": verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
    }
    answer = api.create(
        "selfsubjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        },
    )
    return bool((answer.get("status") or {}).get("allowed"))


def missing_rights(api: Api) -> list[tuple[Right, str]]:
    """The rights of `RIGHTS` that this person has not, with the verb.

    Raises:
        KubernetesError: the API server does not answer, or refuses the login.
    """
    return [(right, verb) for right in RIGHTS for verb in right.verbs if not allowed(api, right, verb)]


def who_am_i(api: Api) -> Subject:
    """Whom the API server takes this person for.

    Raises:
        KubernetesError: it does not answer, refuses the login, or is older than 1.28 and cannot tell.
    """
    answer = api.create(
        "selfsubjectreviews", {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    )  # fmt: skip
    name = str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")
    if not name:
        raise KubernetesError(
            f"Kubernetes at {api.host} does not tell who you are.", hint="Name yourself with --user NAME."
        )
    return subject_of(name)


def _read(api: Api, resource: str, *, everywhere: bool = False) -> tuple[Things | None, str]:
    """The objects and the code of a refusal: none where Kubernetes knows no such thing, None where one may not."""
    try:
        return api.find(resource, everywhere=everywhere), ""
    except KubernetesError as error:
        if error.code == _NO_KUEUE:
            return [], error.code
        if error.code == "kubernetes_forbidden":
            return None, error.code
        raise
