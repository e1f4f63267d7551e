"""Gates from what a person writes: `accuracy>=0.9`, `log_loss:0.01`, `2:bob,cat`. Pure; knows no run and no policy."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ..compare.comparison import better as better_by_name
from ..errors import UsageError
from .gate import ApprovalGate, ChampionGate, GateSpec, GitGate, MetricGate
from .model import checked

_COMPARISON = re.compile(r"\s*(?P<metric>[^<>=!~]*?)\s*(?P<operator>[<>=!~]+)\s*(?P<threshold>[^<>=!~]*?)\s*")
_OPERATORS = (">=", ">", "<=", "<")
_EXAMPLE = 'For example: --require "accuracy>=0.9"'


def metric_gate(text: str) -> MetricGate:
    """The gate of `METRIC OPERATOR NUMBER`.

    Raises:
        UsageError: it is no such comparison.
    """
    found = _COMPARISON.fullmatch(text)
    if found is None or not found["metric"] or not found["threshold"]:
        raise UsageError(f"{text!r} is no comparison of a metric with a number.", hint=_EXAMPLE, code="gate")
    if found["operator"] not in _OPERATORS:
        raise UsageError(
            f"{found['operator']!r} in {text!r} is no comparison that a gate makes.",
            hint=f"Write one of {', '.join(_OPERATORS)}. {_EXAMPLE}",
            code="gate",
        )
    threshold = _number(found["threshold"], text, _EXAMPLE)
    return checked(
        MetricGate, {"metric": found["metric"], "operator": found["operator"], "threshold": threshold}, what="gate"
    )


def champion_gate(text: str) -> ChampionGate:
    """The gate of `METRIC[:MARGIN][:higher|lower]`; without the last, the metric's name says what is better.

    Raises:
        UsageError: it is no such thing, or the name does not say it.
    """
    example = "For example: --require-not-worse accuracy:0.01, or --require-not-worse gini:0.01:higher"
    rest, direction = text.strip(), None
    for word in ("higher", "lower"):
        if rest.endswith(f":{word}"):
            rest, direction = rest.removesuffix(f":{word}").rstrip(), word
    metric, colon, margin = rest.rpartition(":")
    if not colon:
        metric, margin = rest, "0"
    metric = metric.strip()
    if not metric:
        raise UsageError(f"{text!r} names no metric.", hint=example, code="gate")
    size = _number(margin, text, example)
    if size < 0:
        raise UsageError(f"The margin in {text!r} is negative.", hint=example, code="gate")
    direction = direction or better_by_name(metric)
    if direction is None:
        raise UsageError(
            f"Whether more or less of {metric!r} is better cannot be told from its name.",
            hint=f"Write {metric}:{margin}:higher or {metric}:{margin}:lower.",
            code="gate",
        )
    return checked(ChampionGate, {"metric": metric, "better": direction, "margin": size}, what="gate")


def approval_gate(text: str) -> ApprovalGate:
    """The gate of `COUNT`, `USER,USER` or `COUNT:USER,USER`.

    Raises:
        UsageError: it is none of them, or asks for more people than it names.
    """
    example = "For example: --require-approval 1, --require-approval bob,cat or --require-approval 2:bob,cat,dan"
    head, colon, tail = text.partition(":")
    count, names = (head, tail) if colon else (text, "") if text.strip().isdecimal() else ("1", text)
    people = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not count.strip().isdecimal() or (not people and (colon or not text.strip().isdecimal())):
        raise UsageError(f"{text!r} says neither how many approve nor who.", hint=example, code="gate")
    wanted = int(count) if len(count.strip()) < 4 else 999
    if people and wanted > len(people):
        raise UsageError(f"{text!r} asks for {wanted} approvals of {len(people)} people.", hint=example, code="gate")
    return checked(ApprovalGate, {"count": wanted, "by": people}, what="gate")


def git_gate(word: str) -> GitGate:
    """The gate of `known` or `clean`.

    Raises:
        UsageError: it is neither.
    """
    if word not in ("known", "clean"):
        raise UsageError(
            f"{word!r} is no state of git that a gate asks for.", hint="Write known or clean.", code="gate"
        )
    return GitGate(clean=word == "clean")


def in_order(gates: Sequence[GateSpec]) -> tuple[GateSpec, ...]:
    """Each gate once, those that need no run first and people last; the order in which they are judged."""
    ranks = {"git_known": 0, "image_digest": 1, "clean_run": 2, "data_checks": 3, "metric": 4, "champion": 5,
             "approval": 6}  # fmt: skip
    return tuple(sorted(dict.fromkeys(gates), key=lambda gate: ranks[gate.kind]))


def _number(text: str, whole: str, example: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UsageError(f"{text.strip()!r} in {whole!r} is no number.", hint=example, code="gate")
    return found
