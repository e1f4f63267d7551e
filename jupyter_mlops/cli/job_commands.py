"""Commands of jobs that are there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .group import MLOpsGroup

if TYPE_CHECKING:
    from ..jobs.core import Jobs

_STATES = ("active", "paused", "deleted")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_reason = click.option("--reason", default="", metavar="TEXT", help="Why; the audit log keeps it.")
_number = click.option("--version", "number", type=click.IntRange(1), metavar="N",
                       help="The version. Default: the live one.")  # fmt: skip


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


def _jobs(ctx: click.Context) -> tuple[Any, Jobs]:
    from ..jobs.core import Jobs

    here = _front(ctx)
    return here, Jobs(here.runs)


@click.group(cls=MLOpsGroup)
def jobs() -> None:
    """See and change jobs: notebooks that were promoted and run by themselves.

    A version is written as its number, or as v3.
    """


@jobs.command(name="list")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES),
              help="Only jobs in this state. Default: active and paused.")  # fmt: skip
@click.option("--owner", metavar="USER", help="Only this person's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, help="At most so many. Default: 20.")
@click.option("--from", "after", default="", metavar="JOB", help="Only names after this one, for the next page.")
@_json
@click.pass_context
def list_(
    ctx: click.Context, states: tuple[str, ...], owner: str | None, limit: int, after: str, as_json: bool
) -> None:
    """List jobs by name."""
    from ..jobs.model import JobState
    from .job_tables import jobs_table

    here, core = _jobs(ctx)
    wanted = [JobState(state) for state in states or _STATES[:2]]
    found = core.find(states=wanted, owner=owner, limit=limit, after=after)
    if as_json:
        here.data([{**line.job.as_dict(), "proposed": list(line.proposed),
                    "last": line.last.as_dict() if line.last is not None else None} for line in found])  # fmt: skip
        return
    if not found:
        here.say("There is no such job." if states or owner or after else "There is no job yet.",
                 "Make one: jupyter mlops promote NOTEBOOK")  # fmt: skip
        return
    here.show(jobs_table(found))


@jobs.command()
@click.argument("job")
@click.option("--version", "number", type=click.IntRange(1), metavar="N",
              help="The version. Default: the live one, else the newest.")  # fmt: skip
@_json
@click.pass_context
def show(ctx: click.Context, job: str, number: int | None, as_json: bool) -> None:
    """Show a version of a job: what runs and when, what its gates have found, who approved it."""
    from .job_tables import gates_table, job_table
    from .tables import slots_table

    here, core = _jobs(ctx)
    view = core.show(job, number)
    if as_json:
        here.data({
            **view.verdict.job.as_dict(), **view.verdict.as_dict(),
            "content": view.verdict.record.version.model_dump(mode="json"),
            "approvals": [said.as_dict() for said in view.approvals],
            "moments": [moment.isoformat() for moment in view.moments],
            "slots": [slot.as_dict() for slot in view.slots],
        })  # fmt: skip
        return
    here.show(job_table(view))
    here.show(gates_table(view.verdict))
    version = view.verdict.record.version
    if view.verdict.record.state.value == "proposed":
        here.say(f"To go on with it: jupyter mlops jobs judge {job} --version {version.number}; to withdraw it: "
                 f"jupyter mlops approve {job} --version {version.number} --reject")  # fmt: skip
    if view.slots:
        here.show(slots_table(view.slots))


@jobs.command()
@click.argument("job")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="At most so many. Default: 20.")
@_json
@click.pass_context
def history(ctx: click.Context, job: str, limit: int, as_json: bool) -> None:
    """List the versions of a job, newest first: who made each, why, and what its gates said."""
    from .job_tables import history_table

    here, core = _jobs(ctx)
    found = core.history(job, limit=limit)
    if as_json:
        here.data([
            {**verdict.as_dict(), "author": verdict.record.version.author, "reason": verdict.record.version.reason,
             "create_time": verdict.record.version.create_time.isoformat(),
             "live_time": verdict.record.live_time.isoformat() if verdict.record.live_time else None,
             "copy_of": verdict.record.version.copy_of, "approvals": [said.as_dict() for said in approvals]}
            for verdict, approvals in found
        ])  # fmt: skip
        return
    here.show(history_table(found))


@jobs.command()
@click.argument("job")
@click.argument("first", metavar="V3")
@click.argument("second", metavar="V4")
@_json
@click.pass_context
def diff(ctx: click.Context, job: str, first: str, second: str, as_json: bool) -> None:
    """Show how two versions differ: parameters, schedule, gates, files, packages, and the notebook's cells."""
    from .job_tables import changes_table

    here, core = _jobs(ctx)
    numbers = _version(first), _version(second)
    found = core.diff(job, *numbers)
    if as_json:
        here.data({"fields": [vars(one) for one in found.fields], "files": [vars(one) for one in found.files],
                   "packages": [vars(one) for one in found.packages], "notebook": found.notebook})  # fmt: skip
        return
    parts = {"": found.fields, "Files:": found.files, "Packages:": found.packages}
    for title, changes in parts.items():
        if changes:
            here.say(*([title] if title else []))
            here.show(changes_table(changes, first=numbers[0], second=numbers[1]))
    if found.notebook:
        click.echo(f"Notebook:\n{found.notebook}")
    elif not any(parts.values()):
        here.say("The versions are the same.")


