"""Schedules are checked where they enter, and told in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.errors import UsageError
from jupyter_mlops.jobs.model import checked
from jupyter_mlops.schedule import Schedule, describe_schedule


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"cron": "0 0 31 2 *"}, "day of month 31 in the month 2 never comes"),
        ({"cron": "0 0 31 4,6 *"}, "never comes"),
        ({"cron": "0 25 * * *"}, "the hour '25' .* takes 0 to 23"),
        ({"cron": "61 0 * * *"}, "the minute '61'"),
        ({"cron": "0 0 * FOO *"}, "the month 'FOO' .* JAN to DEC"),
        ({"cron": "0 0 * * MON-FOO"}, "the day-of-week 'MON-FOO'"),
        ({"cron": "*/0 * * * *"}, "the minute '\\*/0'"),
        ({"cron": "0 0 * *"}, "4 fields .* five"),
        ({"cron": "* * * * * *"}, "6 fields"),
        ({"cron": ""}, "0 fields"),
        ({"cron": "@reboot"}, "'@reboot' is no schedule; .*@daily"),
        ({"cron": "0," * 200 + "0 * * * *"}, "longer than"),
        ({"cron": "0 0 * * *", "tz": "Europe/Berln"}, "no time zone 'Europe/Berln'; Europe/Berlin is near"),
        ({"cron": "0 0 * * *", "tz": "../../etc/passwd"}, "no time zone"),
        ({"cron": "0 0 * * *", "tz": ""}, "no time zone"),
        ({"cron": "0 0 * * *", "every": 60}, "not both"),
        ({"every": 0.5}, "greater than or equal to 1"),
        ({"every": float("nan")}, "every"),
        ({"start": "2026-01-01T00:00:00Z"}, "only an interval"),
        ({"every": 60, "start": "2026-01-01T00:00:00"}, "no time zone"),
        ({"triggers": [{"kind": "job", "job": "Not A Name"}]}, "triggers"),
        ({"triggers": [{"kind": "nosuch"}]}, "kind"),
        ({"triggers": [{"kind": "file", "url": "s3://key:hunter2@bucket/x"}]}, "holds a password"),
        ({"triggers": [{"kind": "webhook", "secret_variable": "A B"}]}, "secret_variable"),
        ({"cron": "0 0 * * *", "colour": "blue"}, "colour"),
    ],
)
def test_a_wrong_schedule_is_told_in_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        checked(Schedule, fields, what="schedule")
    assert "hunter2" not in str(caught.value)


@given(cron=st.text(max_size=40), tz=st.text(max_size=20))
def test_any_text_is_a_schedule_or_refused(cron: str, tz: str) -> None:
    for fields in ({"cron": cron}, {"cron": "@daily", "tz": tz}):
        try:
            schedule = checked(Schedule, fields, what="schedule")
        except UsageError:
            continue
        assert describe_schedule(schedule)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cron": "0 2 * * *", "tz": "Europe/Berlin"}, "at 02:00 every day, Europe/Berlin"),
        ({"cron": "@hourly"}, "at the start of every hour, UTC"),
        ({"every": 900}, "every 15 minutes"),
        ({"every": 3600}, "every hour"),
        ({"every": 86400 * 7}, "every 7 days"),
        ({"every": 90.5}, "every 0:01:30.500000"),
        ({"triggers": [{"kind": "job", "job": "ingest"}]}, "when the job ingest succeeds"),
        (
            {
                "cron": "@daily",
                "triggers": [{"kind": "file", "url": "s3://in/*.csv"}, {"kind": "event", "event": "drift"}],
            },
            "at 00:00 every day, UTC; when a file appears at s3://in/*.csv; on the event drift",
        ),
        ({"triggers": [{"kind": "webhook", "secret_variable": "HOOK"}]}, "on a signed request"),
        ({}, "by hand only"),
    ],
)
def test_a_schedule_is_told_in_words(fields: dict[str, Any], words: str) -> None:
    assert describe_schedule(checked(Schedule, fields, what="schedule")) == words


def test_a_schedule_survives_its_json() -> None:
    schedule = checked(
        Schedule,
        {"every": 60, "start": "2026-01-01T01:00:00+01:00", "triggers": [{"kind": "file", "url": "file:///in/*"}]},
        what="schedule",
    )
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule
