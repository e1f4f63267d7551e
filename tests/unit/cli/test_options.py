import contextlib
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.cli.options import duration, json_parameters, moment, tags
from jupyter_mlops.errors import ParameterError, UsageError

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("2026-02-01T00:00:00+00:00", datetime(2026, 2, 1, tzinfo=timezone.utc)),
        (None, None),
    ],
)
def test_a_moment_is_an_age_or_a_date(text: str | None, found: datetime | None) -> None:
    assert moment(text, now=NOW) == found


@pytest.mark.parametrize("text", ["", "soon", "5", "-1h", "99999999999999w", "2026-13-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        moment(text, now=NOW)


@given(st.text())
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert moment(text, now=NOW).tzinfo is not None


def test_tags_split_at_the_first_equals_sign() -> None:
    assert tags(("a=b=c", "x=")) == {"a": "b=c", "x": ""}
    with pytest.raises(UsageError, match="NAME=VALUE"):
        tags(("=b",))


@pytest.mark.parametrize("text", ["{", "[1]", "nul", '"x"'])
def test_json_parameters_must_be_an_object(text: str) -> None:
    with pytest.raises(ParameterError):
        json_parameters(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("8h", 28800), ("1.5h", 5400), ("2d", 172800)]
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert duration(text, "--lifetime") == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "-1h", "0s", "nanh", "infd", "1e99d", "eight", "8 hours"])
def test_what_is_no_duration_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(UsageError, match="--lifetime"):
        duration(text, "--lifetime")


def test_no_duration_is_none() -> None:
    assert duration(None, "--lifetime") is None
