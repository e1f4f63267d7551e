"""Events for the tests of this room: one plausible history, and Hypothesis' idea of any history."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import strategies as st

from jupyter_mlops.events import (
    CellEvent,
    DaskUse,
    Event,
    GPUUse,
    LogEvent,
    MetricEvent,
    NoticeEvent,
    ResourceEvent,
    RunEvent,
)
from jupyter_mlops.spec import FailureCode, RunState

START = datetime(2025, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
GIB = 2**30

HOSTILE = (
    "<script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=2>",
    "javascript:window.__pwned=3",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07",
    "\u202egnp.exe\u2066",
    "[red]markup[/red] [link=http://evil]",
    "\" onmouseover='window.__pwned=4' '",
    "</style></div></details>]]>-->",
    "a\rb\x00c\x9b31m\ud800",
    "$\\href{javascript:alert(1)}{x}$",
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def cell(number: int, state: str, seconds: float, duration: float | None = None, title: str = "") -> CellEvent:
    return CellEvent(
        time=at(seconds),
        index=number,
        number=number,
        state=state,
        title=title or f"step {number}",
        digest=f"digest{number}",
        duration=duration,
    )


def half_a_run() -> list[Event]:
    """Three cells of which one is done and the second has run for six seconds at second 10."""
    return [
        RunEvent(time=at(0), state=RunState.PENDING, phase="starting the kernel"),
        RunEvent(time=at(2), state=RunState.RUNNING, phase="", total_cells=3),
        cell(1, "running", 2, title="load the data"),
        cell(1, "succeeded", 4, 2.0, title="load the data"),
        cell(2, "running", 4, title="train the model"),
        LogEvent(time=at(5), text="epoch 1\n"),
        MetricEvent(time=at(5), key="loss", value=0.5, step=1),
        MetricEvent(time=at(6), key="loss", value=0.25, step=2),
        ResourceEvent(
            time=at(7),
            cpu_percent=180.0,
            memory=GIB,
            memory_limit=8 * GIB,
            gpus=(GPUUse(index=0, name="A", utilization=87.0, memory_used=GIB, memory_total=80 * GIB),),
            dask=DaskUse(workers=4, threads=8, tasks=100, processing=7, in_memory=3, erred=1, memory=GIB),
        ),
    ]


def failed_run() -> list[Event]:
    return [
        *half_a_run(),
        cell(2, "failed", 9, 5.0, title="train the model"),
        RunEvent(
            time=at(10),
            state=RunState.FAILED,
            code=FailureCode.CELL_FAILED,
            message="ValueError: the loss is nan",
            hint="Lower the learning rate.",
            cell_index=2,
            line="model.fit(data)",
        ),
    ]


def succeeded_run() -> list[Event]:
    return [
        *half_a_run(),
        cell(2, "succeeded", 9, 5.0, title="train the model"),
        cell(3, "running", 9),
        cell(3, "succeeded", 10, 1.0),
        RunEvent(time=at(10), state=RunState.SUCCEEDED, mlflow_run_id="1", mlflow_url="https://mlflow/#/runs/1"),
    ]


texts = st.one_of(st.sampled_from(HOSTILE), st.text(), st.text(st.characters(max_codepoint=0x9F)))
_times = st.datetimes(timezones=st.sampled_from([None, timezone.utc, timezone(timedelta(hours=-11))]))
_integers = st.one_of(st.integers(-3, 12), st.integers())
_floats = st.floats()
_gpus = st.builds(
    GPUUse, index=_integers, name=texts, utilization=_floats, memory_used=_integers, memory_total=_integers
)
_dasks = st.builds(
    DaskUse,
    workers=_integers,
    threads=_integers,
    tasks=_integers,
    processing=_integers,
    in_memory=_integers,
    erred=_integers,
    memory=_integers,
    dashboard=st.none() | texts,
)
any_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        RunEvent,
        time=_times,
        state=st.sampled_from(RunState),
        phase=texts,
        code=st.none() | st.sampled_from(FailureCode),
        message=texts,
        hint=texts,
        cell_index=st.none() | _integers,
        line=st.none() | texts,
        mlflow_run_id=st.none() | texts,
        mlflow_url=st.none() | texts,
        total_cells=st.none() | _integers,
    ),
    st.builds(
        CellEvent,
        time=_times,
        index=_integers,
        number=_integers,
        state=st.sampled_from(["running", "succeeded", "failed"]),
        title=texts,
        digest=st.sampled_from(["", "a", "b", "c"]),
        duration=st.none() | _floats,
    ),
    st.builds(MetricEvent, time=_times, key=texts, value=_floats, step=_integers),
    st.builds(LogEvent, time=_times, stream=st.sampled_from(["stdout", "stderr", "worker"]), text=texts),
    st.builds(
        ResourceEvent,
        time=_times,
        cpu_percent=_floats,
        memory=_integers,
        memory_limit=st.none() | _integers,
        gpus=st.lists(_gpus, max_size=3).map(tuple),
        dask=st.none() | _dasks,
    ),
    st.builds(NoticeEvent, time=_times, level=st.sampled_from(["info", "warning"]), message=texts),
)
histories = st.lists(any_event, max_size=30)
expectations = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), _floats, max_size=4)