@jobs.command()
@click.argument("job")
@click.option("--version", "number", type=click.IntRange(1), metavar="N",
              help="The version. Default: the newest.")  # fmt: skip
@click.option("--force", is_flag=True, help="Let it live although a gate refuses it, where the policy allows that.")
@_reason
@_json
@click.pass_context
def judge(ctx: click.Context, job: str, number: int | None, force: bool, reason: str, as_json: bool) -> None:
    """Go on with a promotion that was left: judge its gates, and let it live if all of them pass.

    Starts the clean run if it was not started, and waits for it.
    """
    from ..errors import RunFailedError
    from .promote_commands import tell_verdict

    here, core = _jobs(ctx)
    number = number or core.newest(job)
    run = None
    if core.promotions.look(job, number).record.state.value == "proposed":
        run = core.promotions.clean_run(job, number)
        if as_json:
            here.runs.wait(run.run_id)
        elif not run.state.is_terminal:
            with suppress(RunFailedError):  # the gate says so
                here.follow(run, wait=True)
        run = here.runs.get(run.run_id)
    verdict = core.promotions.judge(job, number, run=run, force=force, reason=reason)
    tell_verdict(here, core, verdict, as_json=as_json)


@jobs.command()
@click.argument("job")
@_reason
@click.pass_context
def pause(ctx: click.Context, job: str, reason: str) -> None:
    """Start nothing more of a job, until `resume`. What runs goes on; what is missed is not made up for."""
    here, core = _jobs(ctx)
    core.pause(job, reason=reason)
    here.say(f"The job {job} is paused. To let it run again: jupyter mlops jobs resume {job}")


@jobs.command()
@click.argument("job")
@_reason
@click.pass_context
def resume(ctx: click.Context, job: str, reason: str) -> None:
    """Let a paused job run again."""
    here, core = _jobs(ctx)
    found = core.resume(job, reason=reason)
    when = f" It runs next at {found.next_time.astimezone():%Y-%m-%d %H:%M:%S %Z}." if found.next_time else ""
    here.say(f"The job {job} is active.{when}")


@jobs.command()
@click.argument("job")
@click.option("-p", "--param", "assignments", multiple=True, metavar="NAME=VALUE",
              help="Set a parameter, for this once.")  # fmt: skip
