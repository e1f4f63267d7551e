"""Why the kube-scheduler finds no node for a pod, and when it will: from its message, and from the nodes if known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .nodes import Holder, NodeUse, pod_requests
from .quantities import amount, is_gpu
from .reason import Reason, Stage

_VERDICT = re.compile(r"0/(\d+) nodes are available[:,] (.*)", re.DOTALL)
_ITEM = re.compile(r"(\d+) (.+)", re.DOTALL)
_TAINT = re.compile(r"untolerated taint(?:\(s\)| \{([^:}]*):? ?([^}]*)\})")
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted|bound to non-existent)')
_OPTIONS = {"cpu": "--cpus", "memory": "--memory"}
_WAIT = "It starts by itself as soon as there is a place."


@dataclass(frozen=True)
class Verdict:
    """What the kube-scheduler said.

    Attributes:
        nodes: How many nodes there are.
        reasons: How many of them were refused for each reason.
        claim: What it said before it looked at nodes; then there are no reasons.
    """

    nodes: int
    reasons: Mapping[str, int]
    claim: str = ""

    @property
    def insufficient(self) -> list[str]:
        """The resources that some node had too little of, GPUs first."""
        found = [reason.removeprefix("Insufficient ") for reason in self.reasons if reason.startswith("Insufficient ")]
        return sorted(found, key=lambda name: (not is_gpu(name), name != "memory", name))


def parse_verdict(message: str) -> Verdict | None:
    """The message of an unschedulable pod, or None when it is of another form.

    Source: FitError.Error in k8s.io/kubernetes, pkg/scheduler/framework/types.go: "0/X nodes are available:
    <PreFilterMsg>. <FilterMsg>. <PostFilterMsg>", the second being "N reason, N reason".
    """
    found = _VERDICT.match(message.strip())
    if found is None:
        return None
    # What follows the first full stop is about preemption and claims that could be taken back.
    body = re.split(r"\.(?:\s|$)", found[2], maxsplit=1)[0].strip()
    reasons: dict[str, int] = {}
    for part in body.split(", "):
        item = _ITEM.fullmatch(part)
        if item is not None:
            reasons[item[2]] = int(item[1])
        elif reasons:  # a comma inside of a reason
            last = next(reversed(reasons))
            reasons[f"{last}, {part}"] = reasons.pop(last)
    return Verdict(int(found[1]), reasons, "" if reasons else body)


def unschedulable(pod: Mapping[str, Any], message: str, *, nodes: Sequence[NodeUse] | None, pods_known: bool) -> Reason:
    """Why no node takes this pod.

    Args:
        pod: The pod.
        message: Of its condition PodScheduled.
        nodes: The nodes with what is used on them; None: not readable.
        pods_known: Whether what is used on the nodes is known.
    """
    verdict = parse_verdict(message)
    if verdict is None:
        return Reason(Stage.PENDING, "Unschedulable", f"No node takes the run: {message}", _WAIT, message)
    if verdict.claim:
        return _before_nodes(verdict.claim, message)
    lacking = verdict.insufficient
    if lacking:
        wants = pod_requests(pod.get("spec") or {})
        known = [node for node in nodes or () if node.takes(pod.get("spec") or {})]
        # A resource that would not fit even on an empty node outweighs one that is only in use.
        resource = next((name for name in lacking if known and _most(known, name) < wants.get(name, 0)), lacking[0])
        return _insufficient(resource, wants.get(resource, Decimal(0)), known, pods_known, message)
    return _unsuitable(pod, verdict, nodes, message)


def _insufficient(resource: str, wanted: Decimal, nodes: Sequence[NodeUse], pods_known: bool, message: str) -> Reason:
    option = _OPTIONS.get(resource, "--gpus" if is_gpu(resource) else "")
    asks = f"The run asks for {amount(resource, wanted)} on one node"
    if not nodes:
        return Reason(
            Stage.PENDING, "insufficient", f"{asks}, and no node has so much free.",
            f"{_WAIT}" + (f" Less ({option}) may start sooner." if option else ""), message,
        )  # fmt: skip
    most = _most(nodes, resource)
    if most < wanted:
        least = f"Ask for at most {amount(resource, most)}" + (f" ({option})" if option else "")
        hint = f"{least}, or use a profile with more pods." if most else "Use another profile: no node has any."
        return Reason(
            Stage.PENDING, "too_large", f"{asks}, and the largest node has {amount(resource, most)}.", hint, message,
            blocked=True,
        )  # fmt: skip
    if not pods_known:
        return Reason(Stage.PENDING, "insufficient", f"{asks}, and no node has so much free.", _WAIT, message)
    free = max(node.free(resource) for node in nodes)
    until = _until(resource, wanted, nodes)
    message_ = (
        f"{asks} and {amount(resource, free)} {'is' if free == 1 else 'are'} free{f' until {until}' if until else ''}."
    )
    now = f" Ask for at most {amount(resource, free)} ({option}) to start now." if free and option else ""
    return Reason(Stage.PENDING, "insufficient", message_, f"{_WAIT}{now}", message)


def _most(nodes: Sequence[NodeUse], resource: str) -> Decimal:
    return max((node.total.get(resource, Decimal(0)) for node in nodes), default=Decimal(0))


def _until(resource: str, wanted: Decimal, nodes: Sequence[NodeUse]) -> str:
    """Who must end so that there is room on some node: as few as possible, where least is missing."""
    best: list[Holder] = []
    for node in sorted(nodes, key=lambda node: -node.free(resource)):
        missing = wanted - node.free(resource)
        if node.total.get(resource, Decimal(0)) < wanted or missing <= 0:
            continue
        having = [holder for holder in node.holders if holder.amounts.get(resource)]
        having.sort(key=lambda holder: -holder.amounts[resource])
        enough = [holder for holder in having if holder.amounts[resource] >= missing]
        if enough:
            return f"the {enough[-1]} ends"
        chosen: list[Holder] = []
        while having and missing > 0:
            chosen.append(having.pop(0))
            missing -= chosen[-1].amounts[resource]
        if missing <= 0 and (not best or len(chosen) < len(best)):
            best = chosen
    return f"{' and '.join(f'the {holder}' for holder in best)} end" if best else ""


def _before_nodes(claim: str, message: str) -> Reason:
    found = _CLAIM.search(claim)
    if found is not None:
        state = {"not found": "does not exist", "is being deleted": "is being deleted"}.get(
            found[2], "has lost its volume"
        )
        return Reason(
            Stage.PENDING, "volume_claim", f"The volume claim {found[1]} of the run {state}.",
            "Correct its name, or make it: kubectl get persistentvolumeclaims.", message, blocked=True,
        )  # fmt: skip
    return Reason(Stage.PENDING, "Unschedulable", f"No node takes the run: {claim}.", _WAIT, message)


def _unsuitable(pod: Mapping[str, Any], verdict: Verdict, nodes: Sequence[NodeUse] | None, message: str) -> Reason:
    """No node lacks anything; they are of the wrong kind, closed or away."""
    selector = (pod.get("spec") or {}).get("nodeSelector") or {}
    said = " ".join(verdict.reasons)
    if "didn't match Pod's node affinity/selector" in said and selector:
        nowhere = [
            f"{key}={value}"
            for key, value in selector.items()
            if nodes is not None and not any(node.labels.get(key) == value for node in nodes)
        ]
        labels = ", ".join(nowhere) or ", ".join(f"{key}={value}" for key, value in selector.items())
        which = "No node has" if nowhere else "No node that takes the run has"
        return Reason(
            Stage.PENDING, "no_such_node", f"{which} the label{'s' * (', ' in labels)} {labels} of the profile.",
            "Correct 'node_selector' in the profile; kubectl get nodes --show-labels shows what there is.", message,
            blocked=True,
        )  # fmt: skip
    fitting = [node for node in nodes or () if selector.items() <= node.labels.items()]
    away = bool(fitting) and not any(node.usable for node in fitting)
    if "untolerated taint" in said and not away:
        taints = _foreign_taints(pod.get("spec") or {}, said, fitting)
        if taints or "taint(s)" in said:
            named = f" ({', '.join(taints)})" if taints else ""
            return Reason(
                Stage.PENDING, "tainted", f"The nodes that would fit are reserved{named}.",
                "Name the taint in the profile's 'tolerations' if the run may use them, or choose another profile.",
                message, blocked=True,
            )  # fmt: skip
    if away or "were unschedulable" in said or "node.kubernetes.io/" in said:
        return Reason(
            Stage.PENDING, "nodes_away", "The nodes that would fit are closed for maintenance or do not answer.",
            f"{_WAIT} The platform team knows until when.", message,
        )  # fmt: skip
    if re.search(r"volume|PersistentVolume|free storage", said):
        return Reason(
            Stage.PENDING, "volume", f"No node can have the run's volume: {said}.",
            "Show the text below to the platform team.", message, blocked=True,
        )  # fmt: skip
    if "claim" in said:
        return Reason(
            Stage.PENDING, "device_claim", f"No node can give the devices that the run claims: {said}.", _WAIT, message
        )
    return Reason(Stage.PENDING, "Unschedulable", f"No node takes the run: {said}.", _WAIT, message)


def _foreign_taints(pod: Mapping[str, Any], said: str, nodes: Sequence[NodeUse]) -> list[str]:
    """The taints that somebody set, as KEY=VALUE; up to 1.33 the kube-scheduler names them, after that the nodes do."""
    found = [(key, value) for key, value in _TAINT.findall(said) if key]
    found += [
        (taint["key"], taint.get("value", "")) for node in nodes if node.usable for taint in node.untolerated(pod)
    ]
    ours = dict.fromkeys(pair for pair in found if not pair[0].startswith("node.kubernetes.io/"))
    return [f"{key}={value}" if value else key for key, value in ours]
