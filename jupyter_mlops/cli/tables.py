"""Tables for the person. Everything in them is text: markup, control and escape characters are shown, not obeyed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ..progress.state import format_bytes, format_duration, printable
from ..spec import RunState

if TYPE_CHECKING:
    from ..clusters import ClusterRecord
    from ..doctor.check import Check
    from ..jobs.slot import Slot
    from ..kernels.running import RunningKernel
    from ..kernels.specs import InstalledSpec
    from ..kubernetes.capacity import Capacity
    from ..notebook.parameters import Parameter
    from ..profile import Profile
    from ..snapshot import Snapshot
    from ..store.audit import LoggedEntry
    from ..store.leases import SchedulerProcess
    from ..store.models import RunRecord

_COLORS = {
    RunState.PENDING: "yellow", RunState.RUNNING: "blue", RunState.SUCCEEDED: "green", RunState.FAILED: "red",
    RunState.CANCELLED: "magenta",
}  # fmt: skip
_LONGEST_PARAMETERS = 60


def runs_table(records: Sequence[RunRecord]) -> Table:
    """A line a run."""
    table = new_table(
        "run", "name", "state", "started", "took", "parameters", "owner",
        whole=("run", "state", "started", "took"), cut=("name", "parameters", "owner"),
    )  # fmt: skip
    for record in records:
        given = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in record.parameters.items())
        if len(given) > _LONGEST_PARAMETERS:
            given = given[: _LONGEST_PARAMETERS - 1] + "…"
        table.add_row(
            record.run_id,
            plain(record.name),
            Text(record.state.value, style=_COLORS[record.state]),
            f"{(record.start_time or record.create_time).astimezone():%Y-%m-%d %H:%M:%S}",
            "" if record.duration is None else format_duration(record.duration),
            plain(given),
            plain(record.owner),
        )
    return table


def run_table(record: RunRecord, files: Path, snapshot: Snapshot | None) -> Table:
    """Everything about one run."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")

    def row(label: str, value: object) -> None:
        if value not in (None, ""):
            table.add_row(label, value if isinstance(value, Text) else plain(str(value)))

    row("run", record.run_id)
    row("name", record.name)
    row("state", Text(record.state.value, style=_COLORS[record.state]))
    row("why", record.message)
    row("notebook", record.source)
    row("created", f"{record.create_time.astimezone():%Y-%m-%d %H:%M:%S %Z} by {record.owner}")
    row("took", None if record.duration is None else format_duration(record.duration))
    row("profile", f"{record.profile} ({record.runner})")
    row("repeats", record.retry_of)
    for key, value in record.parameters.items():
        row(f"  {key}", json.dumps(value, ensure_ascii=False))
    row("MLflow", f"{record.tracking_uri}, experiment {record.experiment}, run {record.mlflow_run_id or '-'}")
    if snapshot is not None:
        total = sum(file.size for file in snapshot.files)
        row("snapshot", f"{snapshot.id[:12]}: {len(snapshot.files)} files, {format_bytes(total)}")
        for file in snapshot.files:
            row("", f"{file.path} ({file.reason}, {format_bytes(file.size)})")
    row("files", files)
    return table


def parameters_table(parameters: Sequence[Parameter]) -> Table:
    """A line a parameter."""
    table = new_table("parameter", "type", "default", "help")
    for parameter in parameters:
        if parameter.required:
            default = Text("required", style="yellow")
        else:
            default = plain(parameter.default_source or json.dumps(parameter.default, ensure_ascii=False))
        table.add_row(plain(parameter.name), plain(parameter.type_name), default, plain(parameter.help))
    return table


def profiles_table(profiles: Sequence[Profile], *, default: str) -> Table:
    """A line a profile."""
    table = new_table("profile", "runner", "cpus", "memory", "gpus", "workers", "about")
    for profile in profiles:
        table.add_row(
            plain(profile.name + (" (default)" if profile.name == default else "")),
            plain(profile.runner),
            "all" if profile.cpus is None else f"{profile.cpus:g}",
            "no limit" if profile.memory is None else format_bytes(profile.memory),
            "all" if profile.gpus is None else str(profile.gpus),
            str(profile.worker_count()) if profile.workers else "auto",
            plain(profile.description),
        )
    return table


def settings_table(values: Mapping[str, Any], helps: Mapping[str, str]) -> Table:
    """A line a setting."""
    table = new_table("setting", "value", "what it is for")
    for name, value in values.items():
        table.add_row(name, plain(json.dumps(value, ensure_ascii=False, default=str)), plain(helps[name]))
    return table


def clusters_table(records: Sequence[ClusterRecord]) -> Table:
    """A line a cluster; what is not known is empty."""
    table = new_table(
        "cluster", "state", "profile", "where", "workers", "GPUs", "idle left", "lifetime left", "runs",
        whole=("cluster", "state"),
    )  # fmt: skip

    def known(value: object) -> str:
        return "" if value is None else str(value)

    def left(seconds: float | None) -> str:
        return "" if seconds is None else format_duration(seconds)

    for record in records:
        where = record.where if record.here else f"{record.where} (started elsewhere)"
        table.add_row(
            plain(record.name), record.state, plain(record.profile), plain(where), known(record.workers),
            known(record.gpus), left(record.idle_left), left(record.lifetime_left), plain(", ".join(record.runs)),
        )  # fmt: skip
    return table


