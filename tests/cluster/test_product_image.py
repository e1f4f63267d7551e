"""The image with the product in it: what is inside, as whom it runs, and what is not inside. Built and pushed for real."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.image.versions import installed_versions, mismatches
from jupyter_mlops.kubernetes.pod_template import pod_template
from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import RunSpec

from . import image
from .cache import CACHE, ClusterError, locked, run
from .lifecycle import MissingError
from .pods import logs, run_pod, wait_for_phase
from .product_image import contents_of_pod
from .registry import Registry, registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubernetes.client import ApiClient

pytestmark = pytest.mark.cluster

_WORDS = ("hush.example.org", "hush: certificates")


def pod(image_name: str, *command: str) -> dict[str, Any]:
    """The very pod that a run has, with another command."""
    spec = RunSpec(
        name="n", notebook="n.ipynb", source="/n.ipynb", snapshot_id="0" * 64, experiment="e", owner="ann",
        tracking_uri="http://mlflow.example.org", profile=Profile(name="p", runner="kubernetes", image=image_name),
    )  # fmt: skip
    found = pod_template(spec)["spec"]
    found["containers"][0]["command"] = list(command)
    found["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    found["terminationGracePeriodSeconds"] = 1
    return found


def output(admin: ApiClient, namespace: str, spec: dict[str, Any], name: str = "image") -> str:
    run_pod(admin, namespace, name, spec)
    ended = wait_for_phase(admin, namespace, name, "Succeeded", "Failed")
    text = logs(admin, namespace, name)
    assert ended.status.phase == "Succeeded", text
    return text


def test_a_runs_pod_imports_everything_as_a_user_who_is_not_root_on_a_root_that_is_read_only(
    product_image: str, admin: ApiClient, namespace: str
) -> None:
    program = """
import errno, json, os, sys
import jupyter_mlops, papermill, mlflow, distributed, sklearn, pandas, ipykernel
try:
    open("/opt/venv/new", "w")
    problem = 0
except OSError as error:
    problem = error.errno
print(json.dumps([os.getuid(), os.getgid(), problem == errno.EROFS, sys.executable, os.getcwd(), jupyter_mlops.__file__]))
"""
    spec = pod(product_image, "python", "-c", program)
    security = spec["containers"][0]["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert "runAsUser" not in {**security, **spec["securityContext"]}, "the number must come from the image"
    user, group, read_only, python, here, package = json.loads(output(admin, namespace, spec).splitlines()[-1])
    assert (user, group, read_only, here) == (65532, 65532, True, "/work")
    assert python == "/opt/venv/bin/python"
    assert package.startswith("/opt/venv/lib/python3.11/site-packages/")


def test_any_user_id_can_work_in_it(product_image: str, admin: ApiClient, namespace: str) -> None:
    program = """
import getpass, os, pathlib, tempfile
for place in (pathlib.Path.home(), pathlib.Path.cwd(), pathlib.Path(tempfile.gettempdir())):
    (place / "file").write_text("x")
import matplotlib.pyplot, mlflow
print(os.getuid(), getpass.getuser())
"""
    spec = pod(product_image, "python", "-c", program)
    spec["securityContext"].update(runAsUser=1000680000, runAsGroup=0, fsGroup=1000680000)
    assert output(admin, namespace, spec).splitlines()[-1] == "1000680000 run"


def test_the_kernel_that_notebooks_name_is_the_images_own(product_image: str, admin: ApiClient, namespace: str) -> None:
    spec = pod(product_image, "jupyter", "kernelspec", "list", "--json")
    kernels = json.loads(output(admin, namespace, spec))["kernelspecs"]
    assert kernels["python3"]["resource_dir"] == "/opt/venv/share/jupyter/kernels/python3"


def test_what_is_imported_has_bytecode_that_fits(product_image: str, admin: ApiClient, namespace: str) -> None:
    # On a read-only root nothing can be compiled for keeps: each process of a run would do it again.
    program = """
