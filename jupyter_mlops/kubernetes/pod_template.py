"""The pod of a run: one template for all of them, which a Job, and later a CronJob, carries.

Every pod starts the same command; which part it plays it learns from its index. The template meets the restricted Pod
Security Standard, and holds no secret: those are named and read by the kubelet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..profile import Profile, Toleration
from ..spec import RunSpec
from . import contract, names

_USER = "run"
_HIDDEN = frozenset({"description", "context"})
"""Fields of the profile that are nothing to a pod."""


def pod_template(
    spec: RunSpec,
    *,
    mlflow_run_id: str | None = None,
    command: Sequence[str] = contract.COMMAND,
    served: bool = False,
    more: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The PodTemplateSpec of a run whose profile was checked (`manifest.check`).

    Args:
        spec: The run.
        mlflow_run_id: The MLflow run whose artifacts hold the spec and the snapshot; None: the pod begins its own.
        command: What every pod runs.
        served: There is a Service and a certificate even if it is one pod: others come to it.
        more: Further variables.
    """
    profile = spec.profile
    encrypts = served or encrypted(profile)
    certificates = {"certificates": (contract.CERTIFICATE_DIR, names.job_name(spec))} if encrypts else {}
    template = profile_template(
        profile,
        command=command,
        variables=_variables(spec, mlflow_run_id, served=served, more=more),
        labels=names.run_labels(spec),
        annotations=names.run_annotations(spec, mlflow_run_id=mlflow_run_id),
        secrets=certificates,
        grace=contract.TERMINATION_GRACE,
    )
    if served or profile.pods > 1:
        template["spec"]["subdomain"] = names.job_name(spec)
        _open_ports(template["spec"]["containers"][0])
    return template


