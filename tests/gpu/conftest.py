"""What every GPU test needs: an NVIDIA GPU that CUDA shows, and the packages of the extra `gpu`."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

# The fixtures of the integration tests: runs on a data directory of their own.
from tests.integration.conftest import mlflow_database, run_notebook, runs  # noqa: F401

# Read here, because each test runs in a scrubbed environment.
_KEPT = {
    name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "CUDA_HOME") if name in os.environ
}


@pytest.fixture
def gpus(clean_environment: object, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The GPUs of this machine, as `CUDA_VISIBLE_DEVICES` names them."""
    for name, value in _KEPT.items():
        monkeypatch.setenv(name, value)
    missing = [name for name in ("pynvml", "dask_cuda", "numba") if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs the extra gpu: pip install 'jupyter-mlops[gpu]' ({', '.join(missing)} not installed)")
    from jupyter_mlops.cluster.local import visible_gpus

    found = visible_gpus()
    if not found:
        pytest.skip("needs an NVIDIA GPU with its driver: NVML shows none")
    return found
