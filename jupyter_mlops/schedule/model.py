"""`Schedule`: when a job runs, as an immutable value that is checked where it enters.

A message of a `ValueError` here is a sentence for the person: `jobs.model.checked` hands it on.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from .cron import check_cron, check_zone

JOB_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$"
"""A job's name is also the name of its CronJob, for which Kubernetes leaves 52 characters (RFC 1123)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _without_password(url: str) -> str:
    try:
        password = urlsplit(url).password
    except ValueError:
        raise ValueError("the URL cannot be read") from None
    if password:
        raise ValueError("the URL holds a password, which would be recorded; the storage's own variables carry it")
    return url


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileTrigger(_Value):
    """Each object that appears under a URL, or is replaced there, starts the job once.

    What is there when the version goes live counts as seen.

    Attributes:
        url: fsspec URL with globs, like `s3://inbox/*.csv`; its credentials come from the environment.
        poll: Seconds between two looks.
        settle: Seconds for which an object without an ETag must have been left alone: it may be half written.
    """

    kind: Literal["file"] = "file"
    url: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_without_password)]
    poll: float = Field(default=60.0, ge=1, le=86400)
    settle: float = Field(default=10.0, ge=0, le=86400)


class JobTrigger(_Value):
    """Each success of another job starts the job once.

    Attributes:
        job: The other job's name.
    """

    kind: Literal["job"] = "job"
    job: str = Field(pattern=JOB_NAME_PATTERN)


class EventTrigger(_Value):
    """Each event of a name starts the job once: a drift alert, or whatever else is told with `SlotStore.emit`.

    Attributes:
        event: The event's name, like `drift/churn`.
    """

    kind: Literal["event"] = "event"
    event: str = Field(min_length=1, max_length=200)


class WebhookTrigger(_Value):
    """Each signed request starts the job once.

    Attributes:
        secret_variable: The variable of the scheduler's environment that holds the secret of the signature.
    """

    kind: Literal["webhook"] = "webhook"
    secret_variable: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")


Trigger = Annotated[FileTrigger | JobTrigger | EventTrigger | WebhookTrigger, Field(discriminator="kind")]


class Schedule(_Value):
    """When a job runs: by cron, or in an interval, or neither; and by triggers. Empty: by hand only.

    Attributes:
        cron: Five fields with names ("0 2 * * MON-FRI"), `L` and `#`, or `@daily` and its like.
        every: Seconds from one moment to the next. They are counted on a clock without daylight saving.
        start: The moment that an interval is counted from, and before which it has none. None: 1970, UTC.
        tz: Name of the time zone that `cron` is meant in.
        triggers: What else starts the job.
    """

    cron: str | None = None
    every: float | None = Field(default=None, ge=1, le=366 * 86400)
    start: datetime | None = None
    tz: str = "UTC"
    triggers: tuple[Trigger, ...] = Field(default=(), max_length=20)

    @field_validator("tz")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        check_zone(value)
        return value

    @field_validator("start")
    @classmethod
    def _start_is_a_moment(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the start of the interval has no time zone")
        return value.astimezone(timezone.utc)

    @model_validator(mode="after")
    def _consistent(self) -> Schedule:
        if self.cron is not None and self.every is not None:
            raise ValueError("a schedule is a cron expression or an interval, not both")
        if self.start is not None and self.every is None:
            raise ValueError("only an interval has a start")
        if self.cron is not None:
            check_cron(self.cron)
        kinds = [trigger.kind for trigger in self.triggers]
        if kinds.count("webhook") > 1:
            raise ValueError("a job has one webhook")
        return self

    @property
    def anchor(self) -> datetime:
        """The moment that the interval is counted from."""
        return self.start or _EPOCH
