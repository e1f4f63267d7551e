"""dask-kubernetes' KubeCluster as a contestant: its operator runs beside the cluster, from a virtual environment of its own.

Knows how that project is installed and started; the bench knows it as something to be measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.cluster.cache import Recipe, digest, ensure, run

VERSION = "2026.3.0"
_CRDS = "lib/python{}.{}/site-packages/dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator/crds"
_STARTING = 5.0
_PROGRAM = """
import sys, time
from dask_kubernetes.operator import KubeCluster
name, namespace, image, workers, mark = sys.argv[1:]
amounts = {"cpu": "300m", "memory": "1Gi"}
with KubeCluster(name=name, namespace=namespace, image=image, n_workers=int(workers), quiet=True,
                 resources={"requests": amounts, "limits": amounts}) as cluster, cluster.get_client() as client:
    client.wait_for_workers(int(workers))
    print(mark, repr(client.submit(time.time).result()), flush=True)
"""


def environment() -> Path:
    """A virtual environment with dask-kubernetes and the Dask of the image."""
    packages = [f"dask-kubernetes=={VERSION}", f"dask=={version('dask')}", f"distributed=={version('distributed')}"]

    def build(directory: Path) -> None:
        run([sys.executable, "-m", "venv", "--copies", directory])
        run([directory / "bin" / "python", "-m", "pip", "install", "--quiet", *packages])

    return ensure(
        Recipe(
            title=f"Installing dask-kubernetes {VERSION}",
            kind="dask-kubernetes",
            key=f"{VERSION}-{digest(sys.version, *packages)}",
            expected="half a minute",
            build=build,
        )
    )


@contextmanager
def operator(root: Path, kubectl: Path) -> Iterator[Path]:
    """The operator, which looks after all namespaces of the cluster of KUBECONFIG.

    Yields:
        The Python that can use it.
    """
    place = environment()
    subprocess.run(
        [kubectl, "create", "-f", place / _CRDS.format(*sys.version_info)], check=True, capture_output=True
    )  # fmt: skip
    python = place / "bin" / "python"
    with (root / "operator.log").open("ab") as log:
        process = subprocess.Popen(
            [python, "-m", "kopf", "run", "--standalone", "--all-namespaces", "-m", "dask_kubernetes.operator.controller"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_environment(root), cwd=root,
        )  # fmt: skip
    try:
        time.sleep(_STARTING)
        yield python
    finally:
        process.kill()
        process.wait()


def first_task(root: Path, python: Path, name: str, *, namespace: str, image: str, workers: int, mark: str) -> str:
    """Make a cluster as a program of its own, wait for the workers, and have one compute something.

    Returns:
        What it printed: the mark and the time of the computation.

    Raises:
        subprocess.SubprocessError: it failed.
    """
    done = subprocess.run(
        [python, "-c", _PROGRAM, name, namespace, image, str(workers), mark],
        check=True, capture_output=True, text=True, timeout=300, env=_environment(root),
    )  # fmt: skip
    return done.stdout


def _environment(root: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(root), "KUBECONFIG": os.environ["KUBECONFIG"]}
