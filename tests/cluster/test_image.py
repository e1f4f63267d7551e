"""An image that was built from a Dockerfile runs on the node, and keeps nothing of the machine that built it."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from . import image
from .cache import ClusterError
from .pods import logs, pod_spec, run_pod, wait_for_phase

if TYPE_CHECKING:
    from pathlib import Path

    from kubernetes.client import ApiClient

    from .context import Context

pytestmark = pytest.mark.cluster

DOCKERFILE = """
ARG BASE
FROM $BASE
ARG PIP_CERT
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv \\
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir -r /tmp/requirements.txt
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
USER 65534
CMD ["python"]
"""


@pytest.fixture(scope="session")
def dask_image(session_context: Context, tmp_path_factory: pytest.TempPathFactory) -> image.Image:
    """Python with Dask on Debian, built as the product's own image is, and loaded."""
    if session_context.place is None:
        pytest.skip("only on the tests' own node")
    directory = tmp_path_factory.mktemp("image")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "requirements.txt").write_text("dask[distributed]\n")
    inputs = {"requirements.txt": directory / "requirements.txt"}
    try:
        built = image.build("test-dask", directory / "Dockerfile", inputs)
    except ClusterError as error:
        pytest.fail(str(error), pytrace=False)
    session_context.load_image(built.archive)
    again = image.build("test-dask", directory / "Dockerfile", inputs)
    assert again == built
    return built


def test_an_image_from_a_dockerfile_runs_under_the_restricted_standard(
    dask_image: image.Image, context: Context, admin: ApiClient, namespace: str
) -> None:
    program = """
from dask.distributed import Client, LocalCluster
with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as c, Client(c) as client:
    print(client.submit(sum, [1, 2, 3]).result())
"""
    spec = pod_spec(dask_image.tag, "python", "-c", program)
    spec["containers"][0]["env"] = [{"name": "HOME", "value": "/tmp"}]
    spec["containers"][0]["workingDir"] = "/tmp"
    run_pod(admin, namespace, "dask", spec)
    wait_for_phase(admin, namespace, "dask", "Succeeded", "Failed")
    assert logs(admin, namespace, "dask").splitlines()[-1:] == ["6"]


@pytest.fixture(scope="session")
def certificates() -> Path:
    """The host's bundle, looked for before the test's environment is scrubbed."""
    found = image.host_certificates()
    if found is None:
        pytest.skip("this machine's pip has no certificates of its own")
    return found


def test_the_hosts_certificates_are_not_in_the_image(certificates: Path, dask_image: image.Image) -> None:
    bundle = certificates.read_bytes()
    seen = 0
    with tarfile.open(dask_image.archive) as archive:
        manifest = json.loads(_read(archive, "manifest.json"))[0]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                for member in files:
                    seen += 1
                    assert image._CERTIFICATES not in member.name
                    if member.isfile() and member.size == len(bundle):
                        assert _read(files, member.name) != bundle, member.name
        assert seen > 1000, "the layers were read"
        # Neither is the path of the bundle, which may tell a user's name.
        assert str(certificates) not in _read(archive, manifest["Config"]).decode()


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    assert member is not None
    return member.read()
