"""Serves the description of the REST interface."""

from __future__ import annotations

from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import APIHandler
from tornado import web

from .openapi import description
from .routes import PLACES
from .wire import to_json


class OpenAPIHandler(APIHandler):  # type: ignore[misc]
    """`GET /mlops/openapi.json`."""

    def initialize(self, prefix: str) -> None:
        """Tornado's hook: what the path was registered with."""
        self._prefix = prefix

    @web.authenticated
    async def get(self) -> None:
        """The document."""
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, "read", PLACES)):
            raise web.HTTPError(403)
        await self.finish(to_json(description(self._prefix)))
