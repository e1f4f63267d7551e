"""Images: the Debian base, builds from a Dockerfile, and loading into the node. Knows no Kubernetes.

A build depends on its Dockerfile, its arguments, its base and the files it is given, and on nothing else: it sees no other
file. Its result is kept under the digest of these.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import binaries
from .cache import Recipe, digest, ensure, locked, run
from .components import PAUSE_IMAGE
from .places import CACHE, DEBIAN_SUITE, MIRROR_VARIABLE, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .places import Place

_ARCHIVE = "image.tar"
_DEBIAN_MIRROR = "http://deb.debian.org/debian"
_BASE_RECIPE = "1"
"""To be raised when the steps that make the base change."""

_MOUNTED_IN_BUILD = "/mnt"
"""A directory that the base has: of any other mount point an empty file or directory stays in the image."""

_CERTIFICATES = "host-certificates.pem"
_MOST_LAYERS = 8 * 10**9
"""Bytes that the layers of earlier builds may have together."""

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An image in a file, in the format of `docker save`."""

    tag: str
    archive: Path


def pause() -> Image:
    """The image that every pod's first container is made from."""
    program = binaries.pause()
    directory = ensure(
        Recipe(
            title="Packing the pause image",
            kind="image-pause",
            key=f"{machine()}-{digest(program.read_bytes())}",
            expected="a second",
            build=lambda directory: _pack_pause(directory, program),
        )
    )
    return Image(PAUSE_IMAGE, directory / _ARCHIVE)


def base() -> Image:
    """A small Debian, to run in pods (it has a shell) and to build on."""
    mirror = os.environ.get(MIRROR_VARIABLE) or _DEBIAN_MIRROR
    recipe = digest(_BASE_RECIPE, mirror)
    tag = f"localhost/jupyter-mlops-base:{DEBIAN_SUITE}-{recipe}"
    directory = ensure(
        Recipe(
            title=f"Making a base image of Debian {DEBIAN_SUITE}",
            kind="image-base",
            key=f"{DEBIAN_SUITE}-{machine()}-{recipe}",
            expected="about a minute",
            build=lambda directory: _bootstrap(directory, mirror, tag),
        )
    )
    return Image(tag, directory / _ARCHIVE)


