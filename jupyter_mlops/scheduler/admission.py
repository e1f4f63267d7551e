"""Whether a slot may start now, given what else is running. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..jobs.model import CatchUp, JobState, JobVersion, Overlap, Slot, SlotKind, SlotState
from ..store.leases import Admission, Crowd

_SOON = timedelta(seconds=1)
_LATER = timedelta(seconds=15)


@dataclass(frozen=True)
class Limits:
    """What an admin allows.

    Attributes:
        per_owner: Slots of one owner at once; None: any number.
        per_profile: Slots at once on a profile, by its name; the others: any number.
    """

    per_owner: int | None = None
    per_profile: Mapping[str, int] = field(default_factory=dict)


def decide(slot: Slot, version: JobVersion, crowd: Crowd, limits: Limits, now: datetime) -> Admission:
    """What is to become of a slot that waits.

    Args:
        slot: WAITING, or RETRYING and its time has come.
        version: What it runs.
        crowd: What stands beside it.
        limits: What an admin allows.
        now: The time.
    """
    policies = version.policies
    first = slot.state is SlotState.WAITING
    if crowd.job_state is JobState.DELETED:
        return Admission(SlotState.SKIPPED, "The job was deleted.")
    if first and policies.start_deadline is not None:
        waited = (now - slot.create_time).total_seconds()
        if waited > policies.start_deadline:
            return Admission(SlotState.SKIPPED, f"It could not start within {policies.start_deadline:g} s.")
    if crowd.job_state is JobState.PAUSED:
        return _wait("The job is paused.", now + _LATER)
    # Who is between two attempts has its place, and need not ask for it again.
    in_the_way = _overlapping(slot, version, crowd, now) if first else None
    return in_the_way or _limited(version, crowd, limits, now) or Admission(SlotState.STARTING)


def _overlapping(slot: Slot, version: JobVersion, crowd: Crowd, now: datetime) -> Admission | None:
    policies = version.policies
    if policies.overlap is Overlap.ALLOW or not (crowd.unended or crowd.earlier):
        return None
    if policies.overlap is Overlap.REPLACE:
        return Admission(SlotState.WAITING, "Waits for the slot that it replaces.", now + _SOON, replace=True)
    if slot.kind is SlotKind.SCHEDULE and policies.catch_up is not CatchUp.ALL:
        return Admission(SlotState.SKIPPED, "The slot before had not ended.")
    return _wait("Waits for the slot before it.", now + _LATER)


def _limited(version: JobVersion, crowd: Crowd, limits: Limits, now: datetime) -> Admission | None:
    own = version.policies.max_active
    if own is not None and crowd.active >= own:
        return _wait(f"Waits: {own} of the job run already.", now + _LATER)
    if limits.per_owner is not None and crowd.owner_active >= limits.per_owner:
        return _wait(f"Waits: {limits.per_owner} of {version.owner} run already.", now + _LATER)
    for name, active in crowd.profile_active.items():
        most = limits.per_profile.get(name)
        if most is not None and active >= most:
            return _wait(f"Waits: {most} on the profile {name} run already.", now + _LATER)
    return None


def _wait(message: str, wake_time: datetime) -> Admission:
    return Admission(SlotState.WAITING, message, wake_time)
