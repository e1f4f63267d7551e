"""jupyter-mlops: from a notebook with parameters to a run on your own cluster, tracked in MLflow.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .cluster.client import get_client
    from .magics import load_ipython_extension

__all__ = ["__version__", "get_client", "load_ipython_extension"]

_HOMES = {"get_client": ".cluster.client", "load_ipython_extension": ".magics"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """jupyter_server's hook: the module that it loads."""
    return [{"module": "jupyter_mlops"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """jupyter_server's hook: put the REST interface and the websocket into this server."""
    from .server.extension import load

    load(server)


def __dir__() -> list[str]:
    return sorted(__all__)