def profile_template(
    profile: Profile,
    *,
    command: Sequence[str],
    variables: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    secrets: Mapping[str, tuple[str, str]],
    grace: int,
) -> dict[str, Any]:
    """A PodTemplateSpec with what a profile says of pods, whatever runs in them.

    Args:
        profile: What was asked for.
        command: What the container runs.
        variables: Of the container, as Kubernetes has them.
        labels: Of the pod.
        annotations: Of the pod.
        secrets: Secrets that are files: the directory and the Secret's name, by a name for the volume.
        grace: Seconds that the pod has to end in order.
    """
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        # A variable for each Service of the namespace: a Service called "mlflow" would set MLFLOW_PORT.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(profile, command, variables, secrets)],
        "volumes": _volumes(profile, secrets),
    }
    if profile.service_account:
        pod["serviceAccountName"] = profile.service_account
    if profile.priority_class and not profile.queue:
        pod["priorityClassName"] = profile.priority_class
    if profile.node_selector:
        pod["nodeSelector"] = dict(profile.node_selector)
    if profile.tolerations:
        pod["tolerations"] = [_toleration(toleration) for toleration in profile.tolerations]
    if profile.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in profile.image_pull_secrets]
    return {
        "metadata": {
            # A mesh's sidecar does not end by itself and would keep the pod, and its GPUs, for ever.
            "labels": {**labels, "sidecar.istio.io/inject": "false"},
            "annotations": {
                **annotations,
                # What runs is not moved to save a node: it would begin again.
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "spec": pod,
    }


def pod_resources(profile: Profile) -> dict[str, str]:
    """What each pod gets: the profile's resources in equal parts, rounded down.

    Requests and limits are the same, so that the pod is of the class Guaranteed, is evicted last, and its memory
    limit is memory that is there. What the profile does not name is left to the namespace's LimitRange.
    """
    found = {}
    if profile.cpus is not None:
        found["cpu"] = _cpu(max(1, int(profile.cpus * 1000) // profile.pods))
    if profile.memory is not None:
        found["memory"] = _memory(profile.memory // profile.pods)
    if profile.gpus:
        found[profile.gpu_resource] = str(profile.gpus // profile.pods)
    return found


def encrypted(profile: Profile) -> bool:
    """Whether Dask speaks TLS between the run's pods; UCX cannot."""
    return profile.pods > 1 and profile.protocol == "tcp"


def literal(text: str) -> str:
    """A value of a variable or an argument that arrives as it is.

    Kubernetes replaces `$(NAME)` by the variable of that name, which may hold a secret; `$$` is a plain `$`.
    Source: third_party/forked/golang/expansion/expand.go. A NUL cannot be in a variable at all.
    """
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8").replace("$", "$$")


def _container(
    profile: Profile,
    command: Sequence[str],
    variables: Sequence[Mapping[str, Any]],
    secrets: Mapping[str, tuple[str, str]],
) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": contract.CONTAINER,
        "image": profile.image,
        "command": list(command),
        "workingDir": contract.WORK_DIR,
        "env": [dict(variable) for variable in variables],
        "terminationMessagePath": contract.TERMINATION_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "volumeMounts": [
            {"name": "work", "mountPath": contract.WORK_DIR},
            {"name": "home", "mountPath": contract.HOME_DIR},
            {"name": "tmp", "mountPath": contract.TEMPORARY_DIR},
            {"name": "spill", "mountPath": contract.SPILL_DIR},
            {"name": "shm", "mountPath": contract.SHM_DIR},
        ],
    }
    if profile.env_from_secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in profile.env_from_secrets]
    resources = pod_resources(profile)
    if resources:
        container["resources"] = {"requests": dict(resources), "limits": dict(resources)}
    for name, (directory, _) in secrets.items():
        container["volumeMounts"].append({"name": name, "mountPath": directory, "readOnly": True})
    return container


def _open_ports(container: dict[str, Any]) -> None:
    container["ports"] = [
        {"name": "scheduler", "containerPort": contract.SCHEDULER_PORT, "protocol": "TCP"},
        {"name": "http", "containerPort": contract.HTTP_PORT, "protocol": "TCP"},
    ]
    # For whoever looks, and for Kueue's waitForPodsReady: nothing is sent by it. No liveness probe: a worker whose
    # kernel holds the GIL looks dead and is not.
    container["readinessProbe"] = {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": 5,
        "timeoutSeconds": 5,
        "failureThreshold": 6,
    }


def _variables(
    spec: RunSpec, mlflow_run_id: str | None, *, served: bool, more: Mapping[str, str]
) -> list[dict[str, Any]]:
    profile = spec.profile
    told = profile.model_dump(mode="json", exclude=set(_HIDDEN), exclude_defaults=True)
    return pod_variables(
        {
            contract.VERSION_VARIABLE: contract.VERSION,
            contract.RUN_ID_VARIABLE: spec.run_id,
            contract.MLFLOW_RUN_VARIABLE: mlflow_run_id,
            contract.PROFILE_VARIABLE: json.dumps(told, sort_keys=True),
            contract.RETRIES_VARIABLE: str(profile.retries),
            contract.SERVICE_VARIABLE: names.job_name(spec) if served or profile.pods > 1 else None,
            contract.CERTIFICATES_VARIABLE: contract.CERTIFICATE_DIR if served or encrypted(profile) else None,
            "MLFLOW_TRACKING_URI": spec.tracking_uri,
            **more,
        },
        {
            contract.JOB_VARIABLE: f"metadata.labels['{names.JOB_LABEL}']",
            contract.FAILURES_VARIABLE: f"metadata.annotations['{names.FAILURES_ANNOTATION}']",
            contract.DISRUPTIONS_VARIABLE: f"metadata.annotations['{names.DISRUPTIONS_ANNOTATION}']",
        },
    )


def pod_variables(
    plain: Mapping[str, str | None], fields: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:  # fmt: skip
    """The variables of a container: what is given, and what every pod of ours has.

    Args:
        plain: Values by name, in the clear; None: the variable is not set.
        fields: Fields of the pod by the variable's name.
    """
    own = {
        "HOME": contract.HOME_DIR,
        "TMPDIR": contract.TEMPORARY_DIR,
        "USER": _USER,  # the image's user need not be in its /etc/passwd, and `getpass.getuser` looks here first
        "LOGNAME": _USER,
        "PYTHONUNBUFFERED": "1",
        "DASK_TEMPORARY_DIRECTORY": contract.SPILL_DIR,
        "JUPYTER_MLOPS_DATA_DIR": f"{contract.WORK_DIR}/mlops",
    }
    own_fields = {
        contract.POD_IP_VARIABLE: "status.podIP",
        contract.POD_NAME_VARIABLE: "metadata.name",
        contract.NODE_NAME_VARIABLE: "spec.nodeName",
    }
    limits = {contract.MEMORY_VARIABLE: ("limits.memory", "1"), contract.CPUS_VARIABLE: ("limits.cpu", "1m")}
    return [
        *({"name": name, "value": literal(value)} for name, value in {**plain, **own}.items() if value is not None),
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in {**(fields or {}), **own_fields}.items()
        ),
        *(
            {
                "name": name,
                "valueFrom": {
                    "resourceFieldRef": {
                        "containerName": contract.CONTAINER,
                        "resource": resource,
                        "divisor": divisor,
                    }
                },
            }
            for name, (resource, divisor) in limits.items()
        ),
    ]


def _volumes(profile: Profile, secrets: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    shm: dict[str, Any] = {"medium": "Memory"}
    if profile.shm is not None:
        shm["sizeLimit"] = _memory(profile.shm)
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": {}} for name in ("work", "home", "tmp", "spill")]
    volumes.append({"name": "shm", "emptyDir": shm})
    # Readable to all inside the pod: the files belong to root, and what runs does not.
    return volumes + [
        {"name": name, "secret": {"secretName": secret, "defaultMode": 0o444}} for name, (_, secret) in secrets.items()
    ]


def _toleration(toleration: Toleration) -> dict[str, Any]:
    fields = toleration.model_dump(exclude_none=True)
    seconds = fields.pop("toleration_seconds", None)
    return fields if seconds is None else {**fields, "tolerationSeconds": seconds}


def _cpu(thousandths: int) -> str:
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def _memory(count: int) -> str:
    for unit, size in (("Gi", 2**30), ("Mi", 2**20)):
        if count % size == 0:
            return f"{count // size}{unit}"
    return str(count)
