"""Whether a gate lets a version pass, given what was found. Pure: the table of cases is its test.

Knows no store, no run and no MLflow: `findings` looks, this decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import nearest
from ..spec import RunState
from .gate import (
    Approval,
    ApprovalGate,
    ChampionGate,
    CleanRunGate,
    DataChecksGate,
    GateResult,
    GateSpec,
    GitGate,
    ImageGate,
    MetricGate,
)

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, threshold: value >= threshold,
    ">": lambda value, threshold: value > threshold,
    "<=": lambda value, threshold: value <= threshold,
    "<": lambda value, threshold: value < threshold,
}
_WORDS = {">=": "{} or more", ">": "more than {}", "<=": "{} or less", "<": "less than {}"}
_LISTED = 5


@dataclass(frozen=True)
class StepSource:
    """Where what a step runs comes from.

    Attributes:
        name: The step.
        commit: The commit of its snapshot, or None: git does not know it.
        uncommitted: Files of the snapshot that are not in the commit as they ship; None: nobody could look.
        image: The image of its profile, or None.
    """

    name: str
    commit: str | None
    uncommitted: tuple[str, ...] | None
    image: str | None


@dataclass(frozen=True)
class CleanRun:
    """The run of the version's snapshot, top to bottom in a clean kernel.

    Attributes:
        run_id: Ours.
        state: How it stands.
        message: Why it ended so.
        mlflow_run_id: MLflow's, or None.
        metrics: What it logged.
        checks: What became of the cells with each tag: a title, and what is wrong with it or nothing.
    """

    run_id: str
    state: RunState
    message: str = ""
    mlflow_run_id: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    checks: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Production:
    """What the live version has reached.

    Attributes:
        version: Its number.
        run_id: The run: its last slot that succeeded, else its clean run.
        metrics: What it logged.
    """

    version: int
    run_id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Findings:
    """All that gates are judged on.

    Attributes:
        author: Who made the version.
        sources: One for each step.
        run: The clean run, or None: it was not started.
        production: The live version's, or None: no version is live.
        approvals: What people said.
    """

    author: str
    sources: tuple[StepSource, ...] = ()
    run: CleanRun | None = None
    production: Production | None = None
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """A gate that cannot be judged yet.

    Attributes:
        gate: The gate.
        missing: What is missing, in words.
    """

    gate: GateSpec
    missing: str


def judge(gate: GateSpec, found: Findings) -> GateResult | Waiting:  # noqa: PLR0911 - a return for each kind
    """Judge one gate.

    Args:
        gate: The gate.
        found: What is known.

    Returns:
        The result, or what is missing for one.
    """
    if isinstance(gate, GitGate):
        return _git(gate, found)
    if isinstance(gate, ImageGate):
        return _image(gate, found)
    if isinstance(gate, ApprovalGate):
        return _approval(gate, found)
    run = found.run
    if run is None:
        return Waiting(gate, "the clean run has not been started")
    if not run.state.is_terminal:
        return Waiting(gate, f"the clean run {run.run_id} is {run.state.value}")
    if isinstance(gate, CleanRunGate):
        return _clean_run(gate, run)
    if run.state is not RunState.SUCCEEDED:
        return Waiting(gate, f"the clean run {run.run_id} {run.state.value}")
    if isinstance(gate, DataChecksGate):
        return _data_checks(gate, run)
    if isinstance(gate, MetricGate):
        return _metric(gate, run)
    return _champion(gate, run, found.production)


def wanted(gate: GateSpec) -> str:  # noqa: PLR0911 - a return for each kind
    """What would pass a gate, in words."""
    if isinstance(gate, CleanRunGate):
        return "a run from top to bottom that succeeds"
    if isinstance(gate, MetricGate):
        return f"{gate.metric} of {_WORDS[gate.operator].format(number(gate.threshold))}"
    if isinstance(gate, ChampionGate):
        side = "below" if gate.better == "higher" else "above"
        margin = f" by more than {number(gate.margin)}" if gate.margin else ""
        return f"{gate.metric} not {side} production's{margin}"
    if isinstance(gate, DataChecksGate):
        return f"cells tagged {gate.tag} that run and raise nothing"
    if isinstance(gate, GitGate):
        return "everything that ships is in a commit" if gate.clean else "a git work tree with a commit"
    if isinstance(gate, ImageGate):
        return "images pinned by digest (name@sha256:…)"
    return f"{_people(gate.count)} approve{'s' if gate.count == 1 else ''}: {_who_may(gate)}"


def number(value: float) -> str:
    """A number as a person reads it, without losing what makes it differ."""
    return f"{value:.12g}"


def may_approve(gate: ApprovalGate, who: str, author: str) -> bool:
    """Whether a person's word counts for a gate."""
    return who != author and (not gate.by or who in gate.by)


def _result(gate: GateSpec, passed: bool, seen: str, evidence: dict[str, Any]) -> GateResult:
    return GateResult(gate=gate, passed=passed, seen=seen, wanted=wanted(gate), evidence=evidence)


def _git(gate: GitGate, found: Findings) -> GateResult:
    evidence: dict[str, Any] = {"commits": {source.name: source.commit for source in found.sources}}
    for source in found.sources:
        if source.commit is None:
            return _result(gate, False, "the notebook is in no git work tree with a commit", evidence)
        if gate.clean and source.uncommitted is None:
            return _result(gate, False, f"whether commit {source.commit[:12]} holds all that ships is not known",
                           evidence)  # fmt: skip
        if gate.clean and source.uncommitted:
            files = source.uncommitted
            more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
            evidence["uncommitted"] = list(files)
            return _result(gate, False, f"not in commit {source.commit[:12]}: {', '.join(files[:_LISTED])}{more}",
                           evidence)  # fmt: skip
    commits = sorted({source.commit[:12] for source in found.sources if source.commit})
    return _result(gate, True, f"commit {', '.join(commits)}", evidence)


