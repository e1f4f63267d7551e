"""What `doctor --pod` looks at inside of a pod: `python -m jupyter_mlops.doctor.inside` prints it as a line of JSON.

Decides nothing: what was found is judged by the client, which knows what was asked for (`pod.py`).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from ..kubernetes import contract

MARK = "jupyter-mlops-doctor "
"""Begins the line: whatever a library prints besides is passed over."""
_MLFLOW_PATIENCE = 20.0
_API_SERVICE = "kubernetes.default.svc"


def main() -> int:
    """Look, and print what was found."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or ""
    found = {
        "version": contract.VERSION,
        "python": platform.python_version(),
        "packages": packages(),
        "node": os.environ.get(contract.NODE_NAME_VARIABLE, ""),
        "gpus": gpus(),
        "driver": driver(),
        "scratch": {path: written(path) for path in _scratch()},
        "names": {host: resolved(host) for host in (_API_SERVICE, urlsplit(uri).hostname) if host},
        "mlflow": mlflow(uri) if uri else None,
    }
    sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
    sys.stdout.flush()
    return 0


def packages() -> dict[str, str]:
    """The versions of what should be the same here and at the client."""
    from importlib.metadata import PackageNotFoundError, version

    from ..kubernetes.versions import TOLD

    found = {}
    for name in TOLD:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def gpus() -> list[str] | None:
    """The names of the GPUs; None: no driver answers."""
    from .machine import visible_gpus

    found = visible_gpus()
    return None if found is None else list(found)


def driver() -> str:
    """The version of NVIDIA's driver; empty: it does not say."""
    try:
        import pynvml

        pynvml.nvmlInit()
        said = pynvml.nvmlSystemGetDriverVersion()
    except Exception:  # noqa: BLE001 - no binding or no driver
        return ""
    return said.decode() if isinstance(said, bytes) else str(said)


def written(path: str) -> dict[str, Any]:
    """Whether a directory can be written, and what is free there, in bytes."""
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x" * 2**20)
            file.flush()
        return {"error": "", "free": shutil.disk_usage(path).free}
    except OSError as error:
        return {"error": error.strerror or str(error), "free": 0}


def resolved(host: str) -> str:
    """Why a name has no address; empty: it has one."""
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        return str(error)
    return ""


def mlflow(uri: str) -> dict[str, str]:
    """Why MLflow cannot be used from here; empty sentences: it can."""
    from ..errors import MLOpsError
    from ..tracking.server import check_tracking

    try:
        check_tracking(uri, _MLFLOW_PATIENCE)
    except MLOpsError as error:
        return {"message": error.message, "hint": error.hint}
    return {"message": "", "hint": ""}


def _scratch() -> tuple[str, ...]:
    return (
        contract.WORK_DIR, contract.HOME_DIR, contract.TEMPORARY_DIR, contract.SPILL_DIR, contract.SHM_DIR
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
