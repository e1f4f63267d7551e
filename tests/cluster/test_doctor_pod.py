"""`doctor --pod` on a real Kubernetes: what a pod tells, and that nothing of it stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.kubernetes import names
from jupyter_mlops.kubernetes.rights import role_manifest

from ..integration.mlflow_server import mlflow_server
from . import access
from .door import Door
from .pods import wait_for
from .product_image import product_image
from .registry import empty_registry

if TYPE_CHECKING:
    from pathlib import Path

    from kubernetes.client import ApiClient

    from .context import Context

__all__ = ["product_image"]

pytestmark = pytest.mark.cluster

_LOGIN = {"MLFLOW_TRACKING_USERNAME": "team-a", "MLFLOW_TRACKING_PASSWORD": "only-for-these-tests"}
_SECRET = "mlflow-login"
_INSIDE = ("pod", "versions in the pod", "MLflow from the pod", "GPU in the pod", "scratch", "names")
Doctor = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture(scope="module")
def door(session_context: Context, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """An MLflow that pods reach and that lets nobody in without a password."""
    host = session_context.address
    with session_context.network(), mlflow_server(tmp_path_factory.mktemp("mlflow"), host=host) as server:
        found = Door(host, server.port, *_LOGIN.values())
        yield found
        found.close()


@pytest.fixture
def doctor(
    context: Context,
    admin: ApiClient,
    namespace: str,
    product_image: str,
    door: Door,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Doctor]:
    """Calls it as somebody with the rights for runs and no others; afterwards nothing of it may be there."""
    from kubernetes import client as k

    core = k.CoreV1Api(admin)
    limited = access.write_limited_kubeconfig(
        context.kubeconfig, tmp_path / "kubeconfig", namespace, role_manifest(namespace=namespace)["rules"]
    )
    core.create_namespaced_secret(namespace, {"metadata": {"name": _SECRET}, "stringData": _LOGIN})
    monkeypatch.setenv("KUBECONFIG", str(limited))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", door.uri)
    for name, value in _LOGIN.items():
        monkeypatch.setenv(name, value)

    def call(**fields: Any) -> dict[str, dict[str, str]]:
        profile = {"runner": "kubernetes", "image": product_image, "namespace": namespace, "memory": "1Gi", **fields}
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config" / "jupyter_mlops_config.py").write_text(f"c.MLOps.profiles = {{'cluster': {profile!r}}}\n")
        done = CliRunner().invoke(
            mlops, ["doctor", "--profile", "cluster", "--pod", "--json"], prog_name="jupyter mlops"
        )
        found = {check["name"]: check for check in json.loads(done.output)}
        assert done.exit_code == int(any(check["state"] == "problem" for check in found.values()))
        return found

    yield call
    ours = {"label_selector": f"{names.MANAGED_BY_LABEL}={names.PRODUCT}"}

    def left() -> list[str]:
        lists = k.BatchV1Api(admin).list_namespaced_job(namespace, **ours), core.list_namespaced_pod(namespace, **ours)
        return [each.metadata.name for found in lists for each in found.items]

    wait_for("everything to be gone", lambda: not left(), left)


def test_a_pod_in_which_runs_will_work_is_ok_in_every_line(doctor: Doctor) -> None:
    found = doctor(env_from_secrets=[_SECRET])
    assert {name: found[name]["state"] for name in _INSIDE} == dict.fromkeys(_INSIDE, "ok"), found
    assert "image was" in found["pod"]["message"]
    assert "dask " in found["versions in the pod"]["message"]
    assert "/spill" in found["scratch"]["message"]


def test_a_pod_without_mlflows_credentials_says_what_to_name_in_the_profile(doctor: Doctor) -> None:
    found = doctor()
    assert found["MLflow"]["state"] == "ok"
    assert found["MLflow from the pod"]["state"] == "problem"
    assert "env_from_secrets" in found["MLflow from the pod"]["remedy"]
    assert found["scratch"]["state"] == "ok"
    assert _LOGIN["MLFLOW_TRACKING_PASSWORD"] not in json.dumps(found)


def test_an_mlflow_that_no_pod_reaches_is_told_from_the_pod(
    doctor: Doctor, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{context.address}:1")
    found = doctor(env_from_secrets=[_SECRET])
    assert found["pod"]["state"] == "ok"
    assert found["MLflow from the pod"]["state"] == "problem"
    assert f"{context.address}:1" in found["MLflow from the pod"]["message"]


def test_an_image_that_is_not_there_is_told_by_name_and_the_rest_was_not_looked_at(doctor: Doctor) -> None:
    with empty_registry() as address:
        found = doctor(image=f"{address}/no/such:1")
    assert found["pod"]["state"] == "problem"
    assert f"{address}/no/such:1" in found["pod"]["message"]
    assert {found[name]["state"] for name in _INSIDE[1:]} == {"not known"}


def test_a_secret_that_is_missing_is_told_by_name(doctor: Doctor) -> None:
    found = doctor(env_from_secrets=["no-such-secret"])
    assert found["pod"]["state"] == "problem"
    assert "no-such-secret" in found["pod"]["message"]
