"""Tornado's side of the routes: login, rights, JSON in and out, and the core in threads."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import APIHandler
from pydantic import BaseModel, ValidationError
from tornado import web

from ..errors import (
    ClusterError,
    ConfigError,
    KubernetesError,
    MLOpsError,
    NotFoundError,
    StoreError,
    TrackingError,
    UsageError,
)
from ..notebook.strict_json import UnfitError, parse_json
from .context import Context
from .models import Problem
from .routes import Route
from .wire import to_json

_STATUS: tuple[tuple[type[MLOpsError], int], ...] = (
    (NotFoundError, 404),
    (UsageError, 400),
    (ConfigError, 500),
    (StoreError, 503),
    (TrackingError, 503),
    (KubernetesError, 503),
    (ClusterError, 503),
)
"""The first that fits. 503: the same request may do later."""
_STATUS_OF_CODE = {"ended": 409, "forbidden": 403, "disk_full": 507}
LONGEST_BODY = 64 * 2**20
"""Bytes; a notebook with outputs may come along."""


class RouteHandler(APIHandler):  # type: ignore[misc]
    """All methods of one path."""

    def initialize(self, context: Context, routes: Mapping[str, Route], pool: ThreadPoolExecutor) -> None:
        """Tornado's hook: what the path was registered with."""
        self._context = context
        self._routes = routes
        self._pool = pool

    @web.authenticated
    async def get(self, **parts: str) -> None:
        """Answer."""
        await self._answer(parts)

    @web.authenticated
    async def post(self, **parts: str) -> None:
        """Answer."""
        await self._answer(parts)

    async def _answer(self, parts: Mapping[str, str]) -> None:
        route = self._routes.get(self.request.method or "")
        if route is None:
            self.set_header("Allow", ", ".join(self._routes))
            self._tell(405, Problem(message=f"{self.request.method} is not a method of this path.", code="method"))
            return
        user = self.current_user
        if not await ensure_async(self.authorizer.is_authorized(self, user, route.action, route.resource)):
            self._tell(403, Problem(
                message=f"You may not {route.action} {route.resource} on this server.",
                hint="Ask whoever runs the server.", code="forbidden",
            ))  # fmt: skip
            return
        try:
            asked: dict[str, Any] = dict(parts)
            if route.query is not None:
                asked["query"] = self._query(route.query)
            if route.body is not None:
                asked["body"] = self._body(route.body)
            call = partial(route.call, self._context, **asked)
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except MLOpsError as error:
            self._tell(status_of(error), Problem(message=error.message, hint=error.hint, code=error.code))
            return
        self.set_status(route.status)
        await self.finish(to_json(answer))

    def _query(self, model: type[BaseModel]) -> BaseModel:
        given = {}
        for name, values in self.request.query_arguments.items():
            if len(values) > 1:
                raise UsageError(f"{name!r} is given more than once.", code="request")
            if name in ("token", "no_track_activity"):  # jupyter_server's own
                continue
            if name.isdecimal() and values == [b""]:  # JupyterLab adds the time, so that no cache answers
                continue
            given[name] = values[0].decode("utf-8", "replace")
        return _validated(model, given)

    def _body(self, model: type[BaseModel]) -> BaseModel:
        body = self.request.body
        if len(body) > LONGEST_BODY:
            raise UsageError(f"The request is longer than {LONGEST_BODY // 2**20} MiB.", code="request")
        try:
            given = parse_json(body.decode("utf-8")) if body.strip() else {}
        except (ValueError, UnfitError, RecursionError) as error:
            raise UsageError(f"The request is no JSON: {error}.", code="request") from None
        return _validated(model, given)

    def _tell(self, status: int, problem: Problem) -> None:
        self.set_status(status)
        self.finish(to_json(problem))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What was not foreseen, as a `Problem` too; its traceback goes to the server's log alone."""
        error = (kwargs.get("exc_info") or (None, None))[1]
        message = getattr(error, "log_message", None) or getattr(error, "reason", None)
        if not isinstance(error, web.HTTPError):
            message = f"The server could not do it: {type(error).__name__}."
        self.set_header("Content-Type", "application/json")
        problem = Problem(
            message=str(message or f"HTTP status {status_code}."),
            hint="The log of the Jupyter server says more." if status_code >= 500 else "",
            code="forbidden" if status_code == 403 else "internal" if status_code >= 500 else "request",
        )
        self.finish(to_json(problem))


def status_of(error: MLOpsError) -> int:
    """The HTTP status of an error of the core."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def pattern(path: str) -> str:
    """The regular expression of a route's path."""
    return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))


def by_path(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """The routes of each path, by method."""
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        found.setdefault(route.path, {})[route.method] = route
    return found


def _validated(model: type[BaseModel], given: Any) -> BaseModel:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        value = json.dumps(first.get("input"), default=str)[:80] if first["type"] != "missing" else ""
        said = f"{where}: {first['msg']}{f' (given: {value})' if value else ''}."
        raise UsageError(said, code="request") from None
