"""The objects of a Dask cluster as dicts: those of a run of several pods, with a head that waits for work.

So it is one Indexed Job as well, and its end takes everything with it. Its last net is the Job's own deadline: whatever
becomes of the head, nothing of the cluster outlives its lifetime.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from ..cluster_spec import ClusterSpec
from ..errors import ProfileError, UsageError
from ..profile import Profile
from . import contract, manifest, names
from .dask_options import carried_workers
from .pod_template import pod_template

MOST_TTL = 600
"""Seconds that a cluster that has ended stays in Kubernetes, so that one can see why."""


def check(cluster: ClusterSpec) -> None:
    """Refuse what cannot become a cluster on Kubernetes.

    Raises:
        UsageError: see `manifest.check`; or the profile's pods would speak without a certificate.
    """
    manifest.check(cluster.as_run())
    if cluster.profile.protocol != "tcp":
        raise ProfileError(
            f"The profile '{cluster.profile.name}' has the protocol {cluster.profile.protocol}, which knows no "
            "certificates: anybody who reaches the pods could use the cluster.",
            hint="Use a profile with the protocol tcp for clusters; GPUs of one pod talk over NVLink all the same.",
        )


def job_manifest(
    cluster: ClusterSpec, *, namespace: str | None = None, success_policy: bool = True, held: bool = False
) -> dict[str, Any]:
    """The Job of a cluster.

    Args:
        cluster: What was asked for.
        namespace: Where it goes; None: the profile's.
        success_policy: Whether the server knows `successPolicy`; else the head tells the workers to end.
        held: Whether no pod may start before it is released (`manifest.release`): what it owns is made after it.
    """
    run = cluster.as_run()
    job = manifest.job_manifest(run, namespace=namespace, success_policy=success_policy, held=held)
    told = cluster.model_copy(
        update={"profile": cluster.profile.model_copy(update={"context": None, "description": ""})}
    )
    job["spec"]["template"] = pod_template(
        run,
        command=contract.CLUSTER_COMMAND,
        served=True,
        more={contract.CLUSTER_VARIABLE: told.model_dump_json(exclude_defaults=True)},
    )
    if not held:
        job["spec"]["activeDeadlineSeconds"] = max(1, ceil(cluster.lifetime))
    job["spec"]["ttlSecondsAfterFinished"] = min(cluster.profile.ttl, MOST_TTL)
    return _of_cluster(job, cluster)


def owned_manifests(
    cluster: ClusterSpec, *, ca: str, certificate: str, key: str, namespace: str, owner: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The Secret, the Service and the NetworkPolicy of a cluster, by resource.

    Args:
        cluster: What was asked for.
        ca: See `manifest.certificate_secret_manifest`, as the next two.
        certificate: Of the cluster.
        key: Of the certificate.
        namespace: Where they go.
        owner: The Job as the API server gave it back.
    """
    run = cluster.as_run()
    where: dict[str, Any] = {"namespace": namespace, "owner": owner}
    policy = manifest.network_policy_manifest(run, **where)
    # Among themselves; and whoever asks for the cluster from inside Kubernetes must show its certificate.
    pods = {"podSelector": {"matchLabels": names.selector(run)}}
    policy["spec"]["ingress"] = [
        {"from": [pods]}, {"ports": [{"port": contract.SCHEDULER_PORT, "protocol": "TCP"}]}
    ]  # fmt: skip
    found = {
        "secrets": manifest.certificate_secret_manifest(run, ca=ca, certificate=certificate, key=key, **where),
        "services": manifest.service_manifest(run, **where),
        "networkpolicies": policy,
    }
    return {resource: _of_cluster(thing, cluster) for resource, thing in found.items()}


def workers_per_pod(profile: Profile) -> int:
    """How many Dask workers each pod of a profile has.

    Raises:
        ProfileError: that is left to the pod's cores, which the profile does not name.
    """
    if profile.gpus:
        return profile.gpus // profile.pods
    if profile.workers is not None:
        return ceil(profile.workers / profile.pods)
    if profile.cpus is not None and profile.memory is not None:
        return carried_workers(profile.cpus / profile.pods, profile.memory // profile.pods)
    raise ProfileError(
        f"How many Dask workers a pod of the profile '{profile.name}' has is not known before it runs.",
        hint="Name 'workers', or 'cpus' and 'memory', in the profile.",
    )


def resize(profile: Profile, workers: int) -> tuple[dict[str, Any], int]:
    """The change of a Job that gives it so many Dask workers, in whole pods.

    Args:
        profile: Of the run or cluster.
        workers: How many are wanted.

    Returns:
        The change, and the workers that it comes to.

    Raises:
        UsageError: fewer than the head's pod has, or see `workers_per_pod`.
    """
    each = workers_per_pod(profile)
    pods = ceil(workers / each)
    if pods < 1:
        raise UsageError("A cluster has at least one worker.", hint="To end it: jupyter mlops cluster stop")
    # Together: an Indexed Job is elastic only so (Kubernetes 1.27 and newer).
    return {"spec": {"parallelism": pods, "completions": pods}}, pods * each


def _of_cluster(thing: dict[str, Any], cluster: ClusterSpec) -> dict[str, Any]:
    own = {names.COMPONENT_LABEL: names.CLUSTER, names.CLUSTER_LABEL: names.label_value(cluster.name)}
    thing["metadata"]["labels"].update(own)
    if thing["kind"] == "Job":
        thing["spec"]["template"]["metadata"]["labels"].update(own)
    return thing
