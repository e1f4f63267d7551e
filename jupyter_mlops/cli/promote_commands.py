"""Commands that make a notebook a job, and that approve it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .job_options import (
    gate_options,
    policy_options,
    registered_model,
    schedule_options,
    take_gates,
    take_policies,
    take_schedule,
)
from .options import chosen_profile, json_parameters, notebook_options, parameter_options, resource_options

if TYPE_CHECKING:
    from ..jobs.core import Jobs
    from ..jobs.promotion import Verdict
    from ..jobs.proposal import Proposal


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


@click.command()
@click.argument("notebook", required=False, metavar="[NOTEBOOK]")
@click.option(
    "--name", metavar="JOB", help="The job. Default: the notebook's name. A job that is there gets a version."
)
@schedule_options
@gate_options
@parameter_options
@resource_options
@notebook_options
@policy_options
@click.option(
    "--register-model",
    "model",
    metavar="NAME[:MODEL]",
    help="Register the model that its runs log in MLflow, "
    "under NAME with the aliases challenger and champion. MODEL is its name in the run, if there are several.",
)
@click.option("--owner", metavar="USER", help="Who answers for the job. Default: who did, else you.")
@click.option("--reason", default="", metavar="TEXT", help="Why; the job's history keeps it.")
@click.option("--from-run", metavar="RUN", help="Judge this run, which has succeeded, instead of a new one. "
              "It must have run the very same snapshot with the same parameters and resources.")  # fmt: skip
@click.option("--force", is_flag=True, help="Let it live although a gate refuses it; only where the policy allows "
              "that, and with a --reason.")  # fmt: skip
@click.option("--wait/--detach", default=True, help="Wait for the clean run, or only start it; `jobs judge` goes on.")
@click.option("--dry-run", is_flag=True, help="Check everything, show what would be promoted, create nothing.")
@click.option("--as-saved", is_flag=True, help="Promote the notebook's file although this cell is not saved in it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def promote(ctx: click.Context, /, notebook: str | None, wait: bool, **options: Any) -> None:
    """Make a notebook a job that runs by itself.

    The notebook is kept as it is now, run once from top to bottom in a clean kernel, and judged by the gates: those
    that you name, and those that the policy asks for. It goes live if all of them pass, waits if somebody has to
    approve, and is refused otherwise. Exits with 1 if it is refused.
    """
    from ..errors import RunFailedError
    from ..jobs.core import Jobs
    from ..runs import is_own_notebook, running_inside

    here = _front(ctx)
    inside = running_inside()
    if inside is not None and (notebook is None or is_own_notebook(Path(notebook))):
        here.say(f"This notebook is executed as run {inside}: it does not promote itself.")
        return
    path = here.notebook(notebook)
    as_saved, as_json, dry_run = options.pop("as_saved"), options.pop("as_json"), options.pop("dry_run")
    if notebook is None:
        here.refuse_stale(path, as_saved=as_saved)
    from_run, force = options.pop("from_run"), options["force"]
    jobs = Jobs(here.runs)
    proposal = _proposal(jobs, path, options)
    run = jobs.promotions.usable_run(from_run, proposal.version) if from_run is not None else None
    if not as_json:
        _describe(here, proposal)
    if dry_run:
        if as_json:
            here.data(proposal.version.model_dump(mode="json"))
        return
    verdict = jobs.promotions.propose(proposal, force=force)
    job, number = proposal.version.job, verdict.record.version.number
    if run is None and verdict.record.state.value == "proposed":
        run = jobs.promotions.clean_run(job, number)
        if not as_json:
            here.say(f"Version {number} of the job {job} is proposed. Its clean run is {run.run_id}.")
        if not wait:
            here.say(*([] if as_json else [f"When it has ended: jupyter mlops jobs judge {job} --version {number}"]))
        elif as_json:
            here.runs.wait(run.run_id)
        else:
            try:
                here.follow(run, wait=True)
            except RunFailedError:
                pass  # the gate says so
            except KeyboardInterrupt:
                here.say(f"The promotion waits. To go on: jupyter mlops jobs judge {job} --version {number}")
                raise
        run = here.runs.get(run.run_id)
    verdict = jobs.promotions.judge(job, number, run=run, force=force, reason=proposal.version.reason)
    tell_verdict(here, jobs, verdict, as_json=as_json)


def _proposal(jobs: Jobs, path: Path, options: dict[str, Any]) -> Proposal:
    from ..notebook.parameters import load_parameter_file, parse_assignments

    file, text = options.pop("params_file"), options.pop("json_params")
    schedule, policies, gates = take_schedule(options), take_policies(options), take_gates(options)
    profile = chosen_profile(jobs.promotions.runs.config, options)
    return jobs.promotions.prepare(
        path,
        job=options.pop("name") or path.stem,
        schedule=schedule,
        policies=policies,
        gates=gates,
        profile=profile,
        model=registered_model(options.pop("model")),
        assignments=parse_assignments(options.pop("assignments")),
        parameters={**(load_parameter_file(Path(file)) if file else {}), **json_parameters(text)},
        **options,
    )


def _describe(here: Any, proposal: Proposal) -> None:
    from ..jobs.judge import wanted
    from ..schedule import describe_schedule
    from ..snapshot import describe

    version = proposal.version
    known = set(proposal.snapshot.warnings)
    here.say(*describe(proposal.snapshot), *(notice for notice in proposal.notices if notice not in known))
    here.say(f"Job {version.job}, {describe_schedule(version.schedule)}")
    here.say("Gates:", *(f"  {wanted(gate)}" for gate in version.gates))


def tell_verdict(here: Any, jobs: Jobs, verdict: Verdict, *, as_json: bool) -> None:
    """Tell how a version stands after it was judged.

    Raises:
        MLOpsError: it was refused.
    """
    from ..errors import MLOpsError
    from .job_tables import gates_table

    version, state = verdict.record.version, verdict.record.state.value
    name = f"Version {version.number} of the job {version.job}"
    if as_json:
        here.data(verdict.as_dict())
    else:
        here.show(gates_table(verdict))
    if state == "refused":
        first = verdict.failed[0] if verdict.failed else None
        why = verdict.why or (f"{first.seen}; wanted: {first.wanted}." if first is not None else "")
        hint = "The version that was live before, if any, stays. Promote again when it is mended."
        error = MLOpsError(f"{name} is refused: {why}", hint=hint, code="refused")
        error.told = as_json  # type: ignore[attr-defined]
        raise error
    if as_json:
        return
    if state == "proposed":
        here.say(f"{name} is proposed, and waits:", *(f"  {one.missing}" for one in verdict.waiting))
        if any(one.gate.kind == "approval" for one in verdict.waiting):
            here.say(f"To approve it: jupyter mlops approve {version.job} --version {version.number}")
        return
    here.say(f"{name} is {state}.")
    if state == "live":
        _tell_when(here, jobs, verdict)


def _tell_when(here: Any, jobs: Jobs, verdict: Verdict) -> None:
    from ..schedule import describe_schedule

    job, schedule = verdict.job, verdict.record.version.schedule
    when = f", next at {job.next_time.astimezone():%Y-%m-%d %H:%M:%S %Z}" if job.next_time is not None else ""
    here.say(f"It runs {describe_schedule(schedule)}{when}.")
    if job.state.value == "paused":
        here.say(f"The job is paused. To let it run: jupyter mlops jobs resume {job.name}")
    if not jobs.scheduler_runs():
        here.say("No job scheduler is running, and without one nothing is started.",
                 "Start one: jupyter mlops scheduler run")  # fmt: skip


@click.command()
@click.argument("job")
@click.option("--version", "number", type=click.IntRange(1), metavar="N",
              help="The version. Default: the one that is proposed.")  # fmt: skip
@click.option("--reject", is_flag=True, help="Refuse it instead. The author may do so too, to withdraw it.")
@click.option("--comment", default="", metavar="TEXT", help="Why; the job's history keeps it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def approve(ctx: click.Context, job: str, number: int | None, reject: bool, comment: str, as_json: bool) -> None:
    """Approve a version of a job that somebody else proposed.

    It goes live with the last approval that it needs. `jobs show JOB --version N` shows what its gates have found,
    `jobs diff` what is new in it.
    """
    from ..jobs.core import Jobs

    here = _front(ctx)
    jobs = Jobs(here.runs)
    verdict = jobs.promotions.approve(job, number, approved=not reject, comment=comment)
    if reject:
        version = verdict.record.version
        here.data(verdict.as_dict()) if as_json else here.say(
            f"Version {version.number} of the job {version.job} is {verdict.record.state.value}: {verdict.why}"
        )
        return
    tell_verdict(here, jobs, verdict, as_json=as_json)


COMMANDS = (promote, approve)
