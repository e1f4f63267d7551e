"""Whether a gate lets a version pass: a table of cases for each kind."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.jobs.gate import (
    Approval,
    ApprovalGate,
    ChampionGate,
    CleanRunGate,
    DataChecksGate,
    GateResult,
    GitGate,
    ImageGate,
    MetricGate,
)
from jupyter_mlops.jobs.judge import CleanRun, Findings, Production, StepSource, Waiting, judge, not_worse, wanted
from jupyter_mlops.jobs.models import passes
from jupyter_mlops.spec import RunState

from .test_core import version

DIGEST = "reg.example.org/ml/train@sha256:" + "0" * 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run(**changes: Any) -> CleanRun:
    fields: dict[str, Any] = {"run_id": "r1", "state": RunState.SUCCEEDED, "metrics": {"accuracy": 0.9}}
    return CleanRun(**{**fields, **changes})


def judged(gate: Any, **found: Any) -> GateResult:
    result = judge(gate, Findings(**{"author": "ann", **found}))
    assert isinstance(result, GateResult), result
    assert result.wanted == wanted(gate)
    return result


def missing(gate: Any, **found: Any) -> str:
    result = judge(gate, Findings(**{"author": "ann", **found}))
    assert isinstance(result, Waiting), result
    return result.missing


@pytest.mark.parametrize(
    ("operator", "threshold", "value", "passes"),
    [
        (">=", 0.9, 0.9, True), (">=", 0.9, 0.8999999, False), (">", 0.9, 0.9, False), (">", 0.9, 0.91, True),
        ("<=", 0.1, 0.1, True), ("<=", 0.1, 0.2, False), ("<", 0.1, 0.1, False), ("<", 0.1, 0.0, True),
        (">=", -1, math.nan, False), ("<=", 1, math.nan, False), (">", 1e300, math.inf, True), ("<", 0, -math.inf, True),
    ],
)  # fmt: skip
def test_a_metric_is_compared_and_nan_never_passes(operator: Any, threshold: float, value: float, passes: bool) -> None:
    gate = MetricGate(metric="accuracy", operator=operator, threshold=threshold)
    result = judged(gate, run=run(metrics={"accuracy": value}))
    assert result.passed is passes
    assert result.seen.startswith("accuracy is ")
    assert "r1" in result.seen
    assert result.evidence["run"] == "r1"


def test_a_refusal_tells_the_value_and_what_would_pass() -> None:
    gate = MetricGate(metric="accuracy", operator=">=", threshold=0.95)
    result = judged(gate, run=run())
    assert (result.seen, result.wanted) == ("accuracy is 0.9 in run r1", "accuracy of 0.95 or more")


def test_a_metric_that_was_not_logged_names_the_nearest() -> None:
    result = judged(MetricGate(metric="acuracy", operator=">=", threshold=0.5), run=run())
    assert not result.passed
    assert "logged no metric acuracy" in result.seen
    assert "Did you mean 'accuracy'?" in result.seen


@pytest.mark.parametrize(
    ("better", "margin", "value", "champion", "passes"),
    [
        ("higher", 0.0, 0.9, 0.9, True), ("higher", 0.0, 0.89, 0.9, False), ("higher", 0.01, 0.89, 0.9, True),
        ("higher", 0.1, 0.8, 0.9, True), ("higher", 0.1, 0.7999, 0.9, False), ("higher", 0.0, 0.95, 0.9, True),
        ("lower", 0.0, 0.2, 0.2, True), ("lower", 0.0, 0.21, 0.2, False), ("lower", 0.01, 0.21, 0.2, True),
        ("lower", 0.1, 0.1, 0.2, True), ("higher", 9.0, math.nan, 0.9, False), ("lower", 9.0, math.nan, 0.9, False),
        ("higher", 0.0, 0.1, math.nan, True), ("higher", 0.0, math.inf, math.inf, True),
        ("higher", 1e300, -math.inf, 0.9, False), ("higher", 0.0, 0.9, -math.inf, True),
    ],
)  # fmt: skip
def test_a_metric_is_held_against_productions(
    better: Any, margin: float, value: float, champion: float, passes: bool
) -> None:
    gate = ChampionGate(metric="accuracy", better=better, margin=margin)
    production = Production(version=3, run_id="p9", metrics={"accuracy": champion})
    result = judged(gate, run=run(metrics={"accuracy": value}), production=production)
    assert result.passed is passes
    if not math.isnan(value):
        assert "v3, run p9" in result.seen
        assert result.evidence["production_run"] == "p9"


def test_the_first_version_has_nothing_to_be_worse_than_and_must_have_the_metric() -> None:
    gate = ChampionGate(metric="accuracy")
    assert judged(gate, run=run()).passed
    assert not judged(gate, run=run(metrics={})).passed
    assert not judged(gate, run=run(metrics={"accuracy": math.nan})).passed


def test_production_without_the_metric_lets_nothing_pass_and_says_why() -> None:
    result = judged(ChampionGate(metric="accuracy"), run=run(), production=Production(3, "p9", {"auc": 1.0}))
    assert not result.passed
    assert "run p9 logged no metric accuracy" in result.seen


@given(
    value=st.floats(allow_nan=False, allow_infinity=False), champion=st.floats(allow_nan=False, allow_infinity=False),
    margin=st.floats(min_value=0, max_value=1e6),
)  # fmt: skip
def test_what_is_better_is_never_worse_and_the_two_directions_mirror(
    value: float, champion: float, margin: float
) -> None:
    if value >= champion:
        assert not_worse(value, champion, better="higher", margin=margin)
    assert not_worse(value, champion, better="higher", margin=margin) == not_worse(
        -value, -champion, better="lower", margin=margin
    )


@pytest.mark.parametrize(
    ("state", "passes"), [(RunState.SUCCEEDED, True), (RunState.FAILED, False), (RunState.CANCELLED, False)]
)
def test_the_clean_run_has_to_succeed(state: RunState, passes: bool) -> None:
    result = judged(CleanRunGate(), run=run(state=state, message="ZeroDivisionError in cell 3"))
    assert result.passed is passes
    assert passes or "ZeroDivisionError in cell 3" in result.seen


def test_what_needs_the_run_waits_for_it() -> None:
    gates = (MetricGate(metric="a", operator=">", threshold=0), ChampionGate(metric="a"), DataChecksGate())
    for gate in (CleanRunGate(), *gates):
        assert missing(gate) == "the clean run has not been started"
        assert missing(gate, run=run(state=RunState.RUNNING)) == "the clean run r1 is running"
    for gate in gates:
        assert missing(gate, run=run(state=RunState.FAILED)) == "the clean run r1 failed"


@pytest.mark.parametrize(
    ("cells", "passes", "seen"),
    [
        ([("no nulls", "")], True, "1 cell ran"),
        ([("no nulls", ""), ("in range", "")], True, "2 cells ran"),
        ([], False, "no code cell is tagged checks"),
        ([("no nulls", ""), ("in range", "raised AssertionError")], False, "the cell 'in range' raised AssertionError"),
        ([("no nulls", "was not executed")], False, "was not executed"),
    ],
)
def test_data_checks_are_there_ran_and_raised_nothing(cells: list[tuple[str, str]], passes: bool, seen: str) -> None:
    result = judged(DataChecksGate(tag="checks"), run=run(checks={"checks": cells}))
    assert result.passed is passes
    assert seen in result.seen


@pytest.mark.parametrize(
    ("clean", "commit", "uncommitted", "passes", "seen"),
    [
        (False, COMMIT, None, True, "commit 0123456789ab"),
        (False, COMMIT, ("x.py",), True, "commit"),
        (False, None, None, False, "no git work tree"),
        (True, None, (), False, "no git work tree"),
        (True, COMMIT, (), True, "commit 0123456789ab"),
        (True, COMMIT, ("data.csv", "x.py"), False, "not in commit 0123456789ab: data.csv, x.py"),
        (True, COMMIT, tuple(f"{n}.py" for n in range(9)), False, "and 4 more"),
        (True, COMMIT, None, False, "not known"),
    ],
)
def test_git_is_known_or_clean(
    clean: bool, commit: str | None, uncommitted: tuple[str, ...] | None, passes: bool, seen: str
) -> None:
    result = judged(GitGate(clean=clean), sources=(StepSource("main", commit, uncommitted, None),))
    assert result.passed is passes
    assert seen in result.seen


@pytest.mark.parametrize(
    ("images", "passes"),
    [((None,), True), ((DIGEST, None), True), (("train:latest",), False), ((DIGEST, "a:1"), False)],
)
def test_every_image_is_pinned(images: tuple[str | None, ...], passes: bool) -> None:
    sources = tuple(StepSource(f"s{n}", None, None, image) for n, image in enumerate(images))
    assert judged(ImageGate(), sources=sources).passed is passes


@pytest.mark.parametrize(
    ("accuracy", "champion", "best"),
    [(0.9, None, True), (0.8, None, False), (0.9, 0.92, False), (0.93, 0.92, True), (math.nan, 0.92, False)],
)
def test_the_gates_on_metrics_crown_a_model(accuracy: float, champion: float | None, best: bool) -> None:
    gates = (MetricGate(metric="accuracy", operator=">=", threshold=0.85), ChampionGate(metric="accuracy"),
             ApprovalGate(), CleanRunGate())  # fmt: skip
    production = None if champion is None else Production(1, "m1", {"accuracy": champion})
    assert passes(version(gates=gates), run(metrics={"accuracy": accuracy}), production) is best


def said(who: str, approved: bool = True, comment: str = "") -> Approval:
    return Approval(who=who, approved=approved, comment=comment)


@pytest.mark.parametrize(
    ("gate", "words", "lacks"),
    [
        (ApprovalGate(), (), "1 person must approve: anybody but the author"),
        (ApprovalGate(), (said("ann"),), "1 person must approve"),
        (ApprovalGate(count=2), (said("bob"),), "1 person more must approve (bob did)"),
        (ApprovalGate(by=("bob", "cat")), (said("eve"),), "1 person must approve: bob, cat"),
        (ApprovalGate(by=("ann", "bob")), (said("ann"),), "1 person must approve"),
        (ApprovalGate(by=("bob",)), (said("eve", approved=False),), "1 person must approve: bob"),
    ],
)
def test_an_approval_waits_for_those_who_may(gate: ApprovalGate, words: tuple[Approval, ...], lacks: str) -> None:
    assert missing(gate, approvals=words).startswith(lacks)


def test_an_approval_passes_with_enough_and_one_rejection_refuses() -> None:
    assert judged(ApprovalGate(count=2), approvals=(said("bob"), said("cat"))).passed
    refused = judged(ApprovalGate(), approvals=(said("bob"), said("cat", approved=False, comment="stale data")))
    assert not refused.passed
    assert refused.seen == "cat rejected it: stale data"
