"""Clusters on Kubernetes: one Job each, made, found, resized and deleted here.

Knows the API and the manifests; what is said to a head goes another way (`reach`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..cluster_spec import ClusterSpec
from ..errors import ClusterError, ConfigError, KubernetesError
from ..kubernetes import cluster_manifest, manifest, names
from ..profile import Profile
from .known import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Known, Place

if TYPE_CHECKING:
    from ..kubernetes.api import Api
    from ..kubernetes.certificates import Certificates

_SUCCESS_POLICY = (1, 31)
_LOOK = 1.0
_OPTIONAL = "networkpolicies"
_ENDED = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")
"""Conditions of a Job; the last two while its pods are still being ended."""


@dataclass(frozen=True)
class Found:
    """A cluster as Kubernetes has it.

    Attributes:
        cluster_id: Of its spec.
        name: What its owner calls it.
        owner: Whose it is.
        place: Where it is.
        pods: How many it is to have.
        lifetime_left: Seconds; None: it has not started.
        ended: Whether it has ended and only stays for its time to live.
    """

    cluster_id: str
    name: str
    owner: str
    place: Place
    pods: int
    lifetime_left: float | None
    ended: bool


def check(spec: ClusterSpec) -> None:
    """Refuse what Kubernetes would not take; nothing is made.

    Raises:
        UsageError: the profile, or MLflow's address.
        KubernetesError: the API server does not answer, or does not let it in.
    """
    cluster_manifest.check(spec)
    api = _api(spec.profile.context, spec.profile.namespace)
    try:
        whole = cluster_manifest.job_manifest(spec, namespace=api.namespace, success_policy=_knows_policy(api))
        api.create("jobs", whole, dry_run=True)
    except KubernetesError as error:
        # A webhook that cannot be asked without effect refuses the question, and perhaps not the cluster.
        if "dry run" not in error.message:
            raise


def certificates(spec: ClusterSpec) -> Certificates:
    """The certificate of a new cluster, which its pods and whoever comes to them show."""
    from ..kubernetes.certificates import issue_certificates

    return issue_certificates(names.job_name(spec.as_run()), spec.profile.namespace)


def create(known: Known) -> None:
    """Make the cluster's objects; nothing of it is left where not all of them can be made.

    Raises:
        KubernetesError: Kubernetes did not take one.
    """
    spec = known.spec
    api = _api(spec.profile.context, spec.profile.namespace)
    options: dict[str, Any] = {"namespace": api.namespace, "success_policy": _knows_policy(api)}
    job = api.create("jobs", cluster_manifest.job_manifest(spec, **options, held=True))
    name, uid = str(job["metadata"]["name"]), str(job["metadata"]["uid"])
    try:
        known.note(Place(spec.profile.context, api.host, api.namespace, name, uid))
        ca, certificate, key = (
            (known.directory / file).read_text(encoding="ascii") for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)
        )
        owned = cluster_manifest.owned_manifests(
            spec, ca=ca, certificate=certificate, key=key, namespace=api.namespace, owner=job
        )
        for resource, thing in owned.items():
            try:
                api.create(resource, thing)
            except KubernetesError as error:
                allowed = resource == _OPTIONAL and error.code in ("kubernetes_forbidden", "kubernetes_no_resource")
                if not allowed:
                    raise
        api.patch("jobs", name, manifest.release(cluster_manifest.job_manifest(spec, **options)))
    except (KubernetesError, OSError):
        with suppress(KubernetesError):
            api.delete("jobs", name, uid=uid)
        raise


def wait_for_head(known: Known, *, told: Callable[[str], None]) -> None:
    """Wait until the head's container runs, and tell what holds it up.

    Raises:
        ClusterError: it has ended instead.
        KubernetesError: it cannot be seen.
    """
    from ..kubernetes.watch import Watch

    place = known.place
    assert place is not None
    watch = Watch(api_of(known), place.name, names.selector(known.spec.as_run()), place.uid)
    before = ""
    while True:
        look = watch.look()
        if look.is_over:
            raise ClusterError(
                f"The cluster '{known.spec.name}' did not start: {look.reason.message}", hint=look.reason.hint
            )
        if any(_runs(pod) for pod in look.heads):
            return
        if look.reason.message != before:
            before = look.reason.message
            told(f"{before} {look.reason.hint}".strip())
        time.sleep(_LOOK)


def head_pod(known: Known, api: Api) -> dict[str, Any]:
    """The pod of the head.

    Raises:
        ClusterError: the cluster is gone ("cluster_gone"), or its head does not run ("cluster_away").
        KubernetesError: it cannot be seen.
    """
    from .reach import gone

    place = known.place
    assert place is not None
    job = api.get("jobs", place.name)
    if job is None or job["metadata"]["uid"] != place.uid or _has_ended(job):
        raise gone(known)
    labels = {**names.selector(known.spec.as_run()), names.INDEX_KEY: "0"}
    for pod in api.find("pods", labels=labels):
        if _runs(pod):
            return pod
    raise ClusterError(
        f"The head of the cluster '{known.spec.name}' does not run yet, or not at the moment.",
        hint="`jupyter mlops cluster list` shows how it stands.", code="cluster_away",
    )  # fmt: skip


def api_of(known: Known) -> Api:
    """Calls to where a cluster is.

    Raises:
        ConfigError: the kubeconfig leads elsewhere now.
    """
    place = known.place
    assert place is not None
    api = _api(place.context, place.namespace)
    if api.host != place.host:
        raise ConfigError(
            f"The cluster '{known.spec.name}' is in Kubernetes at {place.host}, and the kubeconfig now leads to "
            f"{api.host}.",
            hint="Use the kubeconfig with which it was started (KUBECONFIG, or `kubectl config use-context`).",
            code="kubernetes_context",
        )
    return api


def resize(known: Known, workers: int) -> int:
    """Raise or lower the number of Dask workers; those that go hand their data to the others.

    Returns:
        The number that it comes to, in whole pods.

    Raises:
        UsageError: see `cluster_manifest.resize`.
        KubernetesError: Kubernetes refuses.
    """
    place = known.place
    assert place is not None
    change, comes_to = cluster_manifest.resize(known.spec.profile, workers)
    api_of(known).patch("jobs", place.name, change)
    return comes_to


def delete(place: Place) -> bool:
    """Have a cluster deleted with everything that it owns; its pods get the time to end in order.

    Returns:
        Whether it was there.

    Raises:
        KubernetesError: it cannot be deleted.
    """
    return _api(place.context, place.namespace).delete("jobs", place.name, uid=place.uid)


def clusters_of(owner: str, profiles: Iterable[Profile]) -> list[Found]:
    """The clusters of a person in the namespaces of these profiles, also those that were started elsewhere.

    Raises:
        KubernetesError: they cannot be seen.
        ConfigError: there is no kubeconfig.
    """
    found: dict[str, Found] = {}
    for context, namespace in {(each.context, each.namespace): None for each in profiles}:
        api = _api(context, namespace)
        labels = {
            names.MANAGED_BY_LABEL: names.PRODUCT, names.COMPONENT_LABEL: names.CLUSTER,
            names.OWNER_LABEL: names.label_value(owner),
        }  # fmt: skip
        for job in api.find("jobs", labels=labels):
            metadata = job["metadata"]
            if metadata.get("deletionTimestamp"):
                continue
            place = Place(context, api.host, api.namespace, str(metadata["name"]), str(metadata["uid"]))
            found[place.uid] = _found(job, place)
    return list(found.values())


def _found(job: Mapping[str, Any], place: Place) -> Found:
    metadata, spec = job["metadata"], job["spec"]
    labels, told = metadata.get("labels") or {}, metadata.get("annotations") or {}
    start = (job.get("status") or {}).get("startTime")
    left = None
    if start is not None:
        age = time.time() - datetime.fromisoformat(str(start).replace("Z", "+00:00")).timestamp()
        left = max(0.0, float(spec.get("activeDeadlineSeconds") or 0) - age)
    return Found(
        cluster_id=str(labels.get(names.RUN_LABEL, "")),
        name=str(labels.get(names.CLUSTER_LABEL, "")),
        owner=str(told.get(names.OWNER_ANNOTATION) or labels.get(names.OWNER_LABEL, "")),
        place=place,
        pods=int(spec.get("parallelism") or 0),
        lifetime_left=left,
        ended=_has_ended(job),
    )


def _api(context: str | None, namespace: str | None) -> Api:
    from ..kubernetes.api import api_for

    return api_for(context, namespace)


def _knows_policy(api: Api) -> bool:
    return api.version() >= _SUCCESS_POLICY


def _has_ended(job: Mapping[str, Any]) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    ended = any(each["type"] in _ENDED and each["status"] == "True" for each in conditions)
    return ended or bool(job["metadata"].get("deletionTimestamp"))


def _runs(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    running = any("running" in (each.get("state") or {}) for each in status.get("containerStatuses") or ())
    return running and not pod["metadata"].get("deletionTimestamp")
