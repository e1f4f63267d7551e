"""What a person writes for a gate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.errors import UsageError
from jupyter_mlops.jobs.gate import ApprovalGate, ChampionGate, CleanRunGate, GitGate, ImageGate, MetricGate
from jupyter_mlops.jobs.require import approval_gate, champion_gate, git_gate, in_order, metric_gate

METRICS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_./ -]{0,30}[A-Za-z0-9]", fullmatch=True)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    metric=METRICS,
    operator=st.sampled_from([">=", ">", "<=", "<"]),
    threshold=NUMBERS,
    space=st.sampled_from(["", " "]),
)
def test_every_comparison_that_is_written_is_read_back(
    metric: str, operator: str, threshold: float, space: str
) -> None:
    found = metric_gate(f"{metric}{space}{operator}{space}{threshold!r}")
    assert found == MetricGate(metric=metric, operator=operator, threshold=threshold)


def answer(read: Callable[[str], Any], text: str) -> Any:
    """What is read, or the refusal."""
    try:
        return read(text)
    except UsageError as error:
        return error


@given(st.text(max_size=60))
def test_any_text_is_a_gate_or_is_refused_in_a_sentence(text: str) -> None:
    for read in (metric_gate, champion_gate, approval_gate, git_gate):
        found = answer(read, text)
        if isinstance(found, UsageError):
            assert found.message.endswith(".")
        elif isinstance(found, MetricGate):
            assert found.metric in text
            assert math.isfinite(found.threshold)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accuracy", "no comparison of a metric with a number"),
        ("", "no comparison"),
        (">=0.9", "no comparison"),
        ("accuracy>=", "no comparison"),
        ("accuracy==0.9", "'==' in 'accuracy==0.9' is no comparison that a gate makes"),
        ("accuracy=>0.9", "'=>'"),
        ("accuracy=0.9", "'='"),
        ("accuracy>=90%", "'90%' in 'accuracy>=90%' is no number"),
        ("accuracy>=nan", "'nan'"),
        ("accuracy<inf", "'inf'"),
        ("0.8<accuracy<0.9", "no comparison"),
    ],
)
def test_a_wrong_comparison_is_told(text: str, words: str) -> None:
    with pytest.raises(UsageError) as told:
        metric_gate(text)
    assert words in told.value.message
    assert "accuracy>=0.9" in told.value.hint


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("accuracy:0.01", ChampionGate(metric="accuracy", better="higher", margin=0.01)),
        ("accuracy", ChampionGate(metric="accuracy", better="higher", margin=0)),
        ("val_log_loss:1e-3", ChampionGate(metric="val_log_loss", better="lower", margin=0.001)),
        ("gini:0.01:higher", ChampionGate(metric="gini", better="higher", margin=0.01)),
        ("gini:lower", ChampionGate(metric="gini", better="lower", margin=0)),
        ("val:accuracy:0", ChampionGate(metric="val:accuracy", better="higher", margin=0)),
    ],
)
def test_a_margin_is_read(text: str, gate: ChampionGate) -> None:
    assert champion_gate(text) == gate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accuracy:o.01", "'o.01' in 'accuracy:o.01' is no number"),
        ("accuracy:-1", "negative"),
        ("gini:0.01", "Whether more or less of 'gini' is better"),
        (":0.01", "names no metric"),
        ("", "names no metric"),
    ],
)
def test_a_wrong_margin_is_told(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        champion_gate(text)


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("1", ApprovalGate(count=1)),
        ("2", ApprovalGate(count=2)),
        ("bob", ApprovalGate(count=1, by=("bob",))),
        ("bob, cat", ApprovalGate(count=1, by=("bob", "cat"))),
        ("2:bob,cat,dan", ApprovalGate(count=2, by=("bob", "cat", "dan"))),
    ],
)
def test_approvals_are_read(text: str, gate: ApprovalGate) -> None:
    assert approval_gate(text) == gate


@pytest.mark.parametrize("text", ["", ",", "0", "11", "3:bob,cat", "2:bob,bob", "2:", "x:bob", "99999999999999"])
def test_wrong_approvals_are_told(text: str) -> None:
    with pytest.raises(UsageError):
        approval_gate(text)


def test_gates_are_judged_cheap_ones_first_and_people_last_each_once() -> None:
    gates = [ApprovalGate(), MetricGate(metric="a", operator=">", threshold=0), CleanRunGate(), GitGate(), ImageGate(),
             ApprovalGate(), CleanRunGate()]  # fmt: skip
    kinds = [gate.kind for gate in in_order(gates)]
    assert kinds == ["git_known", "image_digest", "clean_run", "metric", "approval"]
