"""Runs on a real Kubernetes, from submission to the record, and what becomes of them when parts of it break.

One image with the product and one MLflow server that asks who one is serve all tests; what each test makes is in a
namespace of its own.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.events import CellEvent, Event, LogEvent, MetricEvent, NoticeEvent, RunEvent
from jupyter_mlops.kubernetes import contract, names
from jupyter_mlops.kubernetes.rights import role_manifest
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from ..integration.mlflow_server import mlflow_server
from . import access
from .door import Door
from .pods import wait_for
from .product_image import product_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kubernetes.client import ApiClient

    from jupyter_mlops.store.models import RunRecord

    from .context import Context

__all__ = ["product_image"]

pytestmark = pytest.mark.cluster

_USER, _PASSWORD = "team-a", "only-for-these-tests"
_SECRET = "mlflow-login"


@pytest.fixture(scope="session")
def mlflow(session_context: Context, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """An MLflow that pods reach and that lets nobody in without a password."""
    host = session_context.address
    with session_context.network(), mlflow_server(tmp_path_factory.mktemp("mlflow"), host=host) as server:
        door = Door(host, server.port, _USER, _PASSWORD)
        yield door
        door.close()


@dataclass
class Place:
    """Where a test's runs are, and how one starts them there."""

    runs: Runs
    admin: ApiClient
    namespace: str
    make_notebook: Callable[..., Path]
    mlflow: Door

    def submit(self, *cells: str | tuple[str, str], profile: dict[str, Any] | None = None, **options: Any) -> RunRecord:
        """Start a notebook of these cells."""
        notebook = self.make_notebook(*cells, name=options.pop("notebook", "train.ipynb"))
        chosen = self.runs.config.profile("cluster", **(profile or {}))
        return self.runs.submit(self.runs.prepare(notebook, profile=chosen, **options))

    def follow(self, record: RunRecord, *, stop: Callable[[], bool] = lambda: False) -> list[Event]:
        """Everything that it tells, to its end."""
        return list(self.runs.events(record, follow=True, stop=stop))

    def follow_until(self, record: RunRecord, seen: Callable[[Event], bool]) -> list[Event]:
        """Everything that it tells, up to what one waits for."""
        found: list[Event] = []
        for event in self.runs.events(record, follow=True, stop=lambda: False):
            found.append(event)
            if seen(event):
                return found
        raise AssertionError(f"the run ended before: {found[-3:]}")

    def pods(self, record: RunRecord) -> list[Any]:
        from kubernetes import client as k

        found: list[Any] = (
            k.CoreV1Api(self.admin)
            .list_namespaced_pod(self.namespace, label_selector=f"{names.RUN_LABEL}={record.run_id}")
            .items
        )
        return found

    def objects(self, record: RunRecord) -> list[str]:
        """Everything in the namespace that is of the run."""
        from kubernetes import client as k

        labels = {"label_selector": f"{names.RUN_LABEL}={record.run_id}"}
        core, batch, net = k.CoreV1Api(self.admin), k.BatchV1Api(self.admin), k.NetworkingV1Api(self.admin)
        lists = (
            batch.list_namespaced_job(self.namespace, **labels),
            core.list_namespaced_pod(self.namespace, **labels),
            core.list_namespaced_service(self.namespace, **labels),
            core.list_namespaced_secret(self.namespace, **labels),
            net.list_namespaced_network_policy(self.namespace, **labels),
        )
        return [f"{type(each).__name__}/{each.metadata.name}" for found in lists for each in found.items]


@pytest.fixture
def place(
    context: Context,
    admin: ApiClient,
    namespace: str,
    product_image: str,
    mlflow: Door,
    make_notebook: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    """A namespace with MLflow's credentials in a Secret, used by somebody who has no more than the Role's rights."""
    from kubernetes import client as k

    limited = access.write_limited_kubeconfig(
        context.kubeconfig, tmp_path / "kubeconfig", namespace, role_manifest(namespace=namespace)["rules"]
    )
    login = {"MLFLOW_TRACKING_USERNAME": _USER, "MLFLOW_TRACKING_PASSWORD": _PASSWORD}
    k.CoreV1Api(admin).create_namespaced_secret(namespace, {"metadata": {"name": _SECRET}, "stringData": login})
    monkeypatch.setenv("KUBECONFIG", str(limited))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    config = MLOps()
    config.profiles = {
        "cluster": {
            "runner": "kubernetes", "image": product_image, "memory": "3Gi", "env_from_secrets": [_SECRET],
            "namespace": namespace, "ttl": 600,
        }
    }  # fmt: skip
    return Place(Runs(config=config), admin, namespace, make_notebook, mlflow)


def _ends(events: list[Event]) -> RunEvent:
    final = events[-1]
    assert isinstance(final, RunEvent), final
    assert final.state.is_terminal, final
    return final


def _phases(events: list[Event]) -> list[str]:
    return [event.phase for event in events if isinstance(event, RunEvent) and event.phase]


def test_a_notebook_runs_in_one_pod_and_is_found_in_mlflow(place: Place) -> None:
    record = place.submit(
        ("learning_rate: float = 0.1\ndepth = 3", "parameters"),
        "import mlflow\nmlflow.log_metric('loss', learning_rate * depth)\nprint('trained')",
        assignments={"learning_rate": "0.5"},
    )
    events = place.follow(record)
    final = _ends(events)
    assert final.state is RunState.SUCCEEDED, [event for event in events if not isinstance(event, CellEvent)]
    assert any(isinstance(event, LogEvent) and "trained" in event.text for event in events)
    assert any(isinstance(event, MetricEvent) and (event.key, event.value) == ("loss", 1.5) for event in events)

    ended = place.runs.get(record.run_id)
    assert ended.state is RunState.SUCCEEDED
    files = place.runs.files(ended)
    assert "trained" in (files / "executed.ipynb").read_text()
    assert (files / "executed.html").exists()
    import mlflow

    run = mlflow.MlflowClient(place.mlflow.uri).get_run(ended.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"learning_rate": "0.5", "depth": "3"}
    assert run.data.metrics["loss"] == 1.5
