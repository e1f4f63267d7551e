"""What nodes have and who uses it: from Nodes and Pods as the API gives them. Knows no run of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from . import names
from .quantities import parse_quantity

Amounts = dict[str, Decimal]


@dataclass(frozen=True)
class Holder:
    """Who uses resources: a run of ours with all its pods on the node, or somebody else's pod.

    Attributes:
        what: The run's id, or NAMESPACE/NAME of the pod.
        owner: Whose run it is; empty for others' pods.
        is_run: Whether it is a run of ours.
        amounts: What it holds.
    """

    what: str
    owner: str
    is_run: bool
    amounts: Amounts

    def __str__(self) -> str:
        if not self.is_run:
            return f"pod {self.what}"
        return f"run {self.what} of {self.owner}" if self.owner else f"run {self.what}"


@dataclass(frozen=True)
class NodeUse:
    """One node.

    Attributes:
        name: Its name.
        labels: Its labels.
        taints: What keeps pods off that do not tolerate it.
        answers: Whether it is ready.
        usable: Whether it is ready and takes pods.
        total: What pods may use there (`allocatable`).
        used: What pods asked for.
        holders: Who asked.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, Any], ...]
    answers: bool
    usable: bool
    total: Amounts
    used: Amounts
    holders: tuple[Holder, ...] = field(default=())

    def free(self, resource: str) -> Decimal:
        """What is left of a resource; nothing on a node that takes no pods."""
        if not self.usable:
            return Decimal(0)
        return max(Decimal(0), self.total.get(resource, Decimal(0)) - self.used.get(resource, Decimal(0)))

    def takes(self, pod: Mapping[str, Any]) -> bool:
        """Whether a pod of this spec may be here at all: node selector and taints; affinities are not looked at."""
        selector = pod.get("nodeSelector") or {}
        return self.usable and selector.items() <= self.labels.items() and not self.untolerated(pod)

    def untolerated(self, pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The taints that keep a pod of this spec off."""
        tolerations = pod.get("tolerations") or ()
        return [
            taint
            for taint in self.taints
            if taint.get("effect") != "PreferNoSchedule"
            and not any(_tolerates(toleration, taint) for toleration in tolerations)
        ]


def node_uses(nodes: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> tuple[NodeUse, ...]:
    """Each node with what the pods on it asked for.

    Args:
        nodes: All Nodes.
        pods: All Pods that could be read; what others hold is not seen where they could not.
    """
    placed: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        node = (pod.get("spec") or {}).get("nodeName")
        if node and not has_ended(pod):
            placed.setdefault(node, []).append(pod)
    return tuple(_node_use(node, placed.get(node["metadata"]["name"], [])) for node in nodes)


def holders_of(pods: Iterable[Mapping[str, Any]]) -> list[Holder]:
    """Who holds what: the pods that have not ended, those of one run together."""
    found: dict[str, Holder] = {}
    for pod in pods:
        if has_ended(pod):
            continue
        asked = pod_requests(pod.get("spec") or {})
        _add(asked, {"pods": Decimal(1)})
        holder = _holder(pod, asked)
        if holder.what in found:
            _add(found[holder.what].amounts, asked)
        else:
            found[holder.what] = holder
    return list(found.values())


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether the pod holds no resources any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def pod_requests(spec: Mapping[str, Any]) -> Amounts:
    """What the kube-scheduler counts for a pod.

    The containers' sum with the sidecars, or the largest init container with the sidecars before it if that is more;
    what the pod as a whole asks for goes before that; and the overhead. Source: PodRequests in
    k8s.io/component-helpers, resource/helpers.go.
    """
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _asked(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        asked = _asked(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, asked)
            _raise(peak, sidecars)
        else:
            _raise(peak, _sum(asked, sidecars))
    _add(total, sidecars)
    _raise(total, peak)
    total |= _asked(spec)
    _add(total, _parsed(spec.get("overhead")))
    return total


def quantity_or_none(value: object) -> Decimal | None:
    """The number, or None for what is no quantity: others' objects may hold anything."""
    try:
        return parse_quantity(value)
    except ValueError:
        return None


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _node_use(node: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> NodeUse:
    holders = holders_of(pods)
    used: Amounts = {}
    for holder in holders:
        _add(used, holder.amounts)
    status = node.get("status") or {}
    ready = any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )
    return NodeUse(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        taints=tuple((node.get("spec") or {}).get("taints") or ()),
        answers=ready,
        usable=ready and not (node.get("spec") or {}).get("unschedulable"),
        total=_parsed(status.get("allocatable")),
        used=used,
        holders=tuple(holders),
    )


def _holder(pod: Mapping[str, Any], amounts: Amounts) -> Holder:
    ours = names.run_of(pod)
    if ours is not None:
        return Holder(ours[0], ours[1], True, amounts)
    metadata = pod["metadata"]
    return Holder(f"{metadata.get('namespace', 'default')}/{metadata['name']}", "", False, amounts)


def _asked(container: Mapping[str, Any]) -> Amounts:
    resources = container.get("resources") or {}
    # A limit without a request is a request of as much.
    return {**_parsed(resources.get("limits")), **_parsed(resources.get("requests"))}


def _parsed(amounts: Mapping[str, Any] | None) -> Amounts:
    found = {name: quantity_or_none(value) for name, value in (amounts or {}).items()}
    return {name: value for name, value in found.items() if value is not None}


def _sum(left: Amounts, right: Amounts) -> Amounts:
    found = dict(left)
    _add(found, right)
    return found


def _add(to: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        to[name] = to.get(name, Decimal(0)) + value


def _raise(to: Amounts, other: Amounts) -> None:
    for name, value in other.items():
        to[name] = max(to.get(name, value), value)