def build(name: str, dockerfile: Path, inputs: Mapping[str, Path], arguments: Mapping[str, str] | None = None) -> Image:
    """Build an image, or take the one that was built from exactly this.

    The Dockerfile gets the build arguments BASE, a Debian image, and PIP_CERT, the path of the host's bundle of
    certificates if it has one of its own; that file is there while building and not in the image.

    Args:
        name: The image's name, as in `localhost/NAME`.
        dockerfile: What to do.
        inputs: The files that the Dockerfile may COPY, by their name in the build context.
        arguments: More build arguments. They stay readable in the image: give no secrets.

    Raises:
        ClusterError: If a step fails; with the end of what it printed.
    """
    origin = base()
    contents = [part for path in sorted(inputs) for part in (path, inputs[path].read_bytes())]
    settings = json.dumps(sorted((arguments or {}).items()))
    key = digest(dockerfile.read_bytes(), origin.tag, settings, *contents)
    tag = f"localhost/{name}:{key}"

    def fill(directory: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="context-", dir=directory) as context:
            for path, file in inputs.items():
                target = Path(context, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
            _build(
                directory / _ARCHIVE, tag, dockerfile, Path(context), origin, {"BASE": origin.tag, **(arguments or {})}
            )

    directory = ensure(
        Recipe(title=f"Building the image {name}", kind=f"build-{name}", key=key, expected="minutes", build=fill)
    )
    return Image(tag, directory / _ARCHIVE)


def load(place: Place, archive: Path) -> None:
    """Give an image to the node's containerd, where the kubelet finds it.

    Args:
        place: A node that is up.
        archive: A file as `docker save` or `buildah push … oci-archive:` write it.

    Raises:
        ClusterError: If containerd does not take it.
    """
    _images(place, "import", archive)


def loaded(place: Place) -> set[str]:
    """The names of the images that the node has."""
    return set(_images(place, "list", "--quiet").splitlines())


def host_certificates() -> Path | None:
    """The bundle of certificates that this machine's pip was told to trust, or None for pip's own.

    Behind a company's TLS proxy nothing can be installed without it.
    """
    told = [os.environ.get("PIP_CERT")]
    asked = [sys.executable, "-m", "pip", "config", "get", "global.cert"]
    told += [subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()]
    told += [os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
    return next((Path(name) for name in told if name and Path(name).is_file()), None)


def _images(place: Place, *arguments: str | Path) -> str:
    return run(["ctr", f"--address={place.containerd_socket}", "--namespace=k8s.io", "images", *arguments])


def _pack_pause(directory: Path, program: Path) -> None:
    layer = directory / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        entry = tarfile.TarInfo("pause")
        entry.mode, entry.size = 0o755, program.stat().st_size
        with program.open("rb") as file:
            tar.addfile(entry, file)
    _write_archive(directory / _ARCHIVE, layer, PAUSE_IMAGE, {"Entrypoint": ["/pause"], "User": "65535:65535"})
    layer.unlink()


def _bootstrap(directory: Path, mirror: str, tag: str) -> None:
    root = directory / "root"
    _run_apart(["debootstrap", "--variant=minbase", DEBIAN_SUITE, root, mirror])
    # apt wants the folders without their contents; names and resolvers of this machine are not the image's.
    for pattern in (
        "var/cache/apt/archives/*.deb",
        "var/lib/apt/lists/*_*",
        "var/log/*.log",
        "etc/resolv.conf",
        "etc/hostname",
    ):
        for file in root.glob(pattern):
            file.unlink()
    for name in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (root / name).mkdir(parents=True, exist_ok=True)
    layer = directory / "layer.tar"
    run(["tar", "--create", "--numeric-owner", f"--file={layer}", f"--directory={root}", "."])
    _write_archive(directory / _ARCHIVE, layer, tag, {"Cmd": ["/bin/sh"], "Env": [_PATH]})
    layer.unlink()
    shutil.rmtree(root)


def _write_archive(target: Path, layer: Path, tag: str, config: dict[str, Any]) -> None:
    """Write an image of one layer as `docker save` does."""
    checksum = hashlib.sha256()
    with layer.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    image = {
        "architecture": machine(),
        "os": "linux",
        "config": config,
        "history": [{"created_by": "tests.cluster"}],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{checksum.hexdigest()}"]},
    }
    text = json.dumps(image).encode()
    config_name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as tar:
        for name, data in ((config_name, text), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        tar.add(layer, "layer.tar")


def _build(
    target: Path, tag: str, dockerfile: Path, context: Path, origin: Image, arguments: Mapping[str, str]
) -> None:
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    certificates = host_certificates()
    with _buildah() as (buildah, scratch):
        if certificates is not None:
            # At a path of its own: over /etc/ssl/certs it would break Debian's package of certificates.
            mounted = scratch / "certificates"
            mounted.mkdir()
            shutil.copy(certificates, mounted / _CERTIFICATES)
            options += [f"--volume={mounted}:{_MOUNTED_IN_BUILD}:ro"]
            options += [f"--build-arg=PIP_CERT={_MOUNTED_IN_BUILD}/{_CERTIFICATES}"]
        buildah("rm", "--all")
        buildah("pull", f"docker-archive:{origin.archive}")
        buildah(
            "build", "--layers", "--isolation=chroot", "--network=host", "--pull-never", f"--tag={tag}",
            f"--file={dockerfile}", *options, context,
        )  # fmt: skip
        buildah("push", tag, f"docker-archive:{target}:{tag}")
        # What earlier builds of this image share with it, and layers of stages that are in no image, make the next one
        # quick; the rest goes.
        names = buildah("images", "--format={{.Name}}:{{.Tag}}").split()
        earlier = [name for name in names if name.rpartition(":")[0] == tag.rpartition(":")[0] and name != tag]
        if earlier:
            buildah("rmi", *earlier)
        if int(run(["du", "--summarize", "--block-size=1", CACHE / "buildah"]).split()[0]) > _MOST_LAYERS:
            buildah("rmi", "--prune")


@contextmanager
def _buildah() -> Iterator[tuple[Callable[..., str], Path]]:
    """Buildah with a storage of ours, so that layers are reused and nothing of the machine's own is touched.

    Yields:
        What runs it, and a directory for what a build needs while it runs.
    """
    with locked(CACHE / "buildah.lock"):
        scratch = CACHE / "buildah-scratch"
        shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed
        scratch.mkdir(parents=True)
        settings = scratch / "containers.conf"
        # By default it makes a directory in /etc for networks that we do not use.
        settings.write_text(f"[network]\nnetwork_config_dir = {json.dumps(str(scratch))}\n")
        environment = {"CONTAINERS_CONF": str(settings), "TMPDIR": str(scratch)}
        storage = [f"--root={CACHE / 'buildah'}", f"--runroot={scratch / 'running'}", "--storage-driver=overlay"]

        def buildah(*arguments: str | Path) -> str:
            return _run_apart(["buildah", *storage, *arguments], environment)

        try:
            yield buildah, scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _run_apart(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """Run what mounts, so that its mounts and processes end with it even when we are killed."""
    apart = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    return run([*apart, *command], environment=environment)
