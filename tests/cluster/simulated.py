"""Nodes and pods that are only played, by KWOK: the API server, the scheduler and the controllers are the real ones.

A played pod runs nothing: it is Running as soon as it has a node, and stays so until the test has the heads end. What
each head "printed" is one file for all.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from . import binaries
from .places import NODE_ADDRESS
from .pods import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from kubernetes.client import ApiClient

    from .places import Place

LABEL = "simulated"
PORT = 10247
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
_CONTAINER_STATUS = """
{{ $now := Now }}
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: %(ready)s
  restartCount: 0
  state: %(state)s
{{ end }}
phase: %(phase)s
"""
_NODE_STATUS = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
  message: {{ .message | Quote }}
  reason: {{ .reason | Quote }}
  status: {{ .status | Quote }}
  type: {{ .type | Quote }}
{{ end }}
addresses:
- {address: {{ NodeIP | Quote }}, type: InternalIP}
daemonEndpoints: {kubeletEndpoint: {Port: {{ NodePort }}}}
phase: Running
"""


class Simulation:
    """Simulated nodes of one cluster.

    Args:
        place: The cluster.
        admin: A client with all rights.
        directory: For configuration and logs.
        log: The lines that every head printed so far.
        last: What it prints when it ends.
    """

    def __init__(self, place: Place, admin: ApiClient, directory: Path, *, log: list[str], last: str) -> None:
        self._place, self._admin, self._directory = place, admin, directory
        self._process: subprocess.Popen[bytes] | None = None
        self._nodes: list[str] = []
        # As a container runtime writes it.
        stamped = [f"2026-11-24T10:00:00.{n:09d}Z stdout F {line}\n" for n, line in enumerate([*log, last])]
        (directory / "running.log").write_text("".join(stamped[:-1]))
        (directory / "ended.log").write_text("".join(stamped))
        self._start(heads_end=False)

    def add_nodes(self, count: int, *, gpus: int) -> None:
        """Have so many more nodes, which take only pods that tolerate `TAINT`; returns when they are Ready."""
        from kubernetes import client as k

        core = k.CoreV1Api(self._admin)
        amounts = {"cpu": "128", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": str(gpus)}
        for number in range(len(self._nodes), len(self._nodes) + count):
            name = f"simulated-{number}"
            core.create_node(
                {
                    "metadata": {"name": name, "labels": {LABEL: "true"}},
                    "spec": {"taints": [TAINT]},
                    "status": {"capacity": amounts, "allocatable": amounts},
                }
            )
            self._nodes.append(name)
        wait_for("the simulated nodes to be Ready", lambda: self._ready() == len(self._nodes), self._tail)

    def end_heads(self) -> None:
        """Let every head end well, those that come as well."""
        self._stop()
        self._start(heads_end=True)

    def close(self) -> None:
        """Take the nodes away, and what is on them."""
        from kubernetes import client as k

        core = k.CoreV1Api(self._admin)
        core.delete_collection_node(label_selector=LABEL)
        self._stop()

    def _ready(self) -> int:
        from kubernetes import client as k

        nodes = k.CoreV1Api(self._admin).list_node(label_selector=LABEL).items
        return sum(
            condition.type == "Ready" and condition.status == "True"
            for node in nodes
            for condition in node.status.conditions or ()
        )

    def _start(self, *, heads_end: bool) -> None:
        config = self._directory / "kwok.yaml"
        # YAML documents; JSON is YAML.
        config.write_text("\n---\n".join(json.dumps(each) for each in self._config(heads_end)))
        program = binaries.kwok()
        with (self._directory / "kwok.out").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", str(program), f"--config={config}",
                 f"--kubeconfig={self._place.admin_kubeconfig}", f"--manage-nodes-with-label-selector={LABEL}=true",
                 "--node-lease-duration-seconds=40", f"--node-ip={NODE_ADDRESS}", f"--node-port={PORT}", f"--server-address={NODE_ADDRESS}:{PORT}",
                 f"--tls-cert-file={self._place.pki}/kubelet-server.crt",
                 f"--tls-private-key-file={self._place.pki}/kubelet-server.key"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                # The node's etcd is too old for lists that come as watches; each try costs seconds.
                env={"PATH": os.environ["PATH"], "KUBE_FEATURE_WatchListClient": "false"},
            )  # fmt: skip
        time.sleep(0.5)
        assert self._process.poll() is None, self._tail()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _tail(self) -> str:
        return (self._directory / "kwok.out").read_text(errors="replace")[-3000:]

    def _config(self, heads_end: bool) -> list[dict[str, Any]]:
        running = "{running: {startedAt: {{ $now | Quote }}}}"
        ended = "{terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}"
        deleted = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
        stays = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
        stages = [
            _stage("node", "Node", [{
                "key": '.status.conditions.[] | select( .type == "Ready" ) | .status', "operator": "NotIn",
                "values": ["True"],
            }], {"statusTemplate": _NODE_STATUS}),
            _stage("pod-runs", "Pod", [stays, _phase("Pending")], {
                "statusTemplate": _CONTAINER_STATUS % {"ready": "true", "state": running, "phase": "Running"}
                + "startTime: {{ $now | Quote }}\nconditions:\n"
                "- {type: Ready, status: 'True', lastTransitionTime: {{ $now | Quote }}}\n",
            }),
            _stage("pod-goes", "Pod", [deleted], {"delete": True}),
        ]  # fmt: skip
        if heads_end:
            stage = _stage("head-ends", "Pod", [stays, _phase("Running")], {
                "statusTemplate": _CONTAINER_STATUS % {"ready": "false", "state": ended, "phase": "Succeeded"},
            })  # fmt: skip
            stage["spec"]["selector"]["matchLabels"] = {"batch.kubernetes.io/job-completion-index": "0"}
            stages.append(stage)
        logs = {
            "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterLogs", "metadata": {"name": "heads"},
            "spec": {"logs": [{"logsFile": str(self._directory / f"{'ended' if heads_end else 'running'}.log")}]},
        }  # fmt: skip
        return [*stages, logs]


def _stage(name: str, kind: str, expressions: list[dict[str, Any]], following: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": {"matchExpressions": expressions},
            "next": following,
        },
    }  # fmt: skip


def _phase(name: str) -> dict[str, Any]:
    return {"key": ".status.phase", "operator": "In", "values": [name]}
