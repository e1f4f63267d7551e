"""How two versions of a job differ, field by field, file by file, package by package. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..schedule import describe_schedule
from .judge import wanted
from .model import JobVersion

if TYPE_CHECKING:
    from ..snapshot import Snapshot

_SHORT = 12


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Attributes:
        what: The field, like `parameters.lr`, or the name of a file or package.
        before: As text; empty: it was not there.
        after: As text; empty: it is not there any more.
    """

    what: str
    before: str
    after: str


def version_changes(first: JobVersion, second: JobVersion) -> list[Change]:
    """What differs between two versions, apart from number, author, reason and time."""
    one, other = dict(_fields(first)), dict(_fields(second))
    found = [
        Change(what, one.get(what, ""), other.get(what, ""))
        for what in dict.fromkeys((*one, *other))
        if one.get(what) != other.get(what)
    ]
    before, after = ([wanted(gate) for gate in version.gates] for version in (first, second))
    found += [Change("gate", text, "") for text in before if text not in after]
    found += [Change("gate", "", text) for text in after if text not in before]
    return found


def file_changes(first: Snapshot, second: Snapshot) -> list[Change]:
    """Files beside the notebook that differ, and the commit."""
    one, other = ({file.path: file.sha256[:_SHORT] for file in snapshot.files} for snapshot in (first, second))
    for snapshot in (first, second):
        one.pop(snapshot.notebook, None)
        other.pop(snapshot.notebook, None)
    commits = [_commit(first), _commit(second)]
    found = [Change("git commit", *commits)] if commits[0] != commits[1] else []
    return found + _named(one, other)


def package_changes(first: Snapshot, second: Snapshot) -> list[Change]:
    """Packages whose versions differ, and the interpreter."""
    one, other = (
        {"python": snapshot.environment.python, **{d.name: d.version for d in snapshot.environment.distributions}}
        for snapshot in (first, second)
    )
    return _named(one, other)


def _commit(snapshot: Snapshot) -> str:
    return (snapshot.git.commit or "")[:_SHORT] if snapshot.git is not None else ""


def _named(one: Mapping[str, str], other: Mapping[str, str]) -> list[Change]:
    return [
        Change(name, one.get(name, ""), other.get(name, ""))
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def _fields(version: JobVersion) -> Iterator[tuple[str, str]]:
    yield "schedule", describe_schedule(version.schedule)
    schedule = version.schedule.model_dump(mode="json")
    yield from _flat("schedule", {name: schedule[name] for name in ("cron", "every", "start", "tz")})
    yield "owner", version.owner
    yield "fired by", version.fired_by.value
    yield from _flat("model", version.model.model_dump(mode="json") if version.model is not None else None)
    yield from _flat("policies", version.policies.model_dump(mode="json"))
    for step in version.steps:
        prefix = "" if len(version.steps) == 1 else f"{step.name}."
        data = step.model_dump(mode="json", exclude={"name", "snapshot_id", "parameters", "profile"})
        yield f"{prefix}snapshot", step.snapshot_id[:_SHORT]
        yield from _flat(f"{prefix}parameters", step.parameters)
        yield from _flat(f"{prefix}profile", step.profile.model_dump(mode="json"))
        yield from _flat(prefix.rstrip("."), data)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), item)
    elif value is not None and value not in ({}, []):
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
