"""Runs over REST: each function takes what was asked, calls the core once, and gives what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import NotebookError, NotFoundError, SnapshotError, UsageError
from ..events import RunEvent
from . import models

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from ..profile import Profile
    from ..store.models import RunRecord
    from .context import Context


def list_runs(context: Context, *, query: models.RunsQuery) -> models.RunPage:
    """List runs, newest first, a page at a time."""
    found = context.runs.find(
        states=[query.state] if query.state else [],
        source=str(context.file(query.path)) if query.path else None,
        owner=query.owner,
        name=query.name,
        before=query.before,
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    more = len(found) > query.limit
    return models.RunPage(
        runs=[run_out(context, record) for record in page], next_before=page[-1].create_time if more else None
    )


def start_run(context: Context, *, body: models.NewRun) -> models.Submitted:
    """Check a notebook with its parameters and run it; with `dry_run` only check it."""
    content = None
    if body.content is None:
        file = context.notebook(body.path)
    else:
        file = context.file(body.path)
        content = _notebook(body.content, body.path, context)
    prepared = context.runs.prepare(
        file,
        content=content,
        profile=chosen_profile(context, body.resources),
        assignments=body.assignments,
        parameters=body.parameters,
        name=body.name,
        experiment=body.experiment,
        include=body.include,
        exclude=body.exclude,
        autolog=body.autolog,
        seed=body.seed,
        run_timeout=body.run_timeout,
        cell_timeout=body.cell_timeout,
        tags=body.tags,
        run_key=body.run_key,
    )
    record = None if body.dry_run else context.runs.submit(prepared)
    return models.Submitted(
        run=None if record is None else run_out(context, record),
        files=[entry.path for entry in prepared.snapshot.files],
        size=sum(entry.size for entry in prepared.snapshot.files),
        notices=list(prepared.notices),
    )


def get_run(context: Context, *, run_id: str) -> models.RunDetails:
    """Show a run: how it stands, what shipped, and how long its cells took last time."""
    from ..engine.publish import EXECUTED_NOTEBOOK
    from ..snapshot import SnapshotStore

    record = context.runs.get(run_id)
    try:
        snapshot = SnapshotStore(context.runs.config.data_path).load(record.snapshot_id)
        files = [entry.path for entry in snapshot.files]
    except (SnapshotError, OSError):
        files = []  # the record is worth showing without it
    urls = [event.mlflow_url for event in context.runs.events(record) if isinstance(event, RunEvent)]
    return models.RunDetails(
        run=run_out(context, record),
        files=files,
        expected=context.runs.expected_durations(record),
        mlflow_url=next((url for url in reversed(urls) if url), None),
        has_notebook=(context.runs.files(record) / EXECUTED_NOTEBOOK).exists(),
    )


def cancel_run(context: Context, *, run_id: str) -> models.RunOut:
    """Ask a run to end; it may take a moment."""
    return run_out(context, context.runs.cancel(run_id))


def retry_run(context: Context, *, run_id: str, body: models.RetryRun) -> models.RunOut:
    """Run the same snapshot with the same parameters again."""
    profile = None
    if body.resources is not None:
        spec = context.runs.spec(run_id)
        named = body.resources.profile or spec.profile.name
        profile = chosen_profile(context, body.resources.model_copy(update={"profile": named}))
    return run_out(context, context.runs.retry(run_id, profile=profile))


def list_events(context: Context, *, run_id: str, query: models.EventsQuery) -> models.EventPage:
    """Read what a run has told so far; to hear more of it as it comes, there is the websocket."""
    record = context.runs.get(run_id)
    events = islice(context.runs.events(record), query.after, query.after + query.limit)
    told = [event.model_dump() for event in events]
    return models.EventPage(events=told, after=query.after + len(told))


def executed_notebook(context: Context, *, run_id: str) -> dict[str, Any]:
    """Read the executed notebook, as far as it got."""
    from ..engine.publish import EXECUTED_NOTEBOOK
    from ..notebook.document import read_notebook

    record = context.runs.get(run_id)
    file = context.runs.files(record) / EXECUTED_NOTEBOOK
    if not file.exists():
        raise NotFoundError(f"The run {record.run_id} has no executed notebook (it is {record.state.value}).")
    return dict(read_notebook(file))


def compare_runs(context: Context, *, query: models.CompareQuery) -> list[models.ComparedOut]:
    """Set runs side by side: parameters, metrics, and the curves of the metrics."""
    names = [name.strip() for name in query.runs.split(",") if name.strip()]
    if not 2 <= len(names) <= 10:
        raise UsageError("A comparison takes two to ten runs.", hint="Select some in the list.")
    return [
        models.ComparedOut(
            run_id=each.run_id,
            name=each.name,
            state=each.state,
            params=dict(each.params),
            metrics=_spelt(each.metrics),
            history={key: [(step, _spelt_value(value)) for step, value in points] for key, points in
                     each.history.items()},
            duration=each.duration,
        )
        for each in context.runs.compared(names)
    ]  # fmt: skip


def run_out(context: Context, record: RunRecord) -> models.RunOut:
    """A run as it goes over the wire."""
    fields = {name: getattr(record, name) for name in models.RunOut.model_fields if name != "path"}
    return models.RunOut(path=context.path(record.source), **fields)


def chosen_profile(context: Context, resources: models.Resources) -> Profile:
    """The profile with what is changed of it.

    Raises:
        ProfileError: no such profile, or a change does not fit.
    """
    changes = resources.model_dump(exclude={"profile"})
    return context.runs.config.profile(resources.profile, **changes)


def _notebook(content: Mapping[str, Any], path: str, context: Context) -> NotebookNode:
    from ..notebook.document import check_notebook

    if not path.endswith(".ipynb"):
        raise NotebookError(f"{path} is no notebook: its name does not end with .ipynb.")
    return check_notebook(dict(content), context.file(path))


def _spelt(metrics: Mapping[str, float]) -> dict[str, float | str]:
    return {key: _spelt_value(value) for key, value in metrics.items()}


def _spelt_value(value: float) -> float | str:
    from .wire import plain

    spelt: float | str = plain(float(value))
    return spelt
