"""What an attempt's end means for its slot. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..jobs.model import Policies, Slot, SlotState
from .launcher import Standing

_MOST_LOST = 5
"""So many attempts may come to nothing without a failure of the notebook; then the slot has failed."""
_LOST_WAIT = timedelta(seconds=5)
_FASTEST, _SLOWEST = timedelta(seconds=0.5), timedelta(seconds=15)


@dataclass(frozen=True)
class Next:
    """How the slot stands now.

    Attributes:
        state: Its state.
        wake_time: When it is looked at again; None: it has ended.
        message: Why.
        failures: How many of its attempts failed.
    """

    state: SlotState
    wake_time: datetime | None
    message: str
    failures: int


def next_state(slot: Slot, policies: Policies, standing: Standing, now: datetime) -> Next:
    """What becomes of a slot whose attempt stands so.

    Args:
        slot: The slot as it was: STARTING, RUNNING or STOPPING.
        policies: How often a failure is tried again.
        standing: How the attempt stands.
        now: The time.
    """
    failures = slot.failures
    if standing.state is SlotState.RUNNING:
        state = SlotState.STOPPING if slot.state is SlotState.STOPPING else SlotState.RUNNING
        return Next(state, now + _poll(slot, now), "", failures)
    if standing.state is not SlotState.FAILED:
        return Next(standing.state, None, standing.message, failures)
    if slot.state is SlotState.STOPPING:
        return Next(SlotState.CANCELLED, None, standing.message, failures)
    if standing.lost and slot.attempt - failures <= _MOST_LOST:
        return Next(SlotState.RETRYING, now + _LOST_WAIT, f"{standing.message} Nothing of it had run.", failures)
    failures += 1
    if failures <= policies.retries:
        wait = timedelta(seconds=policies.retry_wait(failures))
        return Next(SlotState.RETRYING, now + wait, standing.message, failures)
    return Next(SlotState.FAILED, None, standing.message, failures)


def _poll(slot: Slot, now: datetime) -> timedelta:
    # A run of a minute is looked at every few seconds, one of a day every fifteen.
    running = now - (slot.start_time or now)
    return min(_SLOWEST, max(_FASTEST, running / 10))
