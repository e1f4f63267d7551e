"""The moments of schedules: against croniter, against a walk minute by minute, and over changes of the clock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jupyter_mlops.jobs.model import checked
from jupyter_mlops.schedule import Schedule, moments_between, next_moment, next_moments, previous_moment

UTC = timezone.utc
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo"]
FIXED_HOURS = st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True).map(
    lambda hours: ",".join(map(str, sorted(hours)))
)


def field(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    number = st.integers(low, high).map(str)
    span = (
        st.tuples(st.integers(low, high), st.integers(low, high))
        .filter(lambda ends: ends[0] < ends[1])
        .map("{0[0]}-{0[1]}".format)
    )
    step = st.tuples(st.one_of(st.just("*"), span), st.integers(1, 12)).map(lambda both: f"{both[0]}/{both[1]}")
    some = st.lists(number, min_size=2, max_size=3, unique=True).map(",".join)
    choices = [st.just("*"), st.just("*"), number, span, step, some]
    if names:
        choices.append(st.sampled_from(names))
    return st.one_of(*choices)


MONTHS = ("JAN", "mar", "Oct", "DEC")
DAYS = ("MON", "sun", "Fri", "SAT")
CRONS = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12, MONTHS), field(0, 6, DAYS)).map(" ".join)
MOMENTS = st.integers(0, 6 * 366 * 86400).map(
    lambda seconds: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


def local(moment: datetime, tz: str) -> datetime:
    return moment.astimezone(ZoneInfo(tz))


def changes_near(moment: datetime, tz: str) -> bool:
    """Whether the clock is changed within two days of a moment."""
    offsets = {local(moment + timedelta(hours=hours), tz).utcoffset() for hours in range(-48, 49, 12)}
    return len(offsets) > 1


@settings(max_examples=150)
@given(cron=CRONS, tz=st.sampled_from(ZONES), after=MOMENTS)
def test_the_next_moments_are_those_of_croniter_where_the_clock_is_left_alone(
    cron: str, tz: str, after: datetime
) -> None:
    found = next_moments(Schedule(cron=cron, tz=tz), after, 4)
    # On its own: a day that starts with a star is "and" in Debian's cron, which croniter must be told.
    star = cron.split()[2].startswith("*") or cron.split()[4].startswith("*")
    other = croniter(cron, local(after, tz), day_or=not star, max_years_between_matches=60)
    begin = after
    for moment in found:
        expected = other.get_next(datetime).astimezone(UTC)
        if changes_near(begin, tz) or changes_near(moment, tz) or changes_near(expected, tz):
            return  # the two differ by design there; the tests below say what holds
        assert moment == expected
        begin = moment


@settings(max_examples=100)
@example(cron="30 * * 4 0", tz="Australia/Lord_Howe", at=datetime(2024, 1, 1, tzinfo=UTC))
@given(cron=CRONS, tz=st.sampled_from(ZONES), at=MOMENTS)
def test_walking_back_gives_the_moments_of_walking_forward(cron: str, tz: str, at: datetime) -> None:
    schedule = Schedule(cron=cron, tz=tz)
    ahead = next_moments(schedule, at, 3)
    assert ahead == sorted(set(ahead))
    assert all(moment > at for moment in ahead)
    for before, moment in zip([None, *ahead], ahead, strict=False):
        assert previous_moment(schedule, moment) == moment
        if before is not None:
            assert previous_moment(schedule, moment - timedelta(microseconds=1)) == before
    earlier = previous_moment(schedule, at)
    if earlier is not None and ahead:
        assert earlier <= at
        assert next_moment(schedule, earlier) == ahead[0]


CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),  # 02:00 becomes 03:00
    ("Europe/Berlin", datetime(2026, 10, 25, 1, 0, tzinfo=UTC)),  # 03:00 becomes 02:00
    ("America/New_York", datetime(2026, 3, 8, 7, 0, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, 0, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, 0, tzinfo=UTC)),  # by half an hour
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
]


@settings(max_examples=40)
@given(
    change=st.sampled_from(CHANGES), hours=FIXED_HOURS, minute=st.integers(0, 59),
    start=st.integers(-10 * 60, 6 * 60), seconds=st.integers(0, 59),
)  # fmt: skip
def test_a_fixed_time_comes_once_a_day_over_a_change_of_the_clock(
    change: tuple[str, datetime], hours: str, minute: int, start: int, seconds: int
) -> None:
    tz, moment = change
    schedule = Schedule(cron=f"{minute} {hours} * * *", tz=tz)
    first = moment + timedelta(minutes=start, seconds=seconds)
    last = moment + timedelta(hours=27)
    # The definition, minute by minute: at the first minute that shows the time, or that comes after it was jumped over.
    expected, done = [], set()
    wanted = {(int(hour), minute) for hour in hours.split(",")}
    walk = moment - timedelta(hours=36)
    before = local(walk - timedelta(minutes=1), tz)
    while walk <= last:
        now = local(walk, tz)
        jumped = {
            (at.hour, at.minute)
            for at in (
                before.replace(tzinfo=None) + timedelta(minutes=ahead)
                for ahead in range(
                    1, int((now.replace(tzinfo=None) - before.replace(tzinfo=None)).total_seconds() // 60)
                )
            )
        }
        due = {(now.date(), *time) for time in wanted & {(now.hour, now.minute), *jumped}} - done
        if due:
            done |= due
            expected.append(walk)
        before, walk = now, walk + timedelta(minutes=1)
    assert list(moments_between(schedule, first, last)) == [one for one in expected if first <= one <= last]
    at = first
    passed = [one for one in expected if one <= at]
    if passed:
        assert previous_moment(schedule, at) == passed[-1]


@pytest.mark.parametrize(("tz", "change"), CHANGES)
def test_what_runs_every_quarter_of_an_hour_follows_real_time(tz: str, change: datetime) -> None:
    begin = change - timedelta(hours=5)
    found = next_moments(Schedule(cron="*/15 * * * *", tz=tz), begin, 40)
    assert found == [begin + timedelta(minutes=15 * number) for number in range(1, 41)]


@pytest.mark.parametrize("hours", [1, 2, 3])
@pytest.mark.parametrize("minute", [0, 15, 30, 45])
@pytest.mark.parametrize(("tz", "change"), CHANGES)
def test_what_runs_every_hour_or_so_runs_whenever_the_clock_shows_it(
    tz: str, change: datetime, minute: int, hours: int
) -> None:
    schedule = Schedule(cron=f"{minute} */{hours} * * *", tz=tz)
    begin, end = change - timedelta(hours=8), change + timedelta(hours=8)
    walk = [begin + timedelta(minutes=number) for number in range(16 * 60 + 1)]
    expected = [one for one in walk if local(one, tz).minute == minute and local(one, tz).hour % hours == 0]
    assert list(moments_between(schedule, begin, end)) == expected
    back, at = [], end
    while (found := previous_moment(schedule, at)) is not None and found >= begin:
        back.append(found)
        at = found - timedelta(microseconds=1)
    assert back == expected[::-1]


@pytest.mark.parametrize(
    ("cron", "tz", "after", "expected"),
    [
        # Berlin, spring: 02:30 is jumped over and runs at 03:00.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+00:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        # Berlin, autumn: 02:30 comes twice and runs the first time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+00:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("0 2 * * MON-FRI", "Europe/Berlin", "2026-11-27T12:00+00:00", ["2026-11-30T01:00", "2026-12-01T01:00"]),
        ("@monthly", "Asia/Kolkata", "2026-11-27T12:00+00:00", ["2026-11-30T18:30", "2026-12-31T18:30"]),
        ("0 0 L * *", "UTC", "2028-02-01T00:00+00:00", ["2028-02-29T00:00", "2028-03-31T00:00"]),
        ("0 9 * * MON#2", "UTC", "2026-11-01T00:00+00:00", ["2026-11-09T09:00", "2026-12-14T09:00"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00+00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ],
)
def test_moments_that_people_ask_for(cron: str, tz: str, after: str, expected: list[str]) -> None:
    found = next_moments(Schedule(cron=cron, tz=tz), datetime.fromisoformat(after), 2)
    assert [moment.strftime("%Y-%m-%dT%H:%M") for moment in found] == expected


def test_within_the_hour_that_comes_twice_nothing_comes_back() -> None:
    schedule = Schedule(cron="45 2 * * *", tz="Europe/Berlin")
    second_half_past_two = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert previous_moment(schedule, second_half_past_two) == datetime(2026, 10, 25, 0, 45, tzinfo=UTC)
    assert next_moment(schedule, second_half_past_two) == datetime(2026, 10, 26, 1, 45, tzinfo=UTC)


@given(every=st.integers(1, 100_000), start=st.one_of(st.none(), MOMENTS), at=MOMENTS)
def test_an_interval_is_counted_from_its_start(every: int, start: datetime | None, at: datetime) -> None:
    schedule = Schedule(every=every, start=start)
    following = next_moment(schedule, at)
    assert following is not None
    assert following > at
    assert (following - schedule.anchor) % timedelta(seconds=every) == timedelta(0)
    before = previous_moment(schedule, at)
    if before is None:
        assert following == schedule.anchor
    else:
        assert following - before == timedelta(seconds=every)
        assert list(islice(moments_between(schedule, before, following), 3)) == [before, following]


def test_triggers_alone_have_no_moments() -> None:
    schedule = checked(Schedule, {"triggers": [{"kind": "job", "job": "ingest"}]}, what="schedule")
    assert next_moment(schedule, datetime(2026, 1, 1, tzinfo=UTC)) is None
    assert previous_moment(schedule, datetime(2026, 1, 1, tzinfo=UTC)) is None
