"""Why the API server does not let an object in: quota, limits, policy, webhooks, names that are missing.

The same texts come as the answer to a call of ours and in the event `FailedCreate` on a Job, whose pods the Job
controller could not make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .nodes import Holder, quantity_or_none
from .quantities import amount, is_gpu
from .reason import Reason, Stage

_QUOTA = re.compile(r"exceeded quota: (.+?), requested: (.*?), used: (.*?), limited: ([^\s\"]*)", re.DOTALL)
_ASK_LESS = {"cpu": "--cpus", "memory": "--memory"}
_PLATFORM = "Show the text below to the platform team."


@dataclass(frozen=True)
class QuotaExcess:
    """One line of a refusal by quota; the amounts in the resource's base unit.

    Attributes:
        quota: Name of the ResourceQuota.
        resource: As the quota names it (`requests.nvidia.com/gpu`).
        requested: By the object that was refused.
        used: In the namespace.
        limited: The most that the namespace may use.
    """

    quota: str
    resource: str
    requested: float
    used: float
    limited: float


def quota_excess(text: str) -> tuple[QuotaExcess, ...]:
    """What a quota refused; empty when the text is not about one.

    Source: checkRequest in k8s.io/apiserver, pkg/admission/plugin/resourcequota/controller.go.
    """
    found = _QUOTA.search(text)
    if found is None:
        return ()
    requested, used, limited = (_pairs(part) for part in found.groups()[1:])
    return tuple(
        QuotaExcess(found[1], resource, count, used.get(resource, 0.0), limited[resource])
        for resource, count in requested.items()
        if resource in limited
    )


def refused(text: str, *, holders: Iterable[Holder] = ()) -> Reason:
    """Why pods of a run, or its Job, are not let in.

    Args:
        text: What the API server said, with or without "Error creating: ".
        holders: Who uses resources in the namespace, to name them where a quota is full.
    """
    raw = text.removeprefix("Error creating: ").strip()
    excess = quota_excess(raw)
    if excess:
        return _over_quota(excess, raw, holders)
    for pattern, make in _REFUSALS:
        found = pattern.search(raw)
        if found is not None:
            cause, message, hint, blocked = make(*(part or "" for part in found.groups()))
            return Reason(Stage.PENDING, cause, message, hint, raw, blocked=blocked)
    return Reason(
        Stage.PENDING, "FailedCreate", f"Kubernetes refuses the run's pods: {_short(raw)}", _PLATFORM, raw, blocked=True
    )


def is_refusal(text: str) -> bool:
    """Whether a refusal is about what an object asks for, and not about who asks."""
    return bool(quota_excess(text)) or any(pattern.search(text) for pattern, _ in _REFUSALS)


def _over_quota(excess: tuple[QuotaExcess, ...], raw: str, holders: Iterable[Holder]) -> Reason:
    worst = max(excess, key=lambda line: line.requested > line.limited)
    resource = worst.resource.removeprefix("requests.").removeprefix("limits.")
    allowed, used = amount(resource, worst.limited), amount(resource, worst.used)
    never = worst.requested > worst.limited
    message = (
        f"The quota {worst.quota} allows the namespace {allowed}; in use: {used}; "
        f"{'the run' if resource.startswith('count/') else 'a pod of the run'} asks for "
        f"{amount(resource, worst.requested)}."
    )
    option = _ASK_LESS.get(resource, "--gpus" if is_gpu(resource) else "")
    least = f"Ask for less ({option})" if option else "Ask for less"
    if never:
        hint = f"{least}, or ask the platform team for more: it can never start like this."
    else:
        users = [holder for holder in holders if holder.amounts.get(resource)]
        users.sort(key=lambda holder: -holder.amounts[resource])
        named = ", ".join(f"{holder} ({amount(resource, holder.amounts[resource])})" for holder in users[:3])
        hint = (
            f"It starts by itself when enough is free{f': in use by {named}' if named else ''}. {least} to start now."
        )
    return Reason(Stage.PENDING, "quota", message, hint, raw, blocked=never)


def _pairs(text: str) -> dict[str, float]:
    found = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        number = quantity_or_none(value)
        if number is not None:
            found[name.strip()] = float(number)
    return found


def _short(text: str, longest: int = 300) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


_Told = tuple[str, str, str, bool]


def _quota_silent(quota: str, what: str) -> _Told:
    return (
        "quota_needs_requests",
        f"The namespace's quota {quota} wants to know what every pod needs, and the profile leaves out: {what}.",
        "Set 'cpus' and 'memory' in the profile.",
        True,
    )


def _limit_range(bound: str, resource: str, kind: str, allowed: str, asked: str) -> _Told:
    number, limit = quantity_or_none(asked), quantity_or_none(allowed)
    has = amount(resource, number) if number is not None else asked or "none"
    may = amount(resource, limit) if limit is not None else allowed
    return (
        "limit_range",
        f"The namespace allows a {kind.lower()} {'at most' if bound == 'maximum' else 'at least'} {may}, and the run "
        f"asks for {has}.",
        f"Ask for {'less' if bound == 'maximum' else 'more'}"
        + (f" ({_ASK_LESS[resource]})." if resource in _ASK_LESS else "."),
        True,
    )


def _pod_security(level: str, what: str) -> _Told:
    return (
        "pod_security",
        f"The namespace's Pod Security level {level} does not allow the run's pods: {_short(what)}",
        "Something adds to the pods what the level forbids (a webhook, a sidecar): show the text to the platform team.",
        True,
    )


def _webhook_denied(name: str, why: str) -> _Told:
    return (
        "policy",
        f"A rule of this Kubernetes ({name}) refuses the run: {_short(why) or 'it gives no reason'}",
        _PLATFORM,
        True,
    )


def _webhook_away(name: str, why: str) -> _Told:
    return (
        "webhook_unreachable",
        f"A check of this Kubernetes ({name}) does not answer, so that nothing is let in: {_short(why)}",
        "Kubernetes tries again by itself; tell the platform team if it lasts.",
        False,
    )


def _account(name: str) -> _Told:
    return (
        "service_account_missing",
        f"The service account {name} does not exist.",
        "Correct 'service_account' in the profile, or ask the platform team to make it.",
        True,
    )


def _priority(name: str) -> _Told:
    return (
        "priority_missing",
        f"The PriorityClass {name} does not exist.",
        "Correct 'priority_class' in the profile.",
        True,
    )


def _terminating(namespace: str) -> _Told:
    return ("namespace_terminating", f"The namespace {namespace} is being deleted.", "Use another namespace.", True)


def _scc(why: str) -> _Told:
    return (
        "pod_security",
        f"No security context constraint of this OpenShift fits the run's pods: {_short(why)}",
        "Set 'service_account' in the profile to one that may use 'restricted-v2', or ask the platform team.",
        True,
    )


_REFUSALS = (
    (re.compile(r"failed quota: (.+?): must specify (.+)", re.DOTALL), _quota_silent),
    (
        re.compile(
            r"(maximum|minimum) (\S+) usage per (\S+) is ([^\s,]+?)[.,]\s+"
            r"(?:but (?:limit|request) is ([^\s,\]]+)|No (?:limit|request) is specified)"
        ),
        _limit_range,
    ),
    (re.compile(r'violates PodSecurity "([^"]+)": (.+)', re.DOTALL), _pod_security),
    (
        re.compile(r'admission webhook "([^"]+)" denied the request(?:: | without explanation)(.*)', re.DOTALL),
        _webhook_denied,
    ),
    (re.compile(r"ValidatingAdmissionPolicy '([^']+)'.*? denied request: (.+)", re.DOTALL), _webhook_denied),
    (re.compile(r'failed calling webhook "([^"]+)"[:;] (.+)', re.DOTALL), _webhook_away),
    (re.compile(r"error looking up service account (\S+?): "), _account),
    (re.compile(r"no PriorityClass with name (\S+) was found"), _priority),
    (re.compile(r"unable to create new content in namespace (\S+) because it is being terminated"), _terminating),
    (re.compile(r"unable to validate against any security context constraint: (.+)", re.DOTALL), _scc),
)
