"""Commands of the job scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .group import MLOpsGroup

if TYPE_CHECKING:
    import threading

_STATES = ("waiting", "retrying", "starting", "running", "cancelling", "stopping", "succeeded", "failed", "cancelled",
           "skipped")  # fmt: skip


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


@click.group(cls=MLOpsGroup)
def scheduler() -> None:
    """Start jobs when they are due."""


@scheduler.command()
@click.pass_context
def run(ctx: click.Context) -> None:
    """Start jobs when they are due, until Ctrl-C or SIGTERM.

    Any number of these may run over one store, on machines that share the data directory: each slot is fired once. When
    one is killed, the others go on with what it had begun.
    """
    import logging
    import signal
    import threading

    from ..runs import Runs
    from ..scheduler.admission import Limits
    from ..scheduler.launcher import production_launcher
    from ..scheduler.loop import JobScheduler, Pace

    here = _front(ctx)
    config = here.runs.config
    runs = Runs(config=config, front="scheduler")
    stop = threading.Event()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("jupyter_mlops").setLevel(logging.INFO)
    job_scheduler = JobScheduler(
        runs.store,
        production_launcher(runs),
        auditor=runs.audit,
        limits=Limits(config.scheduler_owner_limit or None, dict(config.scheduler_profile_limits)),
        pace=Pace(workers=config.scheduler_workers, lease=config.scheduler_lease),
    )
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: _stop(stop)) for number in signals]
    here.say("The job scheduler runs. Ctrl-C ends it; the runs that it started go on.")
    try:
        job_scheduler.run(stop)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _stop(stop: threading.Event) -> None:
    # Not in the handler itself: it may have interrupted the very thread that holds the event's lock.
    import threading

    threading.Thread(target=stop.set, name="mlops-stop", daemon=True).start()


@scheduler.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the processes of the job scheduler, what is under way, and triggers that cannot be watched."""
    from datetime import datetime, timezone

    from ..store.leases import LeaseStore
    from ..store.slots import SlotStore
    from ..store.watches import WatchStore
    from .tables import scheduler_table

    here = _front(ctx)
    store = here.runs.store
    processes = LeaseStore(store).processes()
    counts = SlotStore(store).counts()
    troubles = WatchStore(store).troubles()
    now = datetime.now(timezone.utc)
    silent = 2 * here.runs.config.scheduler_lease
    alive = [
        process for process in processes
        if process.end_time is None and (now - process.beat_time).total_seconds() <= silent
    ]  # fmt: skip
    if as_json:
        here.data({
            "running": len(alive),
            "processes": [
                {**vars(process), "start_time": process.start_time.isoformat(),
                 "beat_time": process.beat_time.isoformat(),
                 "end_time": process.end_time.isoformat() if process.end_time else None, "alive": process in alive}
                for process in processes
            ],
            "slots": {state.value: count for state, count in counts.items()},
            "triggers": [{"job": job, "trigger": url, "message": message} for job, url, message in troubles],
        })  # fmt: skip
        return
    if not alive:
        here.say("No job scheduler is running.", "Start one: jupyter mlops scheduler run")
    if processes:
        here.show(scheduler_table(processes, alive))
    here.say("Slots: " + (", ".join(f"{count} {state.value}" for state, count in counts.items()) or "none under way"))
    for job, url, message in troubles:
        here.say(f"The job {job} cannot watch {url}: {message}")


@scheduler.command()
@click.argument("job", required=False, metavar="[JOB]")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES), help="Only slots in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, help="At most so many. Default: 20.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def slots(ctx: click.Context, job: str | None, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List slots, of one job or of all: the moments at which jobs ran, or did not and why."""
    from ..jobs.slot import SlotState
    from ..store.slots import SlotStore

    here = _front(ctx)
    found = SlotStore(here.runs.store).slots(job=job, states=[SlotState(state) for state in states], limit=limit)
    if as_json:
        here.data([slot.as_dict() for slot in found])
        return
    if not found:
        here.say("There is no such slot." if job or states else "There is no slot yet.")
        return
    from .tables import slots_table

    here.show(slots_table(found))


COMMANDS = (scheduler,)
