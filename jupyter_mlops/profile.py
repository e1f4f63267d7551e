"""A profile: named resources that an admin offers. Knows no runner and no cluster.

Names that Kubernetes will read are checked here, where they enter, by its own rules: a wrong one is told with the
configuration, not by an API server in the middle of a submission.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNITS = {
    "": 1,
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
_QUANTITY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(k|[MGTP]i?|Ki)?B?\s*$")

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
DNS_LABEL = re.compile(_LABEL)
"""A name of RFC 1123, as namespaces have it."""
DNS_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
"""Several of them with dots between, as most objects have it."""
LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LABEL_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_LABEL}(?:\.{_LABEL})*/)?{_LABEL_NAME}")
_EXTENDED_RESOURCE = re.compile(rf"(?=[^/]{{1,253}}/){_LABEL}(?:\.{_LABEL})*/{_LABEL_NAME}")
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
_IMAGE = re.compile(
    rf"(?:{_HOST}(?::\d+)?/)?{_PATH}(?:/{_PATH})*(?::\w[\w.-]{{0,127}})?(?:@[A-Za-z][\w+.-]*:[0-9a-fA-F]{{32,}})?",
    re.ASCII,
)


def parse_bytes(value: object) -> object:
    """Bytes from a Kubernetes quantity of memory ("4Gi", "500M", "1.5GB") or a plain number.

    Source: Kubernetes' resource.Quantity, whose decimal and binary suffixes are meant here; the milli
    suffix makes no sense for memory and is refused.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, str):
        return value
    found = _QUANTITY.match(value)
    if found is None:
        raise ValueError(f"{value!r} is no amount of memory: write it like 4Gi, 500M or 2000000000")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def parse_share_or_bytes(value: object) -> object:
    """A share (a number from 0 to 1) as it is, anything larger as whole bytes.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return parse_bytes(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{value!r} is neither a share from 0 to 1 nor an amount of memory like 20Gi")
    return float(value) if value <= 1 else int(value)


def _checked(pattern: re.Pattern[str], noun: str, rule: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no {noun}: {rule}")
        return value

    return check


_RULE = "lower-case letters, digits and '-', a letter or digit at both ends, at most 63 characters (RFC 1123)"
Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
ShareOrBytes = Annotated[float | int, BeforeValidator(parse_share_or_bytes)]
Label = Annotated[str, AfterValidator(_checked(DNS_LABEL, "name for Kubernetes", _RULE))]
Subdomain = Annotated[
    str, AfterValidator(_checked(DNS_SUBDOMAIN, "name for Kubernetes", f"{_RULE}, several with '.' between"))
]
ShortSubdomain = Annotated[Subdomain, Field(max_length=63)]
"""Kueue takes the names of queues and priorities from labels, and a label's value has no more."""
LabelKey = Annotated[
    str, AfterValidator(_checked(LABEL_KEY, "key of a label", "write it like name or example.org/name"))
]
LabelValue = Annotated[
    str, AfterValidator(_checked(LABEL_VALUE, "value of a label", "at most 63 letters, digits, '-', '_' and '.'"))
]
ExtendedResource = Annotated[
    str, AfterValidator(_checked(_EXTENDED_RESOURCE, "resource", "write it like nvidia.com/gpu"))
]
Image = Annotated[
    str,
    Field(max_length=500),
    AfterValidator(_checked(_IMAGE, "image", "write it like registry.example.org/team/image:tag, in lower case")),
]


