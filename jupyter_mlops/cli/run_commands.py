"""Commands that start, follow and stop runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import chosen_profile, json_parameters, resource_options, tags


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


@click.command()
@click.argument("notebook", required=False, metavar="[NOTEBOOK]")
@click.option("-p", "--param", "assignments", multiple=True, metavar="NAME=VALUE", help="Set a parameter.")
@click.option("-f", "--params-file", metavar="FILE", help="Set parameters from a YAML or JSON file.")
@click.option("--json-params", metavar="JSON", help="Set parameters from a JSON object.")
@resource_options
@click.option("--name", help="Name of the run. Default: the notebook's.")
@click.option("--experiment", help="MLflow experiment. Default: the one the notebook sets, else its name.")
@click.option("--include", multiple=True, metavar="GLOB", help="Ship these files too.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Do not ship these files.")
@click.option("--kernel", "kernel_name", metavar="NAME", help="Kernel instead of the notebook's own.")
@click.option("--autolog", is_flag=True, help="Call mlflow.autolog() before the first cell.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of the random generators. Default: 0.")
@click.option("--timeout", "run_timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Stop the run after so long.")  # fmt: skip
@click.option("--cell-timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Stop the run when a cell takes so long.")  # fmt: skip
@click.option("--tag", "tag_items", multiple=True, metavar="NAME=VALUE", help="Add a tag to the MLflow run.")
@click.option("--wait/--detach", default=None, help="Follow the run until it ends, or only start it. "
              "Default: --wait in a terminal; in a notebook the progress is shown beside your work.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Check everything, show what would ship, start nothing.")
@click.option("--as-saved", is_flag=True, help="Run the notebook's file although this cell is not saved in it.")
@click.option("--json", "as_json", is_flag=True, help="Print events (or with --detach the run) as JSON.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    notebook: str | None,
    assignments: tuple[str, ...],
    params_file: str | None,
    json_params: str | None,
    tag_items: tuple[str, ...],
    wait: bool | None,
    dry_run: bool,
    as_saved: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a notebook with parameters, in a process of its own.

    Closing the terminal, the browser or the kernel does not end the run. Ctrl-C leaves the view; `cancel` ends the
    run.
    """
    from ..notebook.parameters import load_parameter_file, parse_assignments
    from ..runs import running_inside

    here = _front(ctx)
    inside = running_inside()
    if inside is not None and notebook is None:
        here.say(f"This notebook is executed as run {inside}: it does not start itself again.")
        return
    path = here.notebook(notebook)
    if notebook is None:
        here.refuse_stale(path, as_saved=as_saved)
    runs = here.runs
    profile = chosen_profile(runs.config, options)
    values = {**(load_parameter_file(Path(params_file)) if params_file else {}), **json_parameters(json_params)}
    prepared = runs.prepare(
        path,
        profile=profile,
        assignments=parse_assignments(assignments),
        parameters=values,
        tags=tags(tag_items),
        **options,
    )
    if not as_json:
        from ..snapshot import describe

        here.say(*describe(prepared.snapshot), *(notice for notice in prepared.notices if notice not in
                 prepared.snapshot.warnings))  # fmt: skip
    if dry_run:
        if as_json:
            here.data({"snapshot": prepared.snapshot.id, "parameters": prepared.spec.parameters,
                       "files": [file.path for file in prepared.snapshot.files]})  # fmt: skip
        return
    record = runs.submit(prepared)
    if as_json and wait is False:
        here.data(record.as_dict())
        return
    if not as_json:
        here.say(f"Run {record.run_id} of {record.name}, experiment {record.experiment}")
    here.follow(record, wait=wait, json_lines=as_json)


@click.command()
@click.argument("script", required=False, metavar="[SCRIPT]")
@resource_options
@click.option("--name", help="Name of the run.")
@click.option("--timeout", "run_timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Stop the run after so long.")  # fmt: skip
@click.option("--wait/--detach", default=True, help="Wait for the results, or only start the run.")
@click.pass_context
def run(ctx: click.Context, /, script: str | None, wait: bool, name: str | None, **options: Any) -> None:
    """Run one cell elsewhere (`%%mlops run`), or a Python file.

    The cell's names go with it; the names that it assigns come back.
    """
    from ..errors import UsageError
    from ..offload import load_results, offload_cell

    here = _front(ctx)
    if here.cell is not None and script is None:
        source = here.cell
    elif script is not None:
        try:
            source = Path(script).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The file {script} cannot be read: {error}.") from None
    else:
        raise UsageError("There is nothing to run.", hint="Write %%mlops run above a cell, or name a Python file.")
    runs = here.runs
    profile = chosen_profile(runs.config, options)
    offload = offload_cell(source, here.namespace())
    stem = Path(script).stem if script else "cell"
    place = (Path(script).absolute().parent if script else Path.cwd()) / f"{stem}.ipynb"
    prepared = runs.prepare(
        place, content=offload.notebook, extra_files=offload.files, profile=profile, name=name or stem, **options
    )
    sent = f"with {', '.join(offload.names_in)}" if offload.names_in else "with no names"
    record = runs.submit(prepared)
    here.say(f"Run {record.run_id} of {record.name}, {sent}")
    if not wait:
        here.say(f"Follow it: attach {record.run_id}")
        return
    here.follow(record, wait=True)
    directory = runs.files(record) / "work" / Path(prepared.spec.notebook).parent
    results = load_results(directory / "results.pkl")
    here.take_results(results)
    if results:
        here.say(f"Back: {', '.join(sorted(results))}")


@click.command()
@click.argument("run_name", metavar="RUN", default="@last")
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON lines.")
@click.option("--wait/--detach", default=None, help="In a notebook: hold the cell until the run has ended.")
@click.pass_context
def attach(ctx: click.Context, run_name: str, wait: bool | None, as_json: bool) -> None:
    """Show the progress of a run again, from wherever you are."""
    here = _front(ctx)
    here.follow(here.runs.get(run_name), wait=True if wait is None and as_json else wait, json_lines=as_json)


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--wait/--detach", default=True, help="Wait until the run has ended.")
@click.pass_context
def cancel(ctx: click.Context, run_name: str, wait: bool) -> None:
    """End a run; its kernel and its Dask workers end with it."""
    here = _front(ctx)
    record = here.runs.cancel(run_name)
    if not wait:
        here.say(f"Run {record.run_id} was told to end.")
        return
    ended = here.runs.wait(record.run_id)
    here.say(f"Run {ended.run_id}: {ended.state.value}. {ended.message}".rstrip())


@click.command()
@click.argument("run_name", metavar="RUN")
@resource_options
@click.option("--wait/--detach", default=None, help="Follow the run until it ends, or only start it.")
@click.option("--json", "as_json", is_flag=True, help="Print events (or with --detach the run) as JSON.")
@click.pass_context
def retry(ctx: click.Context, /, run_name: str, wait: bool | None, as_json: bool, **options: Any) -> None:
    """Run the same snapshot with the same parameters again."""
    here = _front(ctx)
    asked = any(value is not None for value in options.values())
    profile = None
    if asked:
        spec = here.runs.spec(run_name)
        profile = chosen_profile(here.runs.config, {**options, "profile": options["profile"] or spec.profile.name})
    record = here.runs.retry(run_name, profile=profile)
    if as_json and wait is False:
        here.data(record.as_dict())
        return
    if not as_json:
        here.say(f"Run {record.run_id} repeats {record.retry_of}")
    here.follow(record, wait=wait, json_lines=as_json)


COMMANDS = (train, run, attach, cancel, retry)
