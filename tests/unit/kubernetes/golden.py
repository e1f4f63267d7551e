"""The manifests of some profiles, whole, beside the tests; `python -m tests.unit.kubernetes.golden` renews them.

Look at the difference before you keep it: it is what changes in people's clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from jupyter_mlops.cluster_spec import ClusterSpec
from jupyter_mlops.kubernetes import cluster_manifest, manifest

from .specs import profile, spec

DIRECTORY = Path(__file__).parent / "golden"
_OWNER = {"metadata": {"name": "train-churn-0f9a3c5e7b21", "uid": "11111111-2222-3333-4444-555555555555"}}


def _job(*, parts: bool = False, **options: Any) -> Callable[..., list[dict[str, Any]]]:
    def make(fields: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
        run = spec(fields, **changes)
        found = [manifest.job_manifest(run, mlflow_run_id="m1", **options)]
        if parts:
            found += [
                manifest.service_manifest(run, owner=_OWNER),
                manifest.network_policy_manifest(run, owner=_OWNER),
            ]
        return found

    return make


def _cluster(profile_changes: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = ClusterSpec(
        cluster_id="0f9a3c5e7b21", name="gpus", owner="ann", tracking_uri="https://mlflow.example.org",
        idle_timeout=1800, lifetime=28800, profile=profile(**profile_changes),
        create_time=datetime(2026, 11, 24, 10, tzinfo=timezone.utc),
    )  # fmt: skip
    owned = cluster_manifest.owned_manifests(
        cluster, ca="CA", certificate="CERTIFICATE", key="KEY", namespace="team-a", owner=_OWNER
    )
    return [cluster_manifest.job_manifest(cluster), owned["services"], owned["networkpolicies"]]


CASES: dict[str, list[dict[str, Any]]] = {
    "smallest": _job()({"cpus": None, "memory": None, "namespace": None}),
    "one_pod_with_everything": _job()(
        {
            "cpus": 32, "memory": "256Gi", "gpus": 4, "shm": "64Gi", "queue": "team-a", "priority_class": "production",
            "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                            {"key": "maintenance", "value": "soon", "effect": "NoExecute", "toleration_seconds": 60}],
            "env_from_secrets": ["mlflow-login", "warehouse"], "service_account": "runs",
            "image_pull_secrets": ["registry"], "ttl": 3600, "retries": 0, "protocol": "ucx",
            "context": "prod", "description": "Four GPUs of one node",
        },
        run_timeout=7200,
    ),
    "four_gpus_in_two_pods": _job(parts=True, held=True)({"cpus": 16, "memory": "128Gi", "gpus": 4, "pods": 2}),
    "slices_over_ucx": _job(parts=True)(
        {"cpus": 3, "memory": "96Gi", "gpus": 3, "pods": 3, "gpu_resource": "nvidia.com/mig-3g.40gb", "protocol": "ucx",
         "priority_class": "high"},
    ),
    "cpu_workers_on_an_old_server": _job(parts=True, success_policy=False)(
        {"cpus": 5, "memory": "10G", "pods": 2, "workers": 4}
    ),
    "cluster_with_four_gpus_in_one_pod": _cluster({"cpus": 16, "memory": "128Gi", "gpus": 4, "context": "prod"}),
}  # fmt: skip


def text_of(manifests: list[dict[str, Any]]) -> str:
    """As the file holds it."""
    return yaml.safe_dump_all(manifests, sort_keys=False, width=100)


def main() -> None:
    """Write every file anew, and remove those of cases that are gone."""
    DIRECTORY.mkdir(exist_ok=True)
    for path in DIRECTORY.glob("*.yaml"):
        if path.stem not in CASES:
            path.unlink()
    for name, manifests in CASES.items():
        (DIRECTORY / f"{name}.yaml").write_text(text_of(manifests), encoding="utf-8")


if __name__ == "__main__":
    main()
