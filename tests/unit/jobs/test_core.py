"""Which version a rollback goes back to, which moment a person means, and how versions differ."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text as sql

from jupyter_mlops.errors import UsageError
from jupyter_mlops.jobs.core import Jobs, before
from jupyter_mlops.jobs.differences import Change, version_changes
from jupyter_mlops.jobs.firing import _moment
from jupyter_mlops.jobs.gate import MetricGate
from jupyter_mlops.jobs.model import JobVersion, Policies, Schedule, Step, VersionRecord, VersionState
from jupyter_mlops.profile import Profile
from jupyter_mlops.runs import Runs
from jupyter_mlops.store.jobs import JobStore

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)


def version(**changes: Any) -> JobVersion:
    step = Step(
        name="main", snapshot_id="a" * 64, notebook="n.ipynb", source="/p/n.ipynb", experiment="e",
        profile=Profile(name="local"), parameters=changes.pop("parameters", {"lr": 0.1}),
    )  # fmt: skip
    fields = {"job": "churn", "number": 1, "steps": (step,), "owner": "ann", "author": "ann"}
    return JobVersion(**{**fields, **changes})


@pytest.fixture
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.store.close()


def test_a_version_that_somebody_changed_in_the_database_hides_no_job_from_the_list(runs: Runs) -> None:
    store = JobStore(runs.store)
    for job in ("churn", "fraud"):
        store.add_version(version(job=job))
    with runs.store.writing() as session:
        session.execute(sql("UPDATE job_versions SET content = replace(content, '\"seed\": 0', '\"seed\": 1')"))
    assert [(line.job.name, line.proposed) for line in Jobs(runs).find()] == [("churn", (1,)), ("fraud", (1,))]


def lived(*lines: tuple[int, int | None, int | None]) -> list[VersionRecord]:
    """Versions as (number, hour at which it went live or None, copy of)."""
    return [
        VersionRecord(
            version=version(number=number, copy_of=copy_of), state=VersionState.RETIRED,
            live_time=NOON + timedelta(hours=hour) if hour is not None else None,
        )
        for number, hour, copy_of in lines
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("versions", "live", "expected"),
    [
        ([(1, 1, None), (2, 2, None), (3, 3, None)], 3, 2),
        ([(1, 1, None), (2, None, None), (3, 3, None)], 3, 1),
        ([(1, 1, None), (2, 2, None), (3, 3, None), (4, 4, 2)], 4, 1),
        ([(1, 1, None), (2, 2, None), (3, 3, 1)], 3, None),
        ([(1, 1, None), (2, 2, None), (3, 3, 1), (4, 4, None)], 4, 3),
        ([(1, 1, None)], 1, None),
        ([(1, None, None)], None, None),
        ([(1, 1, None), (2, 2, None)], None, 2),
    ],
)
def test_one_rollback_after_the_other_goes_on_into_the_past(
    versions: list[tuple[int, int | None, int | None]], live: int | None, expected: int | None
) -> None:
    found = before(lived(*versions), live)
    assert (found.version.number if found else None) == expected


@pytest.mark.parametrize(
    ("text", "tz", "end", "expected"),
    [
        ("2026-11-24", "UTC", False, datetime(2026, 11, 24, tzinfo=timezone.utc)),
        ("2026-11-24", "Europe/Berlin", False, datetime(2026, 11, 23, 23, tzinfo=timezone.utc)),
        ("2026-11-24", "UTC", True, datetime(2026, 11, 24, 23, 59, 59, 999999, tzinfo=timezone.utc)),
        ("2026-11-24T06:00", "Europe/Berlin", True, datetime(2026, 11, 24, 5, tzinfo=timezone.utc)),
        ("2026-11-24T06:00+00:00", "Europe/Berlin", False, datetime(2026, 11, 24, 6, tzinfo=timezone.utc)),
    ],
)
def test_a_moment_is_meant_in_the_time_zone_of_the_schedule(text: str, tz: str, end: bool, expected: datetime) -> None:
    assert _moment(text, tz, end=end) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "9999-12-31T23:59:59.9-23:59", "2026-02-30"])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is no moment"):
        _moment(text, "UTC", end=True)


def test_versions_that_differ_in_number_author_and_time_only_are_the_same() -> None:
    assert version_changes(version(), version(number=2, author="bob", reason="x", create_time=NOON)) == []


def test_every_field_that_differs_is_told_with_both_values() -> None:
    gate = MetricGate(metric="accuracy", operator=">=", threshold=0.9)
    first = version(gates=(gate,), schedule=Schedule(cron="0 2 * * *", tz="Europe/Berlin"))
    second = version(
        parameters={"lr": 0.2, "[red]": True}, gates=(gate.model_copy(update={"threshold": 0.95}),),
        policies=Policies(retries=3), schedule=Schedule(every=3600.0),
    )  # fmt: skip
    found = version_changes(first, second)
    for change in (
        Change("schedule", "at 02:00 every day, Europe/Berlin", "every hour"),
        Change("parameters.lr", "0.1", "0.2"),
        Change("parameters.[red]", "", "true"),
        Change("policies.retries", "0", "3"),
        Change("gate", "accuracy of 0.9 or more", ""),
        Change("gate", "", "accuracy of 0.95 or more"),
    ):
        assert change in found
