"""What GPUs there are, who has them, who waits, and how many one could have now: a pure view of what could be read.

What a person may not read is None here and not nought: a namespace's user often sees its quota and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import conditions
from .nodes import Holder, NodeUse, has_ended, holders_of, node_uses, pod_requests, quantity_or_none
from .quantities import is_gpu

_PRODUCT_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "gpu.intel.com/product")


@dataclass(frozen=True)
class Use:
    """How many GPUs of a kind somebody has.

    Attributes:
        holder: Who.
        count: How many.
    """

    holder: Holder
    count: int


@dataclass(frozen=True)
class Kind:
    """One kind of GPU, or of slices of GPUs.

    Attributes:
        resource: As Kubernetes names it.
        product: As the maker names it; empty where no node tells.
        total: On nodes that take pods; None where nodes cannot be read.
        free: Of them, given to nobody; None where nodes or pods cannot be read.
        largest: The most that one pod could have now, by nodes and quota; None where neither tells.
        largest_ever: The most that one pod could have on an empty cluster; None where nodes cannot be read.
        queued: Asked for by pods and Workloads that wait and would take this kind; None where neither can be read.
        quota: Allowed to the namespace; None without a quota. All kinds of one resource share it.
        quota_left: Of it, not used.
        uses: Who has them, the largest first; of the namespace only where other pods cannot be read.
    """

    resource: str
    product: str
    total: int | None = None
    free: int | None = None
    largest: int | None = None
    largest_ever: int | None = None
    queued: int | None = None
    quota: int | None = None
    quota_left: int | None = None
    uses: tuple[Use, ...] = ()


@dataclass(frozen=True)
class Capacity:
    """What there is.

    Attributes:
        kinds: By resource and product.
        missing: What could not be read, in words for a list: "nodes", "pods", "queues", "quotas".
    """

    kinds: tuple[Kind, ...]
    missing: tuple[str, ...] = ()


def capacity(
    *,
    nodes: Sequence[Mapping[str, Any]] | None,
    pods: Sequence[Mapping[str, Any]] | None,
    quotas: Sequence[Mapping[str, Any]] | None = None,
    workloads: Sequence[Mapping[str, Any]] | None = None,
    own_pods: Sequence[Mapping[str, Any]] | None = None,
    resources: Iterable[str] = (),
) -> Capacity:
    """What GPUs there are and who has them.

    Args:
        nodes: All Nodes; None: not readable.
        pods: The Pods of all namespaces; None: not readable, and then nobody knows what is free.
        quotas: The namespace's ResourceQuotas; None: not readable.
        workloads: Kueue's Workloads that could be read; None: not readable, or no Kueue.
        own_pods: The namespace's Pods, for where those of all namespaces are not readable.
        resources: More resources to count as GPUs than those that we know by name.
    """
    known = set(resources)
    seen = pods if pods is not None else own_pods
    uses = node_uses(nodes or (), seen or ())
    holders = holders_of(pod for pod in seen or () if (pod.get("spec") or {}).get("nodeName"))
    groups: dict[tuple[str, str], list[NodeUse]] = {}
    for use in uses:
        for resource, count in use.total.items():
            if count > 0 and (resource in known or is_gpu(resource)):
                groups.setdefault((resource, product(use.labels)), []).append(use)
    limits = _quotas(quotas or ())
    held = () if nodes is not None else (resource for holder in holders for resource in holder.amounts)
    for resource in (*limits, *held):
        if (resource in known or is_gpu(resource)) and not any(key[0] == resource for key in groups):
            groups[resource, ""] = []
    waiting = None if seen is None and workloads is None else _waiting(seen or (), workloads or ())
    kinds = tuple(
        _kind(
            resource,
            name,
            members,
            nodes is not None,
            pods is not None,
            limits.get(resource),
            waiting,
            [holder for use in members for holder in use.holders] if members else holders,
        )
        for (resource, name), members in sorted(groups.items())
    )
    given = {"nodes": nodes, "pods": pods, "quotas": quotas, "queues": workloads}
    return Capacity(kinds, tuple(word for word, found in given.items() if found is None))


def product(labels: Mapping[str, str]) -> str:
    """What the maker calls a node's GPUs; empty where no label tells."""
    return next((labels[key] for key in _PRODUCT_LABELS if labels.get(key)), "")


def quota_left(quotas: Iterable[Mapping[str, Any]], resource: str) -> int | None:
    """How many more of an extended resource a namespace may ask for; None where no quota speaks of it."""
    found = _quotas(quotas).get(resource)
    return None if found is None else found[1]


def _kind(
    resource: str,
    name: str,
    members: Sequence[NodeUse],
    nodes_known: bool,
    pods_known: bool,
    limit: tuple[int, int] | None,
    waiting: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]] | None,
    holders: Sequence[Holder],
) -> Kind:
    left = None if limit is None else limit[1]
    by_holder: dict[str, Use] = {}
    for holder in holders:
        count = int(holder.amounts.get(resource, 0))
        if count:
            before = by_holder.get(holder.what)
            by_holder[holder.what] = Use(holder, count + (before.count if before else 0))
    seen = nodes_known and pods_known
    on_one_node = max((int(use.free(resource)) for use in members), default=0) if seen else None
    bounds = [bound for bound in (on_one_node, left) if bound is not None]
    return Kind(
        resource=resource,
        product=name,
        total=sum(int(use.total[resource]) for use in members if use.usable) if nodes_known else None,
        free=sum(int(use.free(resource)) for use in members) if seen else None,
        largest=min(bounds) if bounds else None,
        largest_ever=max((int(use.total[resource]) for use in members), default=0) if nodes_known else None,
        queued=None
        if waiting is None
        else sum(
            int(asked.get(resource, 0))
            for asked, selector in waiting
            if not members or any(selector.items() <= use.labels.items() for use in members)
        ),
        quota=None if limit is None else limit[0],
        quota_left=left,
        uses=tuple(sorted(by_holder.values(), key=lambda use: (-use.count, use.holder.what))),
    )


def _quotas(quotas: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Allowed and left, by resource: the narrowest of the quotas that hold for every pod."""
    found: dict[str, tuple[int, int]] = {}
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue  # it holds for some pods only, and which ones is not ours to guess
        hard, used = status.get("hard") or spec.get("hard") or {}, status.get("used") or {}
        for key, value in hard.items():
            allowed = quantity_or_none(value)
            if not key.startswith("requests.") or allowed is None:
                continue
            left = max(0, int(allowed - (quantity_or_none(used.get(key, 0)) or 0)))
            resource = key.removeprefix("requests.")
            if resource not in found or left < found[resource][1]:
                found[resource] = (int(allowed), left)
    return found


def _waiting(
    pods: Iterable[Mapping[str, Any]], workloads: Iterable[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, str]]]:
    """What waiting pods and Workloads ask for, with their node selectors."""
    found: list[tuple[Mapping[str, Any], Mapping[str, str]]] = []
    for pod in pods:
        spec = pod.get("spec") or {}
        if not spec.get("nodeName") and not has_ended(pod):
            found.append((pod_requests(spec), spec.get("nodeSelector") or {}))
    for workload in workloads:
        if conditions.is_true(workload, "QuotaReserved") or conditions.is_true(workload, "Finished"):
            continue
        for pod_set in (workload.get("spec") or {}).get("podSets") or ():
            spec = (pod_set.get("template") or {}).get("spec") or {}
            asked = {name: value * int(pod_set.get("count", 1)) for name, value in pod_requests(spec).items()}
            found.append((asked, spec.get("nodeSelector") or {}))
    return found
