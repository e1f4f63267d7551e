"""Tables of jobs, versions and gates. Like `tables`: everything in them is text, shown and never obeyed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from .tables import new_table, plain

if TYPE_CHECKING:
    from datetime import datetime

    from ..jobs.core import JobLine, JobView
    from ..jobs.differences import Change
    from ..jobs.model import Approval
    from ..jobs.promotion import Verdict

_STYLES = {"active": "green", "paused": "yellow", "deleted": "dim", "live": "green", "proposed": "yellow",
           "refused": "red", "retired": "dim"}  # fmt: skip


def gates_table(verdict: Verdict) -> Table:
    """A line a gate: passed or not, what was seen, what would pass."""
    from ..jobs.judge import wanted

    table = new_table("", "gate", "judged", "seen", "wanted", whole=("", "gate", "judged"))
    for result in verdict.results:
        mark, word, style = (
            ("✓", "passed", "green") if result.passed else ("!", "forced", "yellow") if result.forced
            else ("✗", "refused", "red")
        )  # fmt: skip
        table.add_row(
            Text(mark, style=style), result.gate.kind, Text(word, style=style), plain(result.seen), plain(result.wanted)
        )
    judged = {result.gate for result in verdict.results}
    for one in verdict.waiting:
        if one.gate not in judged:
            table.add_row(
                Text("…", style="yellow"), one.gate.kind, Text("waits", style="yellow"), plain(one.missing),
                plain(wanted(one.gate)),
            )  # fmt: skip
    return table


def jobs_table(lines: Sequence[JobLine]) -> Table:
    """A line a job."""
    from ..schedule import describe_schedule

    table = new_table(
        "job", "state", "live", "proposed", "runs", "next", "last", "owner", whole=("job", "state", "live", "next")
    )
    for line in lines:
        job, live, last = line.job, line.live, line.last
        table.add_row(
            plain(job.name), _state(job.state.value), f"v{job.live_version}" if job.live_version else "",
            ", ".join(f"v{number}" for number in line.proposed),
            plain(describe_schedule(live.schedule)) if live is not None else "", _time(job.next_time),
            f"{last.state.value} {_time(last.slot_time)}" if last is not None else "", plain(job.owner),
        )  # fmt: skip
    return table


def job_table(view: JobView) -> Table:
    """Everything about a version, apart from its gates and slots."""
    from ..schedule import describe_schedule

    job, record = view.verdict.job, view.verdict.record
    version = record.version
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")

    def row(label: str, value: object) -> None:
        if value not in (None, ""):
            table.add_row(label, value if isinstance(value, Text) else plain(str(value)))

    row("job", job.name)
    row("state", _state(job.state.value))
    row("owner", job.owner)
    row("live version", f"v{job.live_version}" if job.live_version else "none")
    row("proposed", ", ".join(f"v{number}" for number in view.proposed))
    row("version", f"v{version.number}" + (f", a copy of v{version.copy_of}" if version.copy_of else ""))
    row("  state", _state(record.state.value))
    row("  live since", _time(record.live_time))
    row("  made", f"{_time(version.create_time)} by {version.author}")
    row("  why", version.reason)
    for said in view.approvals:
        row("  approved by" if said.approved else "  rejected by", _said(said))
    row("runs", describe_schedule(version.schedule))
    row("next", ", ".join(_time(moment) for moment in view.moments))
    defaults = type(version.policies)()
    policies = {
        name: value for name, value in version.policies.model_dump(mode="json").items()
        if value != defaults.model_dump(mode="json")[name]
    }  # fmt: skip
    row("policies", ", ".join(f"{name}={value}" for name, value in policies.items()) or "as by default")
    if version.model is not None:
        logged = f", logged as {version.model.logged_as}" if version.model.logged_as else ""
        row("registers", f"{version.model.name}{logged}")
    for step in version.steps:
        row("step" if len(version.steps) > 1 else "notebook", step.source)
        row("  snapshot", step.snapshot_id[:12])
        row("  profile", f"{step.profile.name} ({step.profile.runner})")
        row("  experiment", step.experiment)
        for name, value in step.parameters.items():
            row(f"  {name}", json.dumps(value, ensure_ascii=False))
    return table


def history_table(versions: Sequence[tuple[Verdict, tuple[Approval, ...]]]) -> Table:
    """A line a version: who, why, when, what its gates said."""
    table = new_table(
        "version", "state", "made", "by", "live since", "gates", "approved by", "why", whole=("version", "state")
    )
    for verdict, approvals in versions:
        record = verdict.record
        version = record.version
        why = version.reason if version.copy_of is None else f"back to v{version.copy_of}. {version.reason}".strip()
        table.add_row(
            f"v{version.number}", _state(record.state.value), _time(version.create_time), plain(version.author),
            _time(record.live_time), plain(_summary(verdict)),
            plain(", ".join(said.who for said in approvals if said.approved)), plain(why),
        )  # fmt: skip
    return table


def changes_table(changes: Sequence[Change], *, first: int, second: int) -> Table:
    """A line a thing that differs."""
    table = new_table("what", f"v{first}", f"v{second}", whole=())
    for change in changes:
        table.add_row(plain(change.what), plain(change.before or "-"), plain(change.after or "-"))
    return table


def _summary(verdict: Verdict) -> str:
    passed = sum(result.passed for result in verdict.results)
    parts = [f"✓ {passed} passed"] if passed else []
    parts += [f"! {sum(result.forced for result in verdict.results)} forced"] if any(
        result.forced for result in verdict.results
    ) else []  # fmt: skip
    parts += [f"✗ {result.seen}" for result in verdict.failed]
    parts += [f"… {one.missing}" for one in verdict.waiting]
    return ", ".join(parts)


def _said(said: Approval) -> str:
    return f"{said.who}, {_time(said.create_time)}" + (f": {said.comment}" if said.comment else "")


def _state(word: str) -> Text:
    return Text(word, style=_STYLES.get(word, ""))


def _time(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment is not None else ""
