"""Environments for the tests of this directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_mlops.image.lock import Product
from jupyter_mlops.snapshot.environment import Distribution, Environment

if TYPE_CHECKING:
    from jupyter_mlops.snapshot.environment import Source


def package(name: str, version: str = "1.0", source: Source = "index", requirement: str | None = None) -> Distribution:
    pinned = {
        "local": f"# {name}=={version}: from a local directory, cannot be installed elsewhere",
        "vcs": f"{name} @ git+https://git.example.org/{name}@0123456789abcdef",
    }
    return Distribution(
        name=name,
        version=version,
        source=source,
        requirement=requirement or pinned.get(source, f"{name}=={version}"),
    )


def environment(*packages: Distribution, python: str = "3.11.9", platform: str = "linux-x86_64") -> Environment:
    return Environment(python=python, implementation="CPython", platform=platform, distributions=packages)


def product(**changes: object) -> Product:
    values = {
        "distribution": package("jupyter-mlops", "0.3.0"),
        "requires": (
            "cloudpickle>=3.0",
            "dask[distributed]>=2024.8.1",
            "mlflow>=3.5",
            "dask-cuda>=24.8; sys_platform == 'linux' and extra == 'gpu'",
            "nvidia-ml-py>=12.535; extra == 'gpu'",
            "kubernetes>=29.0; extra == 'kubernetes'",
        ),
        "versions": {
            "cloudpickle": "3.1.1",
            "dask": "2025.9.1",
            "distributed": "2025.9.1",
            "jupyter-mlops": "0.3.0",
            "mlflow": "3.6.0",
        },
    }
    return Product(**{**values, **changes})  # type: ignore[arg-type]


WHOLE = (
    package("cloudpickle", "3.1.0"),
    package("dask", "2025.9.0"),
    package("distributed", "2025.9.0"),
    package("jupyter-mlops", "0.3.0"),
    package("mlflow", "3.6.1"),
    package("numpy", "2.2.0"),
)
"""An environment that has everything that a run needs."""
