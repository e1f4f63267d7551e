"""The objects of a run as dicts: the Indexed Job, and what its pods need to find and to trust each other.

The Job is made first and the others name it as their owner, so that nothing outlives it. With several pods it is held
at first, and released when the others are there: until then it asks for no pod, and its time is short, so that what a
client leaves that dies in between fails by itself and goes as every run does. (A suspended Job would stay for ever: its
time stands still.) Where there is a queue, that one suspends and releases, and only the short time holds until then.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from copy import deepcopy
from ipaddress import ip_address
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from ..errors import ProfileError, UsageError
from ..profile import Profile
from ..spec import RunSpec
from . import contract, dask_options, names
from .pod_template import encrypted, pod_template

START_ALLOWANCE = 86400
"""Seconds that a run with a time-out may wait for a place, pull its image and be tried again."""
HOLD = 600
"""Seconds that a client has to make what a Job of several pods needs, before the Job fails."""


def check(spec: RunSpec) -> None:
    """Refuse what cannot become a run on Kubernetes, before anything is created.

    Raises:
        ProfileError: the profile has no image, or its parts do not come out even.
        UsageError: MLflow is where no pod can reach it.
    """
    check_profile(spec.profile)
    dask_options.check_memory(spec.profile)
    check_tracking_uri(spec.tracking_uri)


def check_profile(profile: Profile) -> None:
    """Refuse a profile that cannot become pods.

    Raises:
        ProfileError: it has no image, or its parts do not come out even.
    """
    called = f"The profile '{profile.name}'"
    if profile.image is None:
        raise ProfileError(f"{called} names no image.", hint="Set its field 'image' in c.MLOps.profiles.")
    if profile.gpus and profile.gpus % profile.pods:
        raise ProfileError(
            f"{called} cannot share {profile.gpus} GPUs evenly between {profile.pods} pods.",
            hint=f"Ask for a multiple of {profile.pods} with --gpus.",
        )
    if profile.gpus and "/mig-" in profile.gpu_resource and profile.gpus != profile.pods:
        raise ProfileError(
            f"{called} asks for {profile.gpus} slices ({profile.gpu_resource}) in {profile.pods} "
            f"pod{'s' * (profile.pods != 1)}: slices of GPUs have no links between them, so it is one a pod.",
            hint=f"Set 'pods' to {profile.gpus} in the profile, or use a larger slice.",
        )
    if profile.shm is not None and profile.memory is not None and profile.shm >= profile.memory // profile.pods:
        raise ProfileError(
            f"{called} gives /dev/shm as much memory as a whole pod has.", hint="Lower 'shm', or raise 'memory'."
        )


def check_tracking_uri(uri: str) -> None:
    """Refuse an MLflow that no pod can reach.

    Raises:
        UsageError: it is on this machine, or its address holds credentials.
    """
    parts = urlsplit(uri)
    if parts.username or parts.password:
        raise UsageError(
            "MLflow's address holds credentials, which would stand in the pod for all to read.",
            hint="Put MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD into a Secret and name it in the profile's "
            "'env_from_secrets'.",
        )
    if parts.scheme not in ("http", "https") or _is_this_machine(parts.hostname or ""):
        raise UsageError(
            f"MLflow at {uri} cannot be reached from a pod.",
            hint="Set c.MLOps.tracking_uri to an MLflow server that the Kubernetes nodes reach.",
        )


def _is_this_machine(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host in ("", "localhost") or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def job_spec(
    spec: RunSpec,
    *,
    mlflow_run_id: str | None = None,
    success_policy: bool = True,
    held: bool = False,
    start_allowance: int = START_ALLOWANCE,
) -> dict[str, Any]:
    """The JobSpec of a run: what a Job has, and what a CronJob has as its template.

    Args:
        spec: The run.
        mlflow_run_id: The MLflow run whose artifacts hold the spec and the snapshot.
        success_policy: Whether the server knows `successPolicy` (Kubernetes 1.31 and newer). Without it the head tells
            the workers to end.
        held: Whether no pod may start before the Job is released (`release`).
        start_allowance: Seconds on top of the run's time-out, for waiting and for further attempts.

    Raises:
        UsageError: see `check`.
    """
    check(spec)
    profile = spec.profile
    found: dict[str, Any] = {
        "completionMode": "Indexed",
        "parallelism": profile.pods,
        "completions": profile.pods,
        "backoffLimitPerIndex": profile.retries,
        "podFailurePolicy": {
            # In this order: a run that has its record has ended, even if its node was drained meanwhile.
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": contract.CONTAINER,
                        "operator": "In",
                        "values": [contract.EXIT_RECORDED],
                    },
                },
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "ttlSecondsAfterFinished": profile.ttl,
        "suspend": profile.queue is not None,
        "template": pod_template(spec, mlflow_run_id=mlflow_run_id),
    }
    if success_policy:
        found["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    if spec.run_timeout is not None:
        # A last net: the engine keeps the time-out itself. Kubernetes counts waiting, pulling and every attempt in.
        seconds = ceil(spec.run_timeout) + start_allowance + contract.TERMINATION_GRACE
        found["activeDeadlineSeconds"] = min(seconds, 2**31 - 1)
    if held:
        found["activeDeadlineSeconds"] = HOLD
        if profile.queue is None:
            found["parallelism"] = 0
    return found


def release(job: Mapping[str, Any]) -> dict[str, Any]:
    """What to change (merge patch) in a Job that was made held, when all its parts are there.

    Args:
        job: As `job_manifest` gives it when it is not held.
    """
    spec = job["spec"]
    return {"spec": {key: spec.get(key) for key in ("parallelism", "activeDeadlineSeconds")}}


def job_manifest(
    spec: RunSpec,
    *,
    namespace: str | None = None,
    mlflow_run_id: str | None = None,
    success_policy: bool = True,
    held: bool = False,
    start_allowance: int = START_ALLOWANCE,
) -> dict[str, Any]:
    """The Job of a run; for the arguments see `job_spec`. Needs Kubernetes 1.29 or newer.

    Args:
        spec: The run.
        namespace: Where it goes; None: the profile's, or wherever it is applied.
        mlflow_run_id: See `job_spec`.
        success_policy: See `job_spec`.
        held: See `job_spec`.
        start_allowance: See `job_spec`.

    Raises:
        UsageError: see `check`.
    """
    metadata = _metadata(spec, namespace, mlflow_run_id)
    if spec.profile.queue:
        metadata["labels"][names.QUEUE_LABEL] = spec.profile.queue
        if spec.profile.priority_class:
            metadata["labels"][names.PRIORITY_LABEL] = spec.profile.priority_class
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": job_spec(
            spec,
            mlflow_run_id=mlflow_run_id,
            success_policy=success_policy,
            held=held,
            start_allowance=start_allowance,
        ),
    }


def service_manifest(
    spec: RunSpec, *, namespace: str | None = None, owner: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The headless Service through which NAME-0.NAME is found; needed with several pods.

    Args:
        spec: The run.
        namespace: See `job_manifest`.
        owner: The Job as the API server gave it back; it takes the Service with it.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec, namespace, owner=owner),
        "spec": {
            "clusterIP": "None",
            # The workers look for the head while it is still starting.
            "publishNotReadyAddresses": True,
            "selector": names.selector(spec),
            "ports": [
                {"name": "scheduler", "port": contract.SCHEDULER_PORT, "targetPort": "scheduler", "protocol": "TCP"},
                {"name": "http", "port": contract.HTTP_PORT, "targetPort": "http", "protocol": "TCP"},
            ],
        },
    }


def certificate_secret_manifest(
    spec: RunSpec,
    *,
    ca: str,
    certificate: str,
    key: str,
    namespace: str | None = None,
    owner: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The Secret with the run's own certificate: who has it may use the run's Dask cluster, nobody else may.

    The one object that holds a secret: send it, and write it nowhere.

    Args:
        spec: The run.
        ca: Certificate of the authority that was made for this run, PEM.
        certificate: The certificate that every pod of the run shows, PEM.
        key: Its key, PEM.
        namespace: See `job_manifest`.
        owner: See `service_manifest`.
    """
    files = {contract.CA_FILE: ca, contract.CERTIFICATE_FILE: certificate, contract.KEY_FILE: key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(spec, namespace, owner=owner),
        "type": "kubernetes.io/tls",
        "immutable": True,
        "data": {name: b64encode(text.encode()).decode("ascii") for name, text in files.items()},
    }


def network_policy_manifest(
    spec: RunSpec, *, namespace: str | None = None, owner: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Closes the run's pods to all but each other; it holds where the network plugin enforces such policies.

    Args:
        spec: The run.
        namespace: See `job_manifest`.
        owner: See `service_manifest`.
    """
    own = {"matchLabels": names.selector(spec)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(spec, namespace, owner=owner),
        "spec": {
            "podSelector": own,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": deepcopy(own)}]}] if spec.profile.pods > 1 else [],
        },
    }


def needs_certificates(spec: RunSpec) -> bool:
    """Whether the run's pods wait for the Secret of `certificate_secret_manifest`."""
    return encrypted(spec.profile)


def _metadata(
    spec: RunSpec,
    namespace: str | None,
    mlflow_run_id: str | None = None,
    *,
    owner: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": names.job_name(spec),
        "labels": names.run_labels(spec),
        "annotations": names.run_annotations(spec, mlflow_run_id=mlflow_run_id),
    }
    if namespace or spec.profile.namespace:
        found["namespace"] = namespace or spec.profile.namespace
    if owner is not None:
        found["ownerReferences"] = [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ]
    return found
