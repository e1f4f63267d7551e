"""The metrics of a run, read back from MLflow: what is new since the last look, and the whole history."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..errors import MLOpsError
from ..events import MetricEvent
from .connection import Connection, connect
from .patience import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM = "system/"
"""MLflow's own measurements of the machine; resource events tell the same, and sooner."""

_POLL_WAIT = 5.0
_EVENTS_PER_KEY = 200
_SEEN_PER_KEY = 5000
_KEYS = 200


@dataclass(frozen=True)
class Point:
    """One value of a metric; `timestamp_ms` counts from 1970."""

    step: int
    timestamp_ms: int
    value: float


@dataclass(frozen=True)
class RunData:
    """What MLflow knows of a run, for comparing it with others.

    Attributes:
        params: As text, as MLflow stores them.
        tags: All of them.
        metrics: The latest value of each, without the measurements of the machine.
        history: Each metric's points by step, thinned evenly where there are many.
    """

    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    history: dict[str, list[Point]] = field(default_factory=dict)


def run_data(uri: str, mlflow_run_id: str, *, wait: float = 20.0, points: int = 1000) -> RunData:
    """Everything that MLflow knows of a run.

    Args:
        uri: MLflow's address, with credentials if it has them.
        mlflow_run_id: MLflow's id of the run.
        wait: Seconds to wait for MLflow to answer a call.
        points: At most so many of each metric's history; at least 2.

    Raises:
        TrackingError: MLflow is away, or has no such run.
    """
    connection = connect(uri, wait)
    run = connection.do(lambda: connection.client.get_run(mlflow_run_id))
    latest = {key: _value(value) for key, value in run.data.metrics.items() if not key.startswith(SYSTEM)}
    history = {key: thinned(_history(connection, mlflow_run_id, key), points) for key in list(latest)[:_KEYS]}
    return RunData(dict(run.data.params), dict(run.data.tags), latest, history)


def latest_metrics(uri: str, mlflow_run_id: str, *, wait: float = 20.0) -> dict[str, float]:
    """The latest value of each metric of a run, without the measurements of the machine.

    Args:
        uri: MLflow's address, with credentials if it has them.
        mlflow_run_id: MLflow's id of the run.
        wait: Seconds to wait for MLflow to answer a call.

    Raises:
        TrackingError: MLflow is away, or has no such run.
    """
    connection = connect(uri, wait)
    run = connection.do(lambda: connection.client.get_run(mlflow_run_id))
    return {key: _value(value) for key, value in run.data.metrics.items() if not key.startswith(SYSTEM)}


def thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """At most so many of the points, evenly, the first and the last among them."""
    if len(points) <= limit:
        return list(points)
    return [points[round(index * (len(points) - 1) / (limit - 1))] for index in range(limit)]


class MetricPoller:
    """Finds what user code has logged since the last look.

    Args:
        uri: MLflow's address, with credentials if it has them.
        mlflow_run_id: MLflow's id of the run.

    Attributes:
        problem: One sentence about the last look if it failed, else empty.
    """

    def __init__(self, uri: str, mlflow_run_id: str) -> None:
        self._uri = uri
        self._mlflow_run_id = mlflow_run_id
        self._connection: Connection | None = None
        self._latest: dict[str, tuple[str, ...]] = {}
        self._seen: dict[str, set[Point]] = {}
        self._call: Call[list[MetricEvent]] | None = None
        self.problem = ""

    def poll(self) -> list[MetricEvent]:
        """What is new, each metric's points in order; nothing when MLflow does not answer. Never raises."""
        # A look that MLflow keeps waiting is asked for again, not doubled.
        self._call = self._call or Call(self._look, name="mlops-metrics-look")
        try:
            found = self._call.result(_POLL_WAIT)
        except TimeoutError:
            self.problem = "MLflow answers slowly; metrics are shown late."
            return []
        except MLOpsError as error:
            self._call = None
            self.problem = error.message
            return []
        except Exception as error:  # noqa: BLE001 - a view of the metrics must not end the run
            self._call = None
            self.problem = f"The metrics cannot be read from MLflow ({type(error).__name__})."
            return []
        self._call = None
        self.problem = ""
        return found

    def _look(self) -> list[MetricEvent]:
        connection = self._connection = self._connection or Connection(self._uri, _POLL_WAIT)
        run = connection.do(lambda: connection.client.get_run(self._mlflow_run_id))
        events: list[MetricEvent] = []
        for key, latest in _latest_points(run).items():
            if key.startswith(SYSTEM) or self._latest.get(key) == latest:
                continue
            if key not in self._latest and len(self._latest) >= _KEYS:
                continue
            events += self._new_points(connection, key)
            self._latest[key] = latest
        return events

    def _new_points(self, connection: Connection, key: str) -> list[MetricEvent]:
        seen = self._seen.setdefault(key, set())
        points = _history(connection, self._mlflow_run_id, key)
        new = [point for point in points if _identity(point) not in seen]
        if len(seen) < _SEEN_PER_KEY:
            seen.update(_identity(point) for point in new)
        else:  # a metric of very many points is told by its latest only
            new = new[-1:]
        return [
            MetricEvent(
                key=key,
                value=point.value,
                step=point.step,
                time=datetime.fromtimestamp(point.timestamp_ms / 1000, tz=timezone.utc),
            )
            for point in thinned(new, _EVENTS_PER_KEY)
        ]


def _history(connection: Connection, mlflow_run_id: str, key: str) -> list[Point]:
    found = connection.do(lambda: connection.client.get_metric_history(mlflow_run_id, key))
    points = [Point(int(metric.step), int(metric.timestamp), _value(metric.value)) for metric in found]
    return sorted(points, key=lambda point: (point.step, point.timestamp_ms))


def _identity(point: Point) -> Point:
    # nan equals nothing, itself included, unless it is the same object.
    return Point(point.step, point.timestamp_ms, math.nan) if math.isnan(point.value) else point


def _latest_points(run: Any) -> dict[str, tuple[str, ...]]:
    # The public `metrics` has values alone: one that stays the same for many steps would seem to have ended.
    entries = getattr(run.data, "_metric_objs", None)
    if entries is None:
        return {key: (repr(value),) for key, value in run.data.metrics.items()}
    return {entry.key: (repr(entry.value), repr(entry.step), repr(entry.timestamp)) for entry in entries}


def _value(value: float) -> float:
    # MLflow's databases hold no infinity: it stores the largest number instead.
    if abs(value) == sys.float_info.max:
        return math.copysign(math.inf, value)
    return float(value)