import importlib.machinery, os, pathlib, struct, sys
import json, asyncio, email.message, jupyter_mlops.runs, mlflow, papermill, distributed, pandas
checked, stale = 0, []
for module in list(sys.modules.values()):
    spec = getattr(module, "__spec__", None)
    if not isinstance(getattr(spec, "loader", None), importlib.machinery.SourceFileLoader) or not spec.cached:
        continue
    source, cached = spec.origin, spec.cached
    checked += 1
    try:
        header = pathlib.Path(cached).read_bytes()[:16]
    except OSError:
        stale.append(source)
        continue
    flags, stamp, size = struct.unpack("<III", header[4:])
    if flags == 0 and (stamp, size) != (int(os.stat(source).st_mtime) & 0xFFFFFFFF, os.stat(source).st_size):
        stale.append(source)
print(checked, stale)
"""
    checked, _, stale = output(admin, namespace, pod(product_image, "python", "-c", program)).strip().partition(" ")
    assert int(checked) > 1000
    assert stale == "[]"


def test_the_labels_are_true_and_fit_this_client(
    product_archive: image.Image, product_image: str, admin: ApiClient, namespace: str
) -> None:
    labels = configuration(product_archive)["config"]["Labels"]
    told = {
        name.removeprefix("jupyter-mlops.version."): version
        for name, version in labels.items()
        if name.startswith("jupyter-mlops.version.")
    }
    program = "import json; from jupyter_mlops.image.versions import installed_versions; print(json.dumps(installed_versions()))"
    inside = json.loads(output(admin, namespace, pod(product_image, "python", "-c", program)).splitlines()[-1])
    assert inside["python"].startswith(f"{told['python']}.")
    assert {**inside, "python": told["python"]} == told
    assert mismatches(installed_versions(), told) == mismatches(installed_versions(), inside) == []
    assert labels["jupyter-mlops.lock"] == f"sha256:{contents_of_pod().digest}"
    assert labels["jupyter-mlops.variant"] == "cpu"
    assert labels["org.opencontainers.image.version"] == told["jupyter-mlops"]
    assert labels["org.opencontainers.image.base.name"] == image.base().tag


def test_it_has_a_numeric_user_and_no_entrypoint_of_its_base(product_archive: image.Image) -> None:
    config = configuration(product_archive)["config"]
    assert config["User"] == "65532:65532"
    assert not config.get("Entrypoint")
    assert config["Cmd"] == ["python"]


def test_the_products_code_is_the_last_layer_and_a_small_one(product_archive: image.Image) -> None:
    with tarfile.open(product_archive.archive) as archive:
        layers = json.loads(_read(archive, "manifest.json"))[0]["Layers"]
        names = []
        for layer in layers:
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                names.append({member.name for member in files if member.isfile()})
        assert archive.getmember(layers[-1]).size < 20_000_000
    for file in ("__init__.py", "image/Dockerfile"):
        assert any(name.endswith(f"site-packages/jupyter_mlops/{file}") for name in names[-1])
    assert all("jupyter_mlops" in name or name == "opt/venv/bin/jupyter-mlops" for name in names[-1])
    assert not any("jupyter_mlops" in name for layer in names[:-1] for name in layer)


@pytest.fixture(scope="session")
def certificates() -> Path:
    """The host's bundle, looked for before the test's environment is scrubbed."""
    found = image.host_certificates()
    if found is None:
        pytest.skip("this machine's pip has no certificates of its own")
    return found


def test_what_only_the_build_needs_is_not_in_it(certificates: Path, product_archive: image.Image) -> None:
    bundle = certificates.read_bytes()
    seen = 0
    with tarfile.open(product_archive.archive) as archive:
        for layer in json.loads(_read(archive, "manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                for member in files:
                    seen += 1
                    assert not member.name.startswith(
                        ("build/", "root/.cache/", "run/secrets/", "var/lib/apt/lists/deb")
                    )
                    assert not member.name.endswith(("host-certificates.pem", "certificates.pem"))
                    assert not member.name.endswith(("usr/bin/gcc", "usr/bin/git"))
                    if member.isfile() and member.size == len(bundle):
                        assert _read(files, member.name) != bundle, member.name
    assert seen > 10_000, "the layers were read"
    assert str(certificates) not in json.dumps(configuration(product_archive))
    assert "PIP_" not in json.dumps(configuration(product_archive))


@dataclass(frozen=True)
class Workshop:
    """A registry, and the commands with the variables that let buildah use it and our layers."""

    registry: Registry
    base: str
    environment: dict[str, str]
    directory: Path

    def mlops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with locked(CACHE / "buildah.lock"):
            return subprocess.run(
                ["nice", "-n", "10", sys.executable, "-m", "jupyter_mlops.cli", "image", *arguments],
                env=self.environment, cwd=self.directory, capture_output=True, text=True,
            )  # fmt: skip

    def built(self, *arguments: str) -> dict[str, Any]:
        done = self.mlops(*arguments, "--json")
        assert done.returncode == 0, done.stderr[-4000:]
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="session")
def workshop(product_archive: image.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """After the product's image, whose layers make these builds quick."""
    import certifi

    directory = tmp_path_factory.mktemp("workshop")
    try:
        with registry(directory) as found:
            settings = {
                "storage.conf": f'[storage]\ndriver = "overlay"\ngraphroot = "{CACHE / "buildah"}"\n'
                f'runroot = "{directory / "running"}"\n',
                "registries.conf": f'[[registry]]\nlocation = "{found.address}"\ninsecure = true\n',
                "containers.conf": f'[network]\nnetwork_config_dir = "{directory}"\n',
            }
            for name, text in settings.items():
                (directory / name).write_text(text)
            environment = {
                **os.environ,
                "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
                "CONTAINERS_REGISTRIES_CONF": str(directory / "registries.conf"),
                "CONTAINERS_CONF": str(directory / "containers.conf"),
                "BUILDAH_ISOLATION": "chroot",
                "JUPYTER_MLOPS_DATA_DIR": str(directory / "data"),
                # Words that can only come from pip's configuration and its certificates, to look for in the image.
                "PIP_TRUSTED_HOST": _WORDS[0],
                "PIP_CERT": str(directory / "bundle.pem"),
            }
            bundle = image.host_certificates() or Path(certifi.where())
            (directory / "bundle.pem").write_bytes(bundle.read_bytes() + f"# {_WORDS[1]}\n".encode())
            base = f"{found.address}/debian:bookworm"
            with locked(CACHE / "buildah.lock"):
                run(["buildah", "push", image.base().tag, base], environment=environment)
            yield Workshop(found, base, environment, directory)
            with locked(CACHE / "buildah.lock"):
                names = run(["buildah", "images", "--format={{.Name}}:{{.Tag}}"], environment=environment).split()
                ours = [name for name in names if name.startswith(f"{found.address}/")]
                run(["buildah", "rmi", *ours], environment=environment)
    except MissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    except ClusterError as error:
        pytest.fail(str(error), pytrace=False)


