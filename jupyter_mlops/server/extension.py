"""What jupyter_server loads: puts the routes and the websocket under `/mlops`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

PREFIX = "mlops"
_THREADS = 8
"""Requests that the core works on at the same time; further ones wait."""


def load(server: ServerApp) -> None:
    """Add the handlers to a server. Nothing heavy is imported before the first request.

    Args:
        server: It gives the login, the rights, the XSRF check and the contents.
    """
    from jupyter_server.utils import url_path_join
    from tornado import web

    from .context import Context
    from .event_socket import EventSocket, ListWatch
    from .handlers import RouteHandler, by_path, pattern
    from .openapi_handler import OpenAPIHandler
    from .routes import ROUTES

    context = Context(server.contents_manager)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mlops-rest")
    base = url_path_join(server.web_app.settings["base_url"], PREFIX)
    handlers: list[Any] = [
        (base + pattern(path), RouteHandler, {"context": context, "routes": routes, "pool": pool})
        for path, routes in by_path(ROUTES).items()
    ]
    handlers.append((base + "/events", EventSocket, {"context": context, "watch": ListWatch(context)}))
    handlers.append((base + r"/openapi\.json", OpenAPIHandler, {"prefix": base}))
    server.web_app.add_handlers(".*$", [web.url(*handler) for handler in handlers])
    server.log.info("jupyter-mlops is at %s", base)
