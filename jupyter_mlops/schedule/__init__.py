"""When a job is to run: values for schedules and triggers, the moments that they have, and the words for them.

Pure functions over data: knows no store, no clock and no scheduler.
"""

from .model import (
    EventTrigger,
    FileTrigger,
    JobTrigger,
    Schedule,
    Trigger,
    WebhookTrigger,
)
from .moments import moments_between, next_moment, next_moments, previous_moment
from .words import describe_schedule

__all__ = [
    "EventTrigger",
    "FileTrigger",
    "JobTrigger",
    "Schedule",
    "Trigger",
    "WebhookTrigger",
    "describe_schedule",
    "moments_between",
    "next_moment",
    "next_moments",
    "previous_moment",
]
