"""What this machine knows of a cluster: a directory with its spec, its certificate, and where its head is.

Whoever can read the certificate can use the cluster, so the directory is its owner's alone. Knows files and no network.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cluster_spec import SPEC_FILE, ClusterSpec
from ..config import MLOps
from ..errors import ClusterError, NotFoundError, UsageError, nearest
from ..worker import birth_of

CLUSTERS = "clusters"
HEAD_FILE = "head.json"
"""Where the head of a cluster on this machine listens, and which process it is."""
PLACE_FILE = "kubernetes.json"
LOG_FILE = "head.log"
CA_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.crt", "tls.crt", "tls.key"
"""As `kubernetes.contract` calls them in a pod."""


@dataclass(frozen=True)
class Place:
    """Where a cluster on Kubernetes is.

    Attributes:
        context: Context of the kubeconfig, or None: the current one.
        host: The API server that it named then.
        namespace: The namespace.
        name: Of the Job.
        uid: Of the Job.
    """

    context: str | None
    host: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Known:
    """A cluster that was started from here.

    Attributes:
        spec: What it was made from.
        directory: Holds the rest.
    """

    spec: ClusterSpec
    directory: Path

    @property
    def place(self) -> Place | None:
        """Where it is in Kubernetes; None: on this machine, or nowhere yet."""
        found = _read(self.directory / PLACE_FILE)
        return None if found is None else Place(**found)

    @property
    def head(self) -> dict[str, Any] | None:
        """What the head on this machine says of itself; None: it is starting, or in Kubernetes."""
        return _read(self.directory / HEAD_FILE)

    def note(self, place: Place) -> None:
        """Remember where it is in Kubernetes."""
        write_private(self.directory / PLACE_FILE, json.dumps(asdict(place)).encode())

    def forget(self) -> None:
        """Remove everything that is known of it."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def last_words(self) -> str:
        """The last line that the head printed, or an empty string."""
        try:
            lines = (self.directory / LOG_FILE).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether the process of a head on this machine lives; that of another machine's cannot be seen, and may."""
    if process.get("host") != socket.gethostname():
        return True
    return birth_of(int(process["pid"])) == process.get("born")


def remember(config: MLOps, spec: ClusterSpec, files: Mapping[str, str]) -> Known:
    """Make the directory of a new cluster.

    Args:
        config: Says where.
        spec: The cluster.
        files: Its certificate, by file name.

    Raises:
        UsageError: there is one of this name.
        ClusterError: it cannot be written.
    """
    directory = config.data_path / CLUSTERS / spec.name
    try:
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        # Whole or not at all: a directory without its spec would keep the name, and no command would know it.
        made = Path(tempfile.mkdtemp(prefix=".cluster-", dir=config.data_path))
        try:
            for name, text in files.items():
                write_private(made / name, text.encode())
            write_private(made / SPEC_FILE, spec.model_dump_json(indent=1).encode())
            made.rename(directory)
        except OSError:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise UsageError(
                f"There is a cluster '{spec.name}' already.",
                hint=f"Use it, end it (jupyter mlops cluster stop {spec.name}), or choose another --name.",
                code="exists",
            ) from None
        raise ClusterError(
            f"The directory of the cluster cannot be written: {error.strerror or error}.",
            hint="Free some space, or set JUPYTER_MLOPS_DATA_DIR.", code="disk_full",
        ) from error  # fmt: skip
    return Known(spec, directory)


def all_known(config: MLOps) -> list[Known]:
    """The clusters that were started from here and whose directory is there, by name."""
    found = []
    for path in sorted((config.data_path / CLUSTERS).glob(f"*/{SPEC_FILE}")):
        try:
            found.append(Known(ClusterSpec.read(path.parent), path.parent))
        except (OSError, ValueError):  # it is being removed, or is of a newer version
            continue
    return found


def known(config: MLOps, name: str) -> Known:
    """The cluster of that name.

    Raises:
        NotFoundError: none was started from here.
    """
    found = {each.spec.name: each for each in all_known(config)}
    if name not in found:
        hint = nearest(name, found, noun="cluster") if found else "Start one: jupyter mlops cluster start"
        raise NotFoundError(f"There is no cluster '{name}'.", hint=hint)
    return found[name]


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, for nobody else to read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