def capacity_table(capacity: Capacity) -> Table:
    """A line a kind of GPU; what is not known is a question mark."""
    table = new_table("GPU", "free", "of", "most that fits now", "waiting", "quota left", "used by")

    def known(count: int | None) -> str:
        return "?" if count is None else str(count)

    for kind in capacity.kinds:
        quota = "no quota" if "quotas" not in capacity.missing else "?"
        if kind.quota is not None:
            quota = f"{kind.quota_left} of {kind.quota}"
        called = f"{kind.product} ({kind.resource})" if kind.product else kind.resource
        table.add_row(
            plain(called), known(kind.free), known(kind.total), known(kind.largest), known(kind.queued), quota,
            plain(", ".join(f"{use.holder}: {use.count}" for use in kind.uses)),
        )  # fmt: skip
    return table


def kernelspecs_table(specs: Sequence[InstalledSpec]) -> Table:
    """A line a kernelspec."""
    table = new_table("kernelspec", "in the launcher", "profile", "directory", whole=("kernelspec",))
    for spec in specs:
        table.add_row(plain(spec.name), plain(spec.display_name), plain(spec.profile), plain(str(spec.directory)))
    return table


def kernels_table(kernels: Sequence[RunningKernel]) -> Table:
    """A line a kernel in a pod."""
    table = new_table("kernel", "profile", "job", "state", "why", whole=("state",))
    for kernel in kernels:
        table.add_row(
            plain(kernel.kernel_id[:8]), plain(kernel.profile), plain(kernel.job), kernel.state, plain(kernel.reason)
        )
    return table


def checks_table(checks: Sequence[Check]) -> Table:
    """A line a check, with the remedy below it."""
    colors = {"ok": "green", "problem": "red", "not known": "yellow"}
    table = new_table("check", "state", "what", whole=("check", "state"))
    for check in checks:
        what = plain(check.message)
        if check.remedy:
            what.append(Text(f"\n-> {printable(check.remedy, keep_lines=True)}", style="dim"))
        table.add_row(check.name, Text(check.state.value, style=colors[check.state.value]), what)
    return table


def scheduler_table(processes: Sequence[SchedulerProcess], alive: Sequence[SchedulerProcess]) -> Table:
    """A line a process of the job scheduler."""
    table = new_table("process", "host", "pid", "state", "started", "last heard of", whole=("process", "state"))
    for process in processes:
        state = "running" if process in alive else "ended" if process.end_time else "silent"
        table.add_row(
            process.process_id, plain(process.host), str(process.pid),
            Text(state, style={"running": "green", "silent": "red"}.get(state, "")),
            f"{process.start_time.astimezone():%Y-%m-%d %H:%M:%S}",
            f"{process.beat_time.astimezone():%Y-%m-%d %H:%M:%S}",
        )  # fmt: skip
    return table


def slots_table(slots: Sequence[Slot]) -> Table:
    """A line a slot."""
    table = new_table(
        "slot", "job", "version", "moment", "by", "state", "tries", "run", "why", whole=("slot", "moment", "state")
    )
    for slot in slots:
        table.add_row(
            slot.slot_id, plain(slot.job), f"v{slot.version}", f"{slot.slot_time.astimezone():%Y-%m-%d %H:%M:%S}",
            slot.kind.value, slot.state.value, str(slot.attempt), slot.run_id or "", plain(slot.message),
        )  # fmt: skip
    return table


def audit_table(entries: Sequence[LoggedEntry]) -> Table:
    """A line an entry of the audit log."""
    table = new_table("#", "when", "who", "where", "action", "object", "details", whole=("#", "when", "action"))
    for logged in entries:
        entry = logged.entry
        details = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in entry.details.items())
        table.add_row(
            str(logged.seq), f"{logged.time.astimezone():%Y-%m-%d %H:%M:%S}", plain(entry.who),
            plain(f"{entry.host} ({entry.front})"), entry.action, plain(entry.object), plain(details),
        )  # fmt: skip
    return table


def new_table(*headers: str, whole: Sequence[str] = (), cut: Sequence[str] = ()) -> Table:
    """An empty table.

    Args:
        *headers: Of the columns.
        whole: Columns that stay readable in a narrow terminal.
        cut: Columns that are cut there; the others fold.
    """
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        # In a narrow terminal the long columns fold, or are cut; those that are `whole` stay readable.
        table.add_column(
            header,
            overflow="ellipsis" if header in cut else "fold",
            no_wrap=header in whole or header in cut,
            min_width=len(header) if header in whole else None,
        )
    return table


def plain(value: str) -> Text:
    """Text of anyone, to show and not to obey."""
    return Text(printable(value))
