"""MLflow's system metrics (CPU, memory, GPU, disk, network) of a run, measured by MLflow's own monitors.

MLflow's own thread is not used: it ends when the notebook's `with mlflow.start_run():` ends the run early,
and waiting for its end takes as long as MLflow does not answer.
"""

from __future__ import annotations

import threading
from typing import Any

from .address import absolute_uri
from .connection import quiet

_INTERVAL = 10.0
_STOP_WAIT = 5.0


class SystemMetrics:
    """Logs the machine's load to an MLflow run until it is stopped; never raises.

    Args:
        uri: MLflow's address, with credentials if it has them.
        mlflow_run_id: MLflow's id of the run.
        interval: Seconds between two measurements.

    Attributes:
        problem: One sentence if the metrics are not logged, else empty.
    """

    def __init__(self, uri: str, mlflow_run_id: str, *, interval: float = _INTERVAL) -> None:
        self._uri = uri
        self._mlflow_run_id = mlflow_run_id
        self._interval = interval
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.problem = ""

    def start(self) -> None:
        """Begin to measure, in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlops-system-metrics", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Log what was measured and end; an MLflow that does not answer is not waited for long."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_STOP_WAIT)

    def _work(self) -> None:
        try:
            with quiet():
                monitor = self._monitor()
        except Exception as error:  # noqa: BLE001 - a comfort must not end the run
            self.problem = f"System metrics are not logged: {type(error).__name__}."
            return
        while True:
            ended = self._ended.wait(self._interval)
            try:
                with quiet():
                    monitor.collect_metrics()
                    monitor.publish_metrics(monitor.aggregate_metrics())
                    if ended:
                        monitor.mlflow_logger.flush()
                self.problem = ""
            except Exception as error:  # noqa: BLE001 - MLflow may be back at the next measurement
                self.problem = f"System metrics are not logged: {type(error).__name__}."
            if ended:
                return

    def _monitor(self) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        return SystemMetricsMonitor(self._mlflow_run_id, resume_logging=True, tracking_uri=absolute_uri(self._uri))