def _image(gate: ImageGate, found: Findings) -> GateResult:
    images = {source.name: source.image for source in found.sources if source.image}
    evidence: dict[str, Any] = {"images": images}
    for image in images.values():
        if "@sha256:" not in image:
            return _result(gate, False, f"{image} is a tag, which can become another image", evidence)
    return _result(gate, True, ", ".join(sorted(set(images.values()))) or "no step has an image", evidence)


def _clean_run(gate: CleanRunGate, run: CleanRun) -> GateResult:
    evidence = {"run": run.run_id, "mlflow_run": run.mlflow_run_id}
    if run.state is RunState.SUCCEEDED:
        return _result(gate, True, f"run {run.run_id} succeeded", evidence)
    why = f": {run.message}" if run.message else ""
    return _result(gate, False, f"run {run.run_id} {run.state.value}{why}", evidence)


def _data_checks(gate: DataChecksGate, run: CleanRun) -> GateResult:
    cells = run.checks.get(gate.tag, ())
    evidence = {"run": run.run_id, "cells": [[title, wrong] for title, wrong in cells]}
    if not cells:
        return _result(gate, False, f"no code cell is tagged {gate.tag}", evidence)
    for title, wrong in cells:
        if wrong:
            return _result(gate, False, f"the cell '{title}' {wrong}", evidence)
    return _result(gate, True, f"{len(cells)} cell{'s' if len(cells) > 1 else ''} ran and raised nothing", evidence)


def _metric(gate: MetricGate, run: CleanRun) -> GateResult:
    value = run.metrics.get(gate.metric)
    evidence = {"run": run.run_id, "mlflow_run": run.mlflow_run_id, "value": value}
    if value is None:
        return _result(gate, False, _not_logged(gate.metric, run.run_id, run.metrics), evidence)
    passed = _COMPARE[gate.operator](value, gate.threshold)  # nan compares with nothing
    return _result(gate, passed, f"{gate.metric} is {number(value)} in run {run.run_id}", evidence)


def _champion(gate: ChampionGate, run: CleanRun, production: Production | None) -> GateResult:
    value = run.metrics.get(gate.metric)
    evidence: dict[str, Any] = {"run": run.run_id, "mlflow_run": run.mlflow_run_id, "value": value}
    if value is None:
        return _result(gate, False, _not_logged(gate.metric, run.run_id, run.metrics), evidence)
    if math.isnan(value):
        return _result(gate, False, f"{gate.metric} is nan in run {run.run_id}", evidence)
    if production is None:
        return _result(gate, True, f"{gate.metric} is {number(value)}, and no version is live yet", evidence)
    champion = production.metrics.get(gate.metric)
    evidence |= {"production_version": production.version, "production_run": production.run_id,
                 "production_value": champion}  # fmt: skip
    theirs = f"production's (v{production.version}, run {production.run_id})"
    if champion is None:
        return _result(gate, False, f"{gate.metric} is {number(value)}, and {theirs} is not known: "
                       f"{_not_logged(gate.metric, production.run_id, production.metrics)}", evidence)  # fmt: skip
    seen = f"{gate.metric} is {number(value)}, {theirs} is {number(champion)}"
    return _result(gate, not_worse(value, champion, better=gate.better, margin=gate.margin), seen, evidence)


def not_worse(value: float, champion: float, *, better: str, margin: float) -> bool:
    """Whether a value is not worse than another by more than a margin.

    nan is worse than everything; what is compared with nan is not worse than it. The sum is made as people write it:
    0.8 is not worse than 0.9 by more than 0.1, which binary fractions would deny.
    """
    if math.isnan(value):
        return False
    if math.isnan(champion):
        return True
    worse_by = champion - value if better == "higher" else value - champion
    if math.isnan(worse_by):  # both are the same infinity
        return True
    rounding = 4 * math.ulp(max(abs(champion), abs(value))) if math.isfinite(worse_by) else 0.0
    return worse_by <= margin + rounding


def _approval(gate: ApprovalGate, found: Findings) -> GateResult | Waiting:
    # The last word of each counts; the store keeps no other.
    counting = [said for said in found.approvals if may_approve(gate, said.who, found.author)]
    evidence = {"said": [said.as_dict() for said in counting]}
    for said in counting:
        if not said.approved:
            why = f": {said.comment}" if said.comment else ""
            return _result(gate, False, f"{said.who} rejected it{why}", evidence)
    yes = [said.who for said in counting]
    if len(yes) >= gate.count:
        return _result(gate, True, f"approved by {', '.join(yes)}", evidence)
    lacking = gate.count - len(yes)
    so_far = f" ({', '.join(yes)} did)" if yes else ""
    return Waiting(
        gate, f"{_people(lacking)} more must approve{so_far}: {_who_may(gate)}" if yes
        else f"{_people(lacking)} must approve: {_who_may(gate)}"
    )  # fmt: skip


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _who_may(gate: ApprovalGate) -> str:
    return ", ".join(gate.by) if gate.by else "anybody but the author"


def _not_logged(metric: str, run_id: str, metrics: Mapping[str, float]) -> str:
    return f"run {run_id} logged no metric {metric}. {nearest(metric, metrics, noun='metric')}"
