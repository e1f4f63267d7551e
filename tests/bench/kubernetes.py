"""`make bench-cluster`: how long a run on Kubernetes takes to its first cell, beside a bare Job that runs papermill.

On the tests' own Kubernetes of one node (Linux, root), with one image for everybody, in turns. The bare Job is the floor:
it takes a notebook from a ConfigMap, keeps nothing, and tells nothing. A Dask cluster of two workers is compared with
dask-kubernetes' KubeCluster, up to the first task that a worker computes. How many runs one client can have is measured by
`tests/cluster/test_scale.py`, whose table is taken into the report with `--runs`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import kube_cluster
from tests.bench.measure import Contestant, Sample, Summary, ends, first_cells, in_turns, ratios, summary
from tests.bench.notebooks import write_notebook
from tests.bench.report import about_this_machine

FLOOR = "kubectl apply of a Job that runs papermill"
FLOOR_CALL = "the same Job, made by a call"
OURS = "jupyter mlops train --profile"
OURS_CALL = "the same run, submitted by a call"
DASK = "dask-kubernetes, KubeCluster of two workers"
OURS_DASK = "jupyter mlops train of two pods, Dask"
AGAINST = {FLOOR: OURS, FLOOR_CALL: OURS_CALL, DASK: OURS_DASK}
"""Who is compared with whom: a command with a command, a call with a call."""

_MARK = "FIRST_CELL"
_CELLS = [
    f"import time\nprint('{_MARK}', repr(time.time()))",
    *(f"x{number} = {number}\nx{number}" for number in range(8)),
]
_DASK_CELLS = [
    "from jupyter_mlops import get_client\nimport time\nclient = get_client()\n"
    f"print('{_MARK}', repr(client.submit(time.time).result()))"
]
_WORKERS = 2
_PATIENCE = 300.0
_RESOURCES = {"cpus": 1.0, "memory": "2Gi"}


class BenchError(Exception):
    """A contestant failed; its last words."""


@dataclass
class Place:
    """Where the contestants run.

    Attributes:
        root: A directory of the bench's own.
        namespace: In the cluster.
        image: What every pod runs.
        kubectl: The program.
        notebook: What is executed.
        batch: Jobs, through the official client.
        core: Pods.
        count: How many Jobs were made.
    """

    root: Path
    namespace: str
    image: str
    kubectl: Path
    notebook: Path
    batch: Any
    core: Any
    count: int = 0


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and write it.

    Returns:
        0, or 1 when a contestant failed or there can be no cluster.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench-output"), help="directory for the results")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured (default: 7)")
    parser.add_argument(
        "--runs", type=int, default=0, help="measure so many runs of one client too (500: half an hour)"
    )
    parser.add_argument("--name", default="bench", help="of the cluster, which is made and taken away")
    chosen = parser.parse_args(arguments)
    from tests.cluster.cache import ClusterError

    about = about_this_machine()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="mlops-bench-") as root,
            placed(Path(root), chosen.name) as place,
            dask_contestants(place) as more,
        ):
            samples = in_turns([*contestants(place), *more], rounds=max(1, chosen.rounds), warm_up=1, told=_tell)
            scale = many_runs(chosen.name, chosen.runs) if chosen.runs else ""
    except (BenchError, ClusterError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    about["load_after"] = about_this_machine()["load"]
    text = table(about, samples) + (f"\n### {chosen.runs} runs of one client\n\n{scale}\n" if scale else "")
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "bench-cluster.md").write_text(text, encoding="utf-8")
    data = {"about": about, "samples": {name: [asdict(each) for each in found] for name, found in samples.items()}}
    (chosen.output / "bench-cluster.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    sys.stdout.write(f"{text}\n{chosen.output / 'bench-cluster.md'}\n")
    return 0


@contextmanager
def placed(root: Path, name: str) -> Iterator[Place]:
    """A cluster with the image, a namespace and an MLflow server; taken away at the end."""
    from kubernetes import client as k

    from tests.cluster import access, image, lifecycle, product_image
    from tests.cluster.binaries import kubernetes
    from tests.cluster.context import own_context
    from tests.cluster.places import place
    from tests.integration.mlflow_server import mlflow_server

    node = place(name)
    was_up = not lifecycle.up(node)
    try:
        context = own_context(node)
        built = product_image.build()
        if built.tag not in image.loaded(node):
            context.load_image(built.archive)
        with context.network(), access.client(context.kubeconfig) as api:
            namespace = access.create_namespace(api, "bench")
            with mlflow_server(root / "mlflow", host=context.address) as server:
                _configure(root, context.kubeconfig, server.uri, built.tag, namespace)
                notebook = write_notebook(_CELLS, root / "train.ipynb")
                yield Place(
                    root, namespace, built.tag, kubernetes() / "kubectl", notebook, k.BatchV1Api(api), k.CoreV1Api(api)
                )
    finally:
        if not was_up:
            lifecycle.down(node)


def _configure(root: Path, kubeconfig: Path, mlflow: str, image: str, namespace: str) -> None:
    """This process and its children use the bench's cluster, MLflow and directories, and nobody's settings."""
    (root / "config").mkdir()
    profile = {"runner": "kubernetes", "image": image, "namespace": namespace, "ttl": 60, **_RESOURCES}
    pair = {**profile, "pods": 2, "workers": _WORKERS, "cpus": 0.6, "memory": "4Gi"}
    (root / "config" / "jupyter_mlops_config.py").write_text(
        f"c.MLOps.profiles = {{'cluster': {profile!r}, 'dask': {pair!r}}}\n"
    )
    os.environ.update({
        "KUBECONFIG": str(kubeconfig), "MLFLOW_TRACKING_URI": mlflow, "MLFLOW_DISABLE_TELEMETRY": "true",
        "JUPYTER_CONFIG_DIR": str(root / "config"), "JUPYTER_MLOPS_DATA_DIR": str(root / "data"),
        "HOME": str(root),
    })  # fmt: skip


def contestants(place: Place) -> list[Contestant]:
    """Everybody, each ready to be measured once."""
    return [
        Contestant(FLOOR, lambda: _bare(place, by_command=True)),
        Contestant(OURS, lambda: _command(place)),
        Contestant(FLOOR_CALL, lambda: _bare(place, by_command=False)),
        Contestant(OURS_CALL, lambda: _call(place)),
    ]


@contextmanager
def dask_contestants(place: Place) -> Iterator[list[Contestant]]:
    """dask-kubernetes and ours, in a namespace without the restricted standard, which its pods do not meet."""
    namespace = f"{place.namespace}-dask"
    place.core.create_namespace({"metadata": {"name": namespace}})
    numbers = itertools.count()
    notebook = write_notebook(_DASK_CELLS, place.root / "dask.ipynb")

    def theirs(python: Path) -> Sample:
        start = time.time()
        told = kube_cluster.first_task(
            place.root, python, f"bench-{next(numbers)}", namespace=namespace, image=place.image, workers=_WORKERS,
            mark=_MARK,
        )  # fmt: skip
        return Sample(time.time() - start, _first_cell(told) - start)

    with kube_cluster.operator(place.root, place.kubectl) as python:
        yield [
            Contestant(DASK, lambda: theirs(python)),
            Contestant(OURS_DASK, lambda: _command(place, notebook, profile="dask")),
        ]


def _command(place: Place, notebook: Path | None = None, *, profile: str = "cluster") -> Sample:
    start = time.time()
    file = str(notebook or place.notebook)
    command = [sys.executable, "-m", "jupyter_mlops.cli", "train", file, "--profile", profile, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    end = time.time()
    if done.returncode:
        raise BenchError(f"{OURS} failed: {done.stderr[-2000:]}")
    return Sample(end - start, _first_cell(done.stdout) - start)


def _call(place: Place) -> Sample:
    from jupyter_mlops.runs import Runs

    runs = Runs()
    start = time.time()
    record = runs.submit(runs.prepare(place.notebook, profile=runs.config.profile("cluster")))
    told = [repr(event) for event in runs.events(record, follow=True)]
    end = time.time()
    return Sample(end - start, _first_cell("\n".join(told)) - start)


def _bare(place: Place, *, by_command: bool) -> Sample:
    place.count += 1
    name = f"bare-{place.count}"
    manifests = _manifests(place, name)
    file = place.root / f"{name}.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
    start = time.time()
    if by_command:
        subprocess.run([place.kubectl, "apply", "-n", place.namespace, "-f", file], check=True, capture_output=True)
    else:
        place.core.create_namespaced_config_map(place.namespace, manifests[0])
        place.batch.create_namespaced_job(place.namespace, manifests[1])
    job = _until(lambda: _ended(place.batch.read_namespaced_job(name, place.namespace)))
    end = time.time()
    (pod,) = place.core.list_namespaced_pod(place.namespace, label_selector=f"job-name={name}").items
    log = place.core.read_namespaced_pod_log(pod.metadata.name, place.namespace)
    if not job.status.succeeded:
        raise BenchError(f"{FLOOR} failed: {log[-2000:]}")
    place.batch.delete_namespaced_job(name, place.namespace, propagation_policy="Background")
    place.core.delete_namespaced_config_map(name, place.namespace)
    return Sample(end - start, _first_cell(log) - start)


def _ended(job: Any) -> Any:
    return job if job.status.succeeded or job.status.failed else None


def _manifests(place: Place, name: str) -> list[dict[str, Any]]:
    amounts = {"cpu": str(_RESOURCES["cpus"]), "memory": str(_RESOURCES["memory"])}
    container = {
        "name": "papermill", "image": place.image, "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "papermill", "/notebook/train.ipynb", "/tmp/executed.ipynb",
                    "--log-output", "--no-progress-bar", "--kernel", "python3"],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": {"limits": amounts, "requests": amounts},
        "volumeMounts": [{"name": "notebook", "mountPath": "/notebook"}, {"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    pod = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container],
        "volumes": [{"name": "notebook", "configMap": {"name": name}}, {"name": "tmp", "emptyDir": {}}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
         "data": {"train.ipynb": place.notebook.read_text()}},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
         "spec": {"backoffLimit": 0, "template": {"spec": pod}}},
    ]  # fmt: skip


def _first_cell(text: str) -> float:
    found = re.search(rf"{_MARK} (\d+\.\d+)", text)
    if found is None:
        raise BenchError(f"the first cell told no time: {text[-2000:]}")
    return float(found[1])


def _until(look: Callable[[], Any]) -> Any:
    patience = time.monotonic() + _PATIENCE
    while not (found := look()):
        if time.monotonic() > patience:
            raise BenchError(f"nothing for {_PATIENCE:.0f} s")
        time.sleep(0.05)
    return found


def many_runs(name: str, count: int) -> str:
    """The table of the test of many runs, on the same cluster.

    Raises:
        BenchError: it failed.
    """
    _tell(f"{count} runs of one client")
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "scale.md")
        command = [sys.executable, "-m", "tests.cluster", "--name", name, "test", "-k", "test_scale", "-q"]
        environment = {**os.environ, "JUPYTER_MLOPS_TEST_RUNS": str(count), "JUPYTER_MLOPS_TEST_TABLE": str(target)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"the test of many runs failed: {done.stdout[-4000:]}")
        return target.read_text(encoding="utf-8")


def table(about: Mapping[str, Any], samples: Mapping[str, Sequence[Sample]]) -> str:
    """The results as Markdown."""
    lines = [
        f"{about['date']}, {about['cores']} cores, {about['system']}, load average before and after "
        f"{about['load'][0]:.1f} and {about['load_after'][0]:.1f}. Seconds: median (smallest to largest). Ratio: how many "
        "times as long jupyter-mlops took, the median of the ratios of the rounds.",
        "",
        "| | first cell | end | ratio, first cell | ratio, end |",
        f"|{' --- |' * 5}",
    ]
    for name in samples:
        own = AGAINST.get(name)
        compared = "| |"
        if own is not None:
            first = ratios(first_cells(samples, own), first_cells(samples, name))
            compared = f"{_shown(first)} | {_shown(ratios(ends(samples, own), ends(samples, name)))} |"
        lines.append(
            f"| {name} | {_shown(summary(first_cells(samples, name)))} | {_shown(summary(ends(samples, name)))} | {compared}"
        )
    return "\n".join(lines) + "\n"


def _shown(found: Summary) -> str:
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
