"""Commands that start, follow and stop runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import chosen_profile, json_parameters, notebook_options, parameter_options, resource_options, tags

if TYPE_CHECKING:
    from ..config import MLOps
    from ..profile import Profile


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


@click.command()
@click.argument("notebook", required=False, metavar="[NOTEBOOK]")
@parameter_options
@resource_options
@click.option("--cluster", metavar="NAME", help="Run on this warm cluster (see `cluster`), with its resources.")
@click.option("--name", help="Name of the run. Default: the notebook's.")
@notebook_options
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
    from ..runs import is_own_notebook, running_inside

    here = _front(ctx)
    inside = running_inside()
    if inside is not None and (notebook is None or is_own_notebook(Path(notebook))):
        here.say(f"This notebook is executed as run {inside}: it does not start itself again.")
        return
    path = here.notebook(notebook)
    if notebook is None:
        here.refuse_stale(path, as_saved=as_saved)
    runs = here.runs
    profile = _profile(runs.config, options)
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


def _profile(config: MLOps, options: dict[str, Any]) -> Profile:
    """That of the options, or of the cluster that they name.

    Raises:
        UsageError: they name a cluster and other resources.
    """
    from ..clusters import Clusters
    from ..errors import UsageError

    cluster = options["cluster"]
    if cluster is None:
        return chosen_profile(config, options)
    for name in ("profile", "gpus", "cpus", "memory", "workers"):
        if options.pop(name) is not None:
            raise UsageError(
                f"A run on a cluster has the cluster's resources, so that --{name} says nothing.",
                hint=f"Leave it out, or start another cluster: jupyter mlops cluster start --{name} ...",
            )
    return Clusters(config).profile_of(cluster)


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

    The values that the cell reads go with it; what it assigns, makes or changes comes back.
    """
    from ..errors import UsageError
    from ..offload import CELL_TAG, offload_cell, offload_script

    here = _front(ctx)
    runs = here.runs
    profile = chosen_profile(runs.config, options)
    if (here.cell is None) == (script is None):
        problem = "There is nothing to run." if script is None else f"Run either the cell or {script}, not both."
        raise UsageError(problem, hint="Write %%mlops run above a cell, or name a Python file.")
    if script is not None:
        offload = offload_script(Path(script))
        place, sent = Path(f"{Path(script).absolute()}.ipynb"), ""
        tag = {}
    else:
        offload = offload_cell(here.cell, here.namespace(), config=runs.config)
        place = Path.cwd() / f"{_notebook_stem(here)}cell.ipynb"
        sent = f", with {', '.join(offload.names_in)}" if offload.names_in else ", with no values of the session"
        tag = {CELL_TAG: "true"}
    prepared = runs.prepare(
        place,
        content=offload.notebook,
        extra_files=offload.files,
        profile=profile,
        name=name or (Path(script).stem if script else place.stem),
        tags=tag,
        **options,
    )
    here.say(*offload.notices, *prepared.notices)
    record = runs.submit(prepared, within=wait)
    here.say(f"Run {record.run_id} of {record.name}{sent}")
    if wait:
        _come_back(here, record)
    elif script is not None:
        here.say(f"Follow it: attach {record.run_id}")
    else:
        here.say(f"Its results: %mlops attach {record.run_id} --wait")


def _notebook_stem(here: Any) -> str:
    """What an offloaded cell is called after: its notebook, when that is known."""
    from ..errors import NotebookError

    try:
        return f"{here.notebook(None).stem}-"
    except NotebookError:
        return ""


def _come_back(here: Any, record: Any) -> None:
    """Follow a run of one cell to its end; show what the cell displayed and take what it left."""
    from ..engine.publish import EXECUTED_NOTEBOOK
    from ..errors import RunFailedError
    from ..offload import cell_outputs

    files = here.runs.files(record)
    try:
        here.follow(record, wait=True)
    except RunFailedError:
        here.outputs(cell_outputs(files / EXECUTED_NOTEBOOK))
        raise
    if not here.runs.get(record.run_id).state.is_terminal:  # the view was closed before the end
        here.say(f"The run goes on. Its results: %mlops attach {record.run_id} --wait")
        return
    here.outputs(cell_outputs(files / EXECUTED_NOTEBOOK))
    if here.namespace():
        _take_results(here, files)


def _take_results(here: Any, files: Path) -> None:
    from ..offload import load_results

    results = load_results(files, here.namespace())
    here.take_results(results.values)
    new = sorted(set(results.values) - set(results.changed))
    if new:
        here.say(f"Back: {', '.join(new)}")
    if results.changed:
        here.say(f"Changed by the cell: {', '.join(results.changed)}")
    for name, problem in results.problems.items():
        here.say(f"'{name}' stayed behind: {problem}.")


@click.command()
@click.argument("run_name", metavar="RUN", default="@last")
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON lines.")
@click.option("--wait/--detach", default=None, help="In a notebook: hold the cell until the run has ended.")
@click.pass_context
def attach(ctx: click.Context, run_name: str, wait: bool | None, as_json: bool) -> None:
    """Show the progress of a run again, from wherever you are.

    With --wait in a notebook, the results of a cell that was run elsewhere come back as well.
    """
    from ..offload import CELL_TAG

    here = _front(ctx)
    record = here.runs.get(run_name)
    if wait and not as_json and here.namespace() and CELL_TAG in here.runs.spec(record.run_id).tags:
        _come_back(here, record)
        return
    here.follow(record, wait=True if wait is None and as_json else wait, json_lines=as_json)


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