@_reason
@_json
@click.pass_context
def trigger(ctx: click.Context, job: str, assignments: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Have a job run now, once."""
    from ..jobs.firing import Firing
    from ..notebook.parameters import parse_assignments

    here, core = _jobs(ctx)
    slot = Firing(here.runs).trigger(job, assignments=parse_assignments(assignments), reason=reason)
    if as_json:
        here.data(slot.as_dict())
        return
    here.say(f"Slot {slot.slot_id} of the job {job}, version {slot.version}, waits for a job scheduler.",
             f"To see what becomes of it: jupyter mlops scheduler slots {job}")  # fmt: skip
    _no_scheduler(here, core)


@jobs.command()
@click.argument("job")
@click.argument("first", metavar="FROM")
@click.argument("last", metavar="TO")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100,
              help="Refuse more moments than this. Default: 100.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the moments, start nothing.")
@_reason
@_json
@click.pass_context
def backfill(
    ctx: click.Context, job: str, first: str, last: str, limit: int, dry_run: bool, reason: str, as_json: bool
) -> None:
    """Have a job run for the scheduled moments FROM … TO that have passed; those that have a slot are left alone.

    A moment is a date or an ISO time, in the time zone of the schedule unless it says another. The date TO is included.
    """
    from ..jobs.firing import Firing

    here, core = _jobs(ctx)
    moments, made = Firing(here.runs).backfill(job, first, last, limit=limit, dry_run=dry_run, reason=reason)
    if as_json:
        here.data({"moments": [one.isoformat() for one in moments], "made": [one.isoformat() for one in made]})
        return
    if not moments:
        here.say(f"The job {job} has no moment from {first} to {last} that has passed.")
        return
    if dry_run:
        here.say(*(f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}" for moment in moments))
        return
    here.say(f"Slots made: {len(made)}. Moments that had one: {len(moments) - len(made)}.")
    _no_scheduler(here, core)


@jobs.command()
@click.argument("job")
@click.option("--to", metavar="VERSION", help="The version to go back to. Default: the one that was live before.")
@_reason
@_json
@click.pass_context
def rollback(ctx: click.Context, job: str, to: str | None, reason: str, as_json: bool) -> None:
    """Let an earlier version live again, at once, as a new version that is a copy of it."""
    from .promote_commands import tell_verdict

    here, core = _jobs(ctx)
    verdict = core.rollback(job, _version(to) if to is not None else None, reason=reason)
    if not as_json:
        here.say(f"Version {verdict.record.version.number} is a copy of version {verdict.record.version.copy_of}.")
    tell_verdict(here, core, verdict, as_json=as_json)


@jobs.command()
@click.argument("job")
@_reason
@click.pass_context
def delete(ctx: click.Context, job: str, reason: str) -> None:
    """Take a job out of service. Its versions, slots and log stay, and a rollback brings it back."""
    here, core = _jobs(ctx)
    live = core.show(job).verdict.job.live_version
    core.delete(job, reason=reason)
    back = f" To have it back: jupyter mlops jobs rollback {job} --to {live}" if live is not None else ""
    here.say(f"The job {job} is deleted.{back}")


@jobs.command()
@click.argument("job")
@_number
@click.option("--output", "-o", "directory", type=click.Path(file_okay=False), metavar="DIR",
              help="Where to. Default: JOB-vN here.")  # fmt: skip
@click.pass_context
def export(ctx: click.Context, job: str, number: int | None, directory: str | None) -> None:
    """Write a version as JSON and its snapshots as zips: all that it takes to have it elsewhere."""
    here, core = _jobs(ctx)
    number = number or core.live(job).number
    for path in core.export(job, number, Path(directory or f"{job}-v{number}")):
        here.say(str(path))


def _version(text: str) -> int:
    from ..errors import UsageError

    number = text.strip().lower().removeprefix("v")
    if not (number.isascii() and number.isdecimal() and 0 < len(number) < 10):
        raise UsageError(f"{text!r} is no version.", hint="Write 3 or v3.")
    return int(number)


def _no_scheduler(here: Any, core: Jobs) -> None:
    if not core.scheduler_runs():
        here.say("No job scheduler is running, and without one nothing is started.",
                 "Start one: jupyter mlops scheduler run")  # fmt: skip


COMMANDS = (jobs,)
