"""Options that make a job: when it runs, how its slots are treated, what must pass before; and their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .options import duration

if TYPE_CHECKING:
    from ..jobs.gate import GateSpec
    from ..jobs.model import Policies, RegisteredModel, Schedule

F = TypeVar("F", bound=Callable[..., Any])


def _all(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def schedule_options(command: F) -> F:
    """--schedule, --tz, --every, --start and the triggers."""
    add: Callable[[F], F] = _all((
        click.option("--schedule", "cron", metavar="CRON", help='When: five fields like "0 2 * * MON-FRI", or @daily.'),
        click.option("--tz", metavar="ZONE", help="Time zone that --schedule is meant in. Default: UTC."),
        click.option("--every", metavar="TIME", help="When: every 30m, 6h, 1d, …"),
        click.option("--start", metavar="WHEN", help="With --every: the moment to count from, ISO with a zone."),
        click.option("--on-file", "files", multiple=True, metavar="URL",
                     help="Run for each new object at this fsspec URL, like s3://inbox/*.csv."),
        click.option("--after", "jobs", multiple=True, metavar="JOB", help="Run when this job has succeeded."),
        click.option("--on-event", "events", multiple=True, metavar="EVENT", help="Run on each event of this name."),
        click.option("--on-webhook", "webhook", metavar="VARIABLE",
                     help="Run on each request that is signed with the secret in this variable of the server."),
    ))  # fmt: skip
    return add(command)


def take_schedule(options: dict[str, Any]) -> Schedule:
    """The schedule that the options of `schedule_options` describe; takes them out of `options`.

    Raises:
        UsageError: they describe none.
    """
    from datetime import datetime

    from ..errors import UsageError
    from ..jobs.model import Schedule, checked

    start = options.pop("start")
    try:
        begin = datetime.fromisoformat(start.replace("Z", "+00:00")) if start is not None else None
    except ValueError:
        raise UsageError(f"--start {start!r} is no moment.", hint="For example: 2026-11-24T06:00+01:00") from None
    webhook = options.pop("webhook")
    triggers = [
        *({"kind": "file", "url": url} for url in options.pop("files")),
        *({"kind": "job", "job": name} for name in options.pop("jobs")),
        *({"kind": "event", "event": name} for name in options.pop("events")),
        *([{"kind": "webhook", "secret_variable": webhook}] if webhook is not None else []),
    ]
    fields = {
        "cron": options.pop("cron"), "every": duration(options.pop("every"), "--every"), "start": begin,
        "tz": options.pop("tz") or "UTC", "triggers": triggers,
    }  # fmt: skip
    return checked(Schedule, fields, what="schedule")


_NUMBERS = {"retries": click.IntRange(0, 100), "max_active": click.IntRange(1)}
_TIMES = ("misfire_grace", "start_deadline", "retry_delay")


def policy_options(command: F) -> F:
    """--retries, --overlap, --catch-up and their like."""
    add: Callable[[F], F] = _all((
        click.option("--retries", type=_NUMBERS["retries"], help="How often a failed slot is tried again. Default: 0."),
        click.option("--retry-delay", metavar="TIME", help="Before the first of these; it doubles. Default: 60s."),
        click.option("--overlap", type=click.Choice(["allow", "forbid", "replace"]),
                     help="When the slot before has not ended. Default: forbid."),
        click.option("--catch-up", type=click.Choice(["none", "latest", "all"]),
                     help="Which of the moments run that no scheduler was there for. Default: latest."),
        click.option("--misfire-grace", metavar="TIME", help="How late a moment is still on time. Default: 300s."),
        click.option("--deadline", "start_deadline", metavar="TIME", help="Skip a slot that could not start in time."),
        click.option("--max-active", type=_NUMBERS["max_active"], help="Most slots of the job at once."),
    ))  # fmt: skip
    return add(command)


def take_policies(options: dict[str, Any]) -> Policies:
    """The policies that the options of `policy_options` describe; takes them out of `options`.

    Raises:
        UsageError: they describe none.
    """
    from ..jobs.model import Policies, checked

    found = {name: options.pop(name) for name in ("retries", "overlap", "catch_up", "max_active")}
    for name in _TIMES:
        flag = "--deadline" if name == "start_deadline" else f"--{name.replace('_', '-')}"
        found[name] = duration(options.pop(name), flag)
    return checked(Policies, {name: value for name, value in found.items() if value is not None}, what="policy")


def gate_options(command: F) -> F:
    """--require and its like."""
    add: Callable[[F], F] = _all((
        click.option("--require", "metrics", multiple=True, metavar="COMPARISON",
                     help='A metric of the clean run: "accuracy>=0.9". One of >=, >, <=, <.'),
        click.option("--require-not-worse", "not_worse", multiple=True, metavar="METRIC[:MARGIN]",
                     help="A metric is not worse than production's by more than the margin: accuracy:0.01."),
        click.option("--require-checks", "checks", multiple=True, metavar="TAG",
                     help="The cells with this tag are there, ran and raised nothing."),
        click.option("--require-git", "git", type=click.Choice(["known", "clean"]),
                     help="known: there is a commit; clean: all that ships is in it."),
        click.option("--require-digest", "digest", is_flag=True, help="The image is pinned by its digest."),
        click.option("--require-approval", "approvals", multiple=True, metavar="N|USER,USER|N:USER,USER",
                     help="So many people other than the author approve, or one (or N) of these."),
    ))  # fmt: skip
    return add(command)


def take_gates(options: dict[str, Any]) -> tuple[GateSpec, ...]:
    """The gates that the options of `gate_options` describe; takes them out of `options`.

    Raises:
        UsageError: one cannot be read.
    """
    from ..jobs.gate import DataChecksGate, ImageGate
    from ..jobs.model import checked
    from ..jobs.require import approval_gate, champion_gate, git_gate, metric_gate

    git, digest = options.pop("git"), options.pop("digest")
    return (
        *([git_gate(git)] if git is not None else []),
        *([ImageGate()] if digest else []),
        *(checked(DataChecksGate, {"tag": tag}, what="gate") for tag in options.pop("checks")),
        *(metric_gate(text) for text in options.pop("metrics")),
        *(champion_gate(text) for text in options.pop("not_worse")),
        *(approval_gate(text) for text in options.pop("approvals")),
    )


def registered_model(text: str | None) -> RegisteredModel | None:
    """The value of --register-model: NAME, or NAME:MODEL.

    Raises:
        UsageError: it is neither.
    """
    from ..jobs.model import RegisteredModel, checked

    if text is None:
        return None
    name, colon, logged_as = text.partition(":")
    return checked(RegisteredModel, {"name": name, "logged_as": logged_as if colon else None}, what="model")
