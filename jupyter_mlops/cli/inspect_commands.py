"""Commands that look at notebooks and runs and change nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..states import RunState
from .options import moment


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


@click.command()
@click.argument("notebook", required=False, metavar="[NOTEBOOK]")
@click.option("--tag", is_flag=True, help="Tag the cell that holds the parameters, if none is tagged.")
@click.option("--cell", "cell_number", type=click.IntRange(1), metavar="N",
              help="With --tag: the N-th cell of the notebook, text cells counted.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def params(ctx: click.Context, notebook: str | None, tag: bool, cell_number: int | None, as_json: bool) -> None:
    """Show the parameters of a notebook: name, type, default, help."""
    from ..notebook.document import read_notebook
    from ..notebook.parameters import read_parameters
    from ..notebook.tagging import tag_parameters

    here = _front(ctx)
    path = here.notebook(notebook)
    if tag:
        index = tag_parameters(path, cell_index=cell_number - 1 if cell_number else None)
        here.say(f"Cell {index + 1} of {path.name} is tagged `parameters` now. Reload the notebook in JupyterLab.")
    found = read_parameters(read_notebook(path))
    if as_json:
        here.data([parameter.model_dump(mode="python") for parameter in found])
        return
    if not found:
        here.say(f"{path.name} has no parameters.", "Tag the cell that sets them: jupyter mlops params NOTEBOOK --tag")
        return
    from .tables import parameters_table

    here.show(parameters_table(found))


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice([state.value for state in RunState]),
              help="Only runs in this state.")  # fmt: skip
@click.option("--notebook", metavar="PATH", help="Only runs of this notebook.")
@click.option("--name", help="Only runs of this name.")
@click.option("--owner", help="Only this person's.")
@click.option("--since", metavar="WHEN", help="Only runs since then: 2h, 3d, or a date.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, help="At most so many. Default: 20.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def runs(
    ctx: click.Context,
    states: tuple[str, ...],
    notebook: str | None,
    name: str | None,
    owner: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    here = _front(ctx)
    found = here.runs.find(
        states=[RunState(state) for state in states],
        source=_as_recorded(notebook),
        name=name,
        owner=owner,
        since=moment(since),
        limit=limit,
    )
    if as_json:
        here.data([record.as_dict() for record in found])
        return
    if not found:
        here.say("There is no such run." if any((states, notebook, name, owner, since)) else "There is no run yet.",
                 "Start one: jupyter mlops train NOTEBOOK")  # fmt: skip
        return
    from .tables import runs_table

    here.show(runs_table(found))


def _as_recorded(notebook: str | None) -> str | None:
    """A notebook that is there by its whole path, as runs have it; another one by what was written."""
    if notebook is None:
        return None
    path = Path(notebook).expanduser()
    return path.absolute().as_posix() if path.exists() else path.as_posix()


@click.command()
@click.argument("run_name", metavar="RUN", default="@last")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show(ctx: click.Context, run_name: str, as_json: bool) -> None:
    """Show a run: how it stands, its parameters, what shipped, where its files are."""
    from ..snapshot import SnapshotStore

    here = _front(ctx)
    record = here.runs.get(run_name)
    files = here.runs.files(record)
    try:
        snapshot = SnapshotStore(here.runs.config.data_path).load(record.snapshot_id)
    except Exception:  # noqa: BLE001 - the record is worth showing without it
        snapshot = None
    if as_json:
        here.data({**record.as_dict(), "files": str(files),
                   "snapshot": snapshot.model_dump(mode="json") if snapshot else None})  # fmt: skip
        return
    from .tables import run_table

    here.show(run_table(record, files, snapshot))


@click.command()
@click.argument("run_name", metavar="RUN", default="@last")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--worker", is_flag=True, help="The log of the worker process instead of the cells' output.")
@click.pass_context
def logs(ctx: click.Context, run_name: str, follow: bool, worker: bool) -> None:
    """Print what the cells of a run printed."""
    from ..events import LogEvent, NoticeEvent, RunEvent
    from ..progress.state import printable

    here = _front(ctx)
    record = here.runs.get(run_name)
    if worker:
        path = here.runs.files(record) / "worker.log"
        here.say(*(path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []))
        return
    for event in here.runs.events(record, follow=follow):
        if isinstance(event, LogEvent):
            click.echo(printable(event.text, keep_lines=True), nl=False, err=event.stream == "stderr")
        elif isinstance(event, NoticeEvent) or (
            isinstance(event, RunEvent) and event.state.is_terminal and event.message
        ):
            click.echo(printable(event.message), err=True)


@click.command()
@click.argument("names", metavar="RUN RUN…", nargs=-1, required=True)
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE", help="Write the plot (PNG, SVG or PDF).")
@click.option("--all", "everything", is_flag=True, help="Also what is the same in all runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def compare(ctx: click.Context, names: tuple[str, ...], plot: str | None, everything: bool, as_json: bool) -> None:
    """Compare parameters and metrics of runs, as a table and a plot."""
    from ..compare import compare_runs, to_dict, to_html, to_table
    from ..compare import plot as plot_comparison
    from ..errors import UsageError

    here = _front(ctx)
    if len(names) < 2:
        raise UsageError("A comparison takes two runs or more.", hint="jupyter mlops runs lists them.")
    comparison = compare_runs(here.runs.compared(names))
    if as_json:
        here.data(to_dict(comparison))
    else:
        different = not everything
        here.show(to_table(comparison, only_different=different), html=to_html(comparison, only_different=different))
    if plot is not None:
        plot_comparison(comparison, Path(plot))
        here.say(f"The plot is in {plot}")
    elif comparison.metrics and not as_json:
        here.figure(lambda: plot_comparison(comparison, None))


@click.command()
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="RUN")
@click.option("--no-outputs", is_flag=True, help="Sources only.")
@click.pass_context
def diff(ctx: click.Context, first: str, second: str, no_outputs: bool) -> None:
    """Show how the executed notebooks of two runs differ."""
    from ..engine.publish import EXECUTED_NOTEBOOK
    from ..errors import NotFoundError
    from ..notebook_diff import diff_notebooks

    here = _front(ctx)
    paths = []
    for name in (first, second):
        record = here.runs.get(name)
        path = here.runs.files(record) / EXECUTED_NOTEBOOK
        if not path.exists():
            raise NotFoundError(f"The run {record.run_id} has no executed notebook (it is {record.state.value}).")
        paths.append(path)
    text = diff_notebooks(paths[0], paths[1], outputs=not no_outputs, color=sys.stdout.isatty())
    click.echo(text if text.strip() else "The notebooks are the same.")


@click.command(name="open")
@click.argument("run_name", metavar="RUN", default="@last")
@click.option("--what", type=click.Choice(["notebook", "html", "mlflow", "dir"]), default="html",
              help="The executed notebook, its page, the MLflow run, or the directory. Default: html.")  # fmt: skip
@click.option("--print", "only_print", is_flag=True, help="Print where it is and open nothing.")
@click.pass_context
def open_(ctx: click.Context, run_name: str, what: str, only_print: bool) -> None:
    """Open what a run has made."""
    from ..engine.publish import EXECUTED_HTML, EXECUTED_NOTEBOOK
    from ..errors import NotFoundError
    from ..events import RunEvent

    here = _front(ctx)
    record = here.runs.get(run_name)
    files = here.runs.files(record)
    if what == "mlflow":
        urls = [event.mlflow_url for event in here.runs.events(record) if isinstance(event, RunEvent)]
        target = next((url for url in reversed(urls) if url), None)
        if target is None:
            raise NotFoundError(
                f"MLflow at {record.tracking_uri} is no server with pages.",
                hint=f"Start one on it: jupyter mlops ui (the run there is {record.mlflow_run_id or 'not made yet'})",
            )
    else:
        path = {"notebook": files / EXECUTED_NOTEBOOK, "html": files / EXECUTED_HTML, "dir": files}[what]
        if not path.exists():
            raise NotFoundError(f"The run {record.run_id} has no {what} (it is {record.state.value}).")
        target = str(path)
    if only_print:
        here.say(target)
    else:
        here.open(target)


COMMANDS = (params, runs, show, logs, compare, diff, open_)
