"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import ParameterError, UsageError

if TYPE_CHECKING:
    from ..config import MLOps
    from ..profile import Profile

F = TypeVar("F", bound=Callable[..., Any])


def resource_options(command: F) -> F:
    """--profile, --gpus, --cpus, --memory, --workers."""
    for option in (
        click.option("--workers", type=click.IntRange(1), help="Dask workers."),
        click.option("--memory", metavar="SIZE", help="Memory for the whole run, like 4Gi."),
        click.option("--cpus", type=click.FloatRange(0, min_open=True), help="CPU cores for the whole run."),
        click.option("--gpus", type=click.IntRange(0), help="GPUs for the whole run."),
        click.option("--profile", metavar="NAME", help="Named resources; see `profiles`."),
    ):
        command = option(command)
    return command


def notebook_options(command: F) -> F:
    """What ships and how it is executed: --experiment to --cell-timeout."""
    for option in (
        click.option("--cell-timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                     help="Stop a run when a cell takes so long."),
        click.option("--timeout", "run_timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                     help="Stop a run after so long."),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0,
                     help="Seed of the random generators. Default: 0."),
        click.option("--autolog", is_flag=True, help="Call mlflow.autolog() before the first cell."),
        click.option("--kernel", "kernel_name", metavar="NAME", help="Kernel instead of the notebook's own."),
        click.option("--exclude", multiple=True, metavar="GLOB", help="Do not ship these files."),
        click.option("--include", multiple=True, metavar="GLOB", help="Ship these files too."),
        click.option("--experiment", help="MLflow experiment. Default: the one the notebook sets, else its name."),
    ):  # fmt: skip
        command = option(command)
    return command


def parameter_options(command: F) -> F:
    """-p, -f and --json-params."""
    for option in (
        click.option("--json-params", metavar="JSON", help="Set parameters from a JSON object."),
        click.option("-f", "--params-file", metavar="FILE", help="Set parameters from a YAML or JSON file."),
        click.option("-p", "--param", "assignments", multiple=True, metavar="NAME=VALUE", help="Set a parameter."),
    ):
        command = option(command)
    return command


def chosen_profile(config: MLOps, options: dict[str, Any]) -> Profile:
    """The profile that the options of `resource_options` describe; takes them out of `options`.

    Raises:
        ProfileError: no such profile, or a resource that does not fit.
    """
    name = options.pop("profile")
    changes = {key: options.pop(key) for key in ("gpus", "cpus", "memory", "workers")}
    return config.profile(name, **changes)


def json_parameters(text: str | None) -> dict[str, Any]:
    """The value of --json-params.

    Raises:
        ParameterError: it is no JSON object.
    """
    from ..notebook.strict_json import UnfitError, parse_json

    if text is None:
        return {}
    try:
        found = parse_json(text)
    except (ValueError, UnfitError, RecursionError) as error:
        raise ParameterError(
            f"--json-params cannot be read: {error}.", hint="""For example: --json-params '{"lr": 0.1}'"""
        ) from None
    if not isinstance(found, dict):
        raise ParameterError("--json-params is no JSON object.", hint="""For example: --json-params '{"lr": 0.1}'""")
    return found


def tags(items: tuple[str, ...]) -> dict[str, str]:
    """The values of --tag.

    Raises:
        UsageError: one has no `=`.
    """
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"--tag {item!r} is no NAME=VALUE.")
        found[key] = value
    return found


def duration(text: str | None, option: str) -> float | None:
    """Seconds of "30m", "8h", "1d" or "90s".

    Raises:
        UsageError: it is no such time, or none at all.
    """
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number = text[:-1] if text[-1:] in units else ""
    try:
        found = float(number) * units[text[-1:]]
    except (ValueError, KeyError):
        found = 0.0
    if not 1 <= found < 2**31:
        raise UsageError(f"{option} {text!r} is no time.", hint="Write it like 90s, 30m, 8h or 1d.")
    return found


def moment(text: str | None, *, now: datetime | None = None) -> datetime | None:
    """A moment from "2h", "3d", "30m", or an ISO date or time (local zone where none is given).

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    now = now or datetime.now(timezone.utc)
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    if text[-1:] in units and text[:-1].isdigit():
        try:
            return now - timedelta(**{units[text[-1]]: int(text[:-1])})
        except OverflowError:
            raise UsageError(f"{text!r} is too long ago.") from None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no moment.", hint="Write 2h, 3d, or a date like 2026-11-24.") from None
    return found.astimezone(timezone.utc)
