"""What the head decides: whether it may begin, and what it tells Kubernetes at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyter_mlops.events import EventWriter, RunEvent, parse_event
from jupyter_mlops.kubernetes import contract
from jupyter_mlops.kubernetes.pod_engine import termination_message
from jupyter_mlops.kubernetes.pod_head import exit_status, interrupted, refuse_at_once
from jupyter_mlops.spec import FailureCode, RunState


def environment(**changes: str) -> dict[str, str]:
    return {contract.VERSION_VARIABLE: contract.VERSION, contract.RETRIES_VARIABLE: "2", **changes}


@pytest.mark.parametrize(
    ("state", "was_interrupted", "status"),
    [
        ("succeeded", False, 0),
        ("succeeded", True, 0),
        ("failed", False, contract.EXIT_RECORDED),
        ("failed", True, contract.EXIT_RECORDED),
        ("cancelled", False, contract.EXIT_RECORDED),
        (None, True, contract.EXIT_INTERRUPTED),
        (None, False, 1),
    ],
)
def test_a_run_with_a_record_is_not_repeated_and_one_without_is(
    state: str | None, was_interrupted: bool, status: int
) -> None:
    assert exit_status(state, was_interrupted=was_interrupted) == status


@pytest.mark.parametrize("counts", [("", ""), ("0", "0"), ("1", "1"), ("2", "0"), ("0", "2")])
def test_a_pod_may_begin_as_often_as_the_profile_says(counts: tuple[str, str]) -> None:
    failures, disruptions = counts
    told = environment(**{contract.FAILURES_VARIABLE: failures, contract.DISRUPTIONS_VARIABLE: disruptions})
    assert refuse_at_once(told) is None


@pytest.mark.parametrize(
    ("counts", "code"), [(("0", "3"), "evicted"), (("1", "2"), "evicted"), (("3", ""), "worker_died")]
)
def test_failures_and_disruptions_together_have_an_end(counts: tuple[str, str], code: str) -> None:
    failures, disruptions = counts
    told = environment(**{contract.FAILURES_VARIABLE: failures, contract.DISRUPTIONS_VARIABLE: disruptions})
    refusal = refuse_at_once(told)
    assert refusal is not None
    assert refusal[0] == code
    assert "lost its pod 3 times" in refusal[1]


@pytest.mark.parametrize("version", ["0", "", "2"])
def test_another_version_of_the_contract_is_refused_with_both(version: str) -> None:
    refusal = refuse_at_once(environment(**{contract.VERSION_VARIABLE: version}))
    assert refusal is not None
    assert f"version {version or 'unknown'}" in refusal[1]
    assert f"speaks {contract.VERSION}" in refusal[1]


def _end(run_dir: Path, **fields: object) -> RunEvent:
    event = RunEvent(state=RunState.FAILED, code=FailureCode.CELL_FAILED, **fields)  # type: ignore[arg-type]
    writer = EventWriter(run_dir)
    writer.write(RunEvent(state=RunState.RUNNING))
    writer.write(event)
    writer.close()
    return event


def test_the_last_word_is_the_last_event(tmp_path: Path) -> None:
    event = _end(tmp_path, message="Cell 2 failed", hint="Look", cell_index=3, line="1 / 0")
    assert parse_event(termination_message(tmp_path)) == event


@pytest.mark.parametrize("text", ["x" * 100_000, "ä" * 50_000, "💥" * 50_000, '"\\' * 30_000])
def test_the_last_word_fits_and_stays_readable_whatever_the_error_says(tmp_path: Path, text: str) -> None:
    _end(tmp_path, message=text, hint=text, line=text)
    message = termination_message(tmp_path)
    assert len(message) <= contract.TERMINATION_LIMIT
    told = parse_event(message)
    assert isinstance(told, RunEvent)
    assert told.code is FailureCode.CELL_FAILED
    assert told.message.startswith(text[:20])


def test_without_an_end_there_is_no_last_word(tmp_path: Path) -> None:
    assert termination_message(tmp_path) == b""


@pytest.mark.parametrize(
    ("content", "expected"),
    [({"by": "ann"}, False), ({"interrupted": "its pod was told to end"}, True), (None, False)],
)
def test_an_interruption_is_told_from_a_cancellation(tmp_path: Path, content: object, expected: bool) -> None:
    if content is not None:
        (tmp_path / "cancel.json").write_text(json.dumps(content))
    assert interrupted(tmp_path) is expected
