"""The kernels in pods that a person has, as Kubernetes shows them: those that live, and those that were lost lately."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import MLOpsError
from ..kubernetes import names
from ..kubernetes.single_pod import reworded

if TYPE_CHECKING:
    from ..config import MLOps


@dataclass(frozen=True)
class RunningKernel:
    """One kernel's pod.

    Attributes:
        kernel_id: Jupyter's.
        profile: What it was started with.
        job: Its Job.
        namespace: Where.
        state: A `Stage`: running, pending, failed, …
        reason: Why, in a sentence.
        create_time: Of the Job, in Kubernetes' words.
    """

    kernel_id: str
    profile: str
    job: str
    namespace: str
    state: str
    reason: str
    create_time: str

    def as_dict(self) -> dict[str, Any]:
        """The kernel as JSON carries it."""
        return asdict(self)


def running_kernels(config: MLOps) -> tuple[list[RunningKernel], list[str]]:
    """The person's kernels in each namespace that a profile names, and what could not be looked at."""
    from ..identity import current_user
    from ..kubernetes.api import Api

    found: list[RunningKernel] = []
    problems: list[str] = []
    places = {(each.context, each.namespace) for each in config.all_profiles().values() if each.runner == "kubernetes"}
    for context, namespace in sorted(places, key=str):
        try:
            found += _kernels_in(Api(context, namespace), current_user())
        except MLOpsError as error:
            problems.append(error.message)
    return sorted(found, key=lambda each: (each.create_time, each.job)), problems


def _kernels_in(api: Any, owner: str) -> list[RunningKernel]:
    from ..kubernetes.watch import Watch

    mine = {
        names.MANAGED_BY_LABEL: names.PRODUCT, names.COMPONENT_LABEL: "kernel",
        names.OWNER_LABEL: names.label_value(owner),
    }  # fmt: skip
    found = []
    for job in api.find("jobs", labels=mine):
        metadata = job["metadata"]
        labels, name = metadata["labels"], metadata["name"]
        selector = {names.MANAGED_BY_LABEL: names.PRODUCT, names.INSTANCE_LABEL: name}
        reason = Watch(api, name, selector, metadata["uid"]).look().reason
        found.append(RunningKernel(
            kernel_id=labels.get(names.KERNEL_LABEL, ""), job=name,
            profile=(metadata.get("annotations") or {}).get(names.PROFILE_ANNOTATION, ""),
            namespace=metadata["namespace"], state=reason.stage.value, reason=reworded(reason.message, "kernel"),
            create_time=metadata.get("creationTimestamp", ""),
        ))  # fmt: skip
    return found