def save_snapshot(workshop: Workshop, *replaced: tuple[str, str], python: str | None = None) -> str:
    """A snapshot whose environment has the packages that jupyter-mlops requires itself, without what those require.

    It cannot run a notebook, and is built and pushed in a fraction of the time.
    """
    import re
    from importlib import metadata

    from jupyter_mlops.snapshot import Snapshot, SnapshotFile, SnapshotStore
    from jupyter_mlops.snapshot.environment import normalized_name, read_environment

    own, _ = read_environment()
    direct = {normalized_name(re.split(r"[^\w.-]", text)[0]) for text in metadata.requires("jupyter-mlops") or ()}
    versions = dict(replaced)
    kept = []
    for dist in own.distributions:
        if dist.name in {*direct, "distributed", "jupyter-mlops"}:
            version = versions.get(dist.name)
            changes = {"version": version, "requirement": f"{dist.name}=={version}"} if version else {}
            kept.append(dist.model_copy(update=changes))
    environment = own.model_copy(update={"distributions": tuple(kept), "python": python or own.python})
    notebook = SnapshotFile(path="n.ipynb", size=2, sha256="44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                            reason="notebook")  # fmt: skip
    snapshot = Snapshot.of(
        notebook="n.ipynb", files=[notebook], environment=environment, git=None, seed=0, sources={"n.ipynb": b"{}"}
    )
    SnapshotStore(Path(workshop.environment["JUPYTER_MLOPS_DATA_DIR"])).save(snapshot)
    return snapshot.short_id


@pytest.fixture(scope="session")
def pushed(workshop: Workshop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """An image that the commands built from a snapshot and pushed: its name, and what they answered."""
    name = f"{workshop.registry.address}/team/train:1"
    built = workshop.built(
        "build", save_snapshot(workshop), "-t", name, "--base", workshop.base, "--builder", "buildah"
    )
    return name, built, workshop.built("push", name, "--builder", "buildah")


def test_the_commands_build_a_snapshots_image_and_pin_it_by_the_registrys_digest(
    workshop: Workshop, pushed: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    name, built, answer = pushed
    assert built["image"] == name
    assert built["base"] == {"name": workshop.base, "digest": workshop.registry.digest("debian", "bookworm")}
    assert built["id"].startswith("sha256:")
    assert "MB" in built["size"]
    assert [project["name"] for project in built["projects"]] == ["jupyter-mlops"]
    assert answer["digest"] == workshop.registry.digest("team/train", "1")
    assert answer["reference"] == f"{workshop.registry.address}/team/train@{answer['digest']}"
    assert Profile(name="p", image=answer["reference"]).image == answer["reference"]

    config = workshop.registry.config("team/train", answer["digest"])
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.base.name"] == workshop.base
    assert labels["org.opencontainers.image.base.digest"] == built["base"]["digest"]
    assert labels["jupyter-mlops.version.mlflow"] == built["versions"]["mlflow"]
    assert labels["jupyter-mlops.lock"] == built["lock"]


def test_nothing_of_pips_configuration_is_in_what_was_pushed(
    workshop: Workshop, pushed: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    blobs = workshop.registry.blobs()
    assert len(blobs) > 5
    for blob in blobs:
        data = blob.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        for word in (*_WORDS, str(workshop.directory)):
            assert word.encode() not in data, blob


@pytest.mark.parametrize(
    ("replaced", "python", "sentence"),
    [
        ([("click", "99.1")], None, "The package click==99.1 cannot be installed"),
        ([], "3.12.1", "The base image has Python 3.11, and the environment has Python 3.12."),
    ],
)
def test_a_build_that_fails_says_why_in_one_sentence(
    workshop: Workshop, replaced: list[tuple[str, str]], python: str | None, sentence: str
) -> None:
    name = save_snapshot(workshop, *replaced, python=python)
    done = workshop.mlops("build", name, "-t", "localhost/failing:1", "--base", workshop.base, "--builder", "buildah")
    assert done.returncode == 1, done.stderr[-2000:]
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_base_that_the_registry_does_not_have_is_told(workshop: Workshop) -> None:
    base = f"{workshop.registry.address}/no/such:1"
    done = workshop.mlops(
        "build", save_snapshot(workshop), "-t", "localhost/failing:1", "--base", base, "--builder", "buildah"
    )
    assert done.returncode == 1
    assert "The registry has no such image." in done.stderr


def configuration(built: image.Image) -> dict[str, Any]:
    with tarfile.open(built.archive) as archive:
        manifest = json.loads(_read(archive, "manifest.json"))[0]
        found: dict[str, Any] = json.loads(_read(archive, manifest["Config"]))
        return found


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    assert member is not None
    return member.read()
