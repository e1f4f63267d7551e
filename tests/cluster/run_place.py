"""A place for the runs of a test: a namespace, an MLflow that pods reach, and somebody who has the Role's rights alone.

One MLflow server that asks who one is serves all tests; what each test makes is in a namespace of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.kubernetes import names
from jupyter_mlops.kubernetes.rights import role_manifest
from jupyter_mlops.runs import Runs

from ..integration.mlflow_server import mlflow_server
from . import access
from .door import Door
from .pods import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kubernetes.client import ApiClient

    from jupyter_mlops.events import Event
    from jupyter_mlops.store.models import RunRecord

    from .context import Context

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

    def command(self, *arguments: str, home: Path) -> subprocess.Popen[str]:
        """Start `jupyter mlops` as a process of its own, configured by a file."""
        (home / "config").mkdir(exist_ok=True)
        profiles = dict(self.runs.config.profiles)
        (home / "config" / "jupyter_mlops_config.py").write_text(f"c.MLOps.profiles = {profiles!r}\n")
        return subprocess.Popen(
            [sys.executable, "-m", "jupyter_mlops.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "JUPYTER_CONFIG_DIR": str(home / "config")},
        )  # fmt: skip

    def in_mlflow(self, record: RunRecord) -> Any:
        """The run as MLflow has it."""
        import mlflow

        found = self.runs.get(record.run_id).mlflow_run_id
        return mlflow.MlflowClient(self.mlflow.uri).get_run(found)

    def delete_pod(self, pod: Any, *, grace: int) -> None:
        from kubernetes import client as k

        core = k.CoreV1Api(self.admin)
        core.delete_namespaced_pod(pod.metadata.name, self.namespace, grace_period_seconds=grace)

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


@pytest.fixture(name="place")
def place_of_runs(
    context: Context,
    admin: ApiClient,
    namespace: str,
    product_image: str,
    mlflow: Door,
    make_notebook: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
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
    yield Place(Runs(config=config), admin, namespace, make_notebook, mlflow)
    # Before their namespace: of pods that are killed in one that is being deleted, the Job controller may never let go.
    k.BatchV1Api(admin).delete_collection_namespaced_job(namespace, propagation_policy="Background")
    wait_for("the pods to end", lambda: not k.CoreV1Api(admin).list_namespaced_pod(namespace).items)
