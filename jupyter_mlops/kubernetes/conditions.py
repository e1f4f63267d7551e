"""Reads what every object of Kubernetes has: conditions, times, events. Knows the shape of the data alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def condition(thing: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The condition of that type, or None."""
    found: Iterable[Mapping[str, Any]] = (thing.get("status") or {}).get("conditions") or ()
    return next((each for each in found if each.get("type") == kind), None)


def is_true(thing: Mapping[str, Any], kind: str) -> bool:
    """Whether the condition of that type holds."""
    found = condition(thing, kind)
    return found is not None and found.get("status") == "True"


def created(thing: Mapping[str, Any]) -> str:
    """When it was made; Kubernetes' times sort as text."""
    return str((thing.get("metadata") or {}).get("creationTimestamp") or "")


def said(reason: str | None, message: str | None) -> str:
    """Kubernetes' own words, for the folded text below the sentence."""
    return ": ".join(part for part in (reason, message) if part)


def events_of(events: Sequence[Mapping[str, Any]], thing: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The events about an object, the oldest first; by its uid, because names are used again.

    Takes both forms: `v1` with `involvedObject` and `events.k8s.io/v1` with `regarding`, `note` and `series`.
    """
    uid = (thing.get("metadata") or {}).get("uid")
    mine = [
        event
        for event in events
        if uid and (event.get("involvedObject") or event.get("regarding") or {}).get("uid") == uid
    ]
    return sorted(mine, key=_last_seen)


def text_of(event: Mapping[str, Any]) -> str:
    """What the event says."""
    return str(event.get("message") or event.get("note") or "")


def _last_seen(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        (event.get("metadata") or {}).get("creationTimestamp"),
    )
    # To the second: some of these carry microseconds and some do not, and "Z" sorts behind ".".
    return next((str(time)[:19] for time in times if time), "")