class Toleration(BaseModel):
    """A taint of a node that a run may ignore; the fields are Kubernetes' own.

    Attributes:
        key: Of the taint; None with the operator Exists: every taint.
        operator: Equal or Exists.
        value: Of the taint, for Equal.
        effect: NoSchedule, PreferNoSchedule or NoExecute; None: each of them.
        toleration_seconds: How long NoExecute is tolerated; None: for ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: LabelKey | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Toleration:
        if self.operator == "Exists" and self.value:
            raise ValueError("a toleration with the operator Exists takes no value")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("a toleration without a key needs the operator Exists")
        return self


class Profile(BaseModel):
    """Named resources for one run.

    Attributes:
        name: What `--profile` takes.
        runner: The runner that offers it, by entry-point name.
        cpus: CPU cores for the whole run; None: all of the machine.
        memory: Bytes for the whole run (accepts "8Gi"); None: no limit of ours.
        gpus: GPUs for the whole run; 0: none, None: every one that is visible (on Kubernetes: none).
        workers: Dask workers; None: one per GPU, else one per two cores.
        image: Container image, where the runner uses one.
        queue: Queue to wait in, where the runner has one; on Kubernetes a LocalQueue of Kueue.
        node_selector: Labels that a node must have, where the runner has nodes.
        pods: Pods that share the resources in equal parts. 1: everything on one node, with fast links between its
            GPUs; more: one Dask cluster over several nodes.
        gpu_resource: What Kubernetes calls the GPUs: `nvidia.com/gpu`, or a slice such as `nvidia.com/mig-3g.40gb`.
        shm: Bytes of `/dev/shm` in each pod; they count as its memory. None: as much as the pod's memory.
        rmm_pool: GPU memory that each Dask worker takes at once for RMM, as a share or in bytes. 0: nothing. None:
            half where the notebook shares the GPU, else 85 %.
        device_memory_limit: Share of GPU memory from which a Dask worker spills to main memory; None: Dask-CUDA's 80 %.
        protocol: How Dask workers of several pods talk: `tcp` is encrypted; `ucx` and `ucxx` use InfiniBand and NVLink
            and are not: any process that reaches the pods can then run code in the run, so close the network.
        tolerations: Taints of nodes that a run may ignore, with Kubernetes' fields (`toleration_seconds` spelt so).
        env_from_secrets: Secrets whose keys become variables of the run, such as MLflow's or a store's credentials.
        namespace: Namespace of the run; None: that of the kubeconfig's context.
        context: Context of the kubeconfig; None: the current one, or the pod's own account.
        service_account: Account that the pods run as; no token of it is given to them. None: the namespace's default.
        priority_class: A PriorityClass; with a queue, a WorkloadPriorityClass of Kueue.
        image_pull_secrets: Secrets with the registry's credentials.
        ttl: Seconds that a run that has ended stays in Kubernetes, with its logs.
        retries: How often a run is started again when its node was lost or drained, or its pod was preempted or died
            without a word; a notebook that failed is not repeated.
        description: One line for a list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=63)
    runner: str = "local"
    cpus: float | None = Field(default=None, gt=0)
    memory: Bytes | None = None
    gpus: int | None = Field(default=None, ge=0)
    workers: int | None = Field(default=None, ge=1)
    image: Image | None = None
    queue: ShortSubdomain | None = None
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    pods: int = Field(default=1, ge=1, le=1000)
    gpu_resource: ExtendedResource = "nvidia.com/gpu"
    shm: Bytes | None = None
    rmm_pool: ShareOrBytes | None = None
    device_memory_limit: float | None = Field(default=None, gt=0, le=1)
    protocol: Literal["tcp", "ucx", "ucxx"] = "tcp"
    tolerations: tuple[Toleration, ...] = ()
    env_from_secrets: tuple[Subdomain, ...] = ()
    namespace: Label | None = None
    context: str | None = Field(default=None, min_length=1)
    service_account: Subdomain | None = None
    priority_class: ShortSubdomain | None = None
    image_pull_secrets: tuple[Subdomain, ...] = ()
    ttl: int = Field(default=86400, ge=0, lt=2**31)
    retries: int = Field(default=2, ge=0, le=100)
    description: str = ""

    def worker_count(self) -> int:
        """Dask workers on CPU: as asked, else one per two cores, at least one."""
        if self.workers is not None:
            return self.workers
        return max(1, self.cpu_count() // 2)

    def cpu_count(self) -> int:
        """Whole CPU cores: as asked, else those that this process may use; at least one."""
        if self.cpus is not None:
            return max(1, int(self.cpus))
        try:
            return len(os.sched_getaffinity(0))
        except AttributeError:  # macOS and Windows
            return os.cpu_count() or 1
