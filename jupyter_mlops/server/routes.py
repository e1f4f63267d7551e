"""What there is under `/mlops`: one table, from which the handlers and the OpenAPI description are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from . import models, places_api, runs_api

if TYPE_CHECKING:
    from pydantic import BaseModel

Action = Literal["read", "write", "execute"]
RUNS, NOTEBOOKS, PLACES = "mlops-runs", "mlops-notebooks", "mlops-places"
"""Resources, as the server's authorizer is asked about them."""


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        method: GET or POST.
        path: With `{names}` of its variable parts.
        call: Takes the context, then by name the variable parts, and `query` and `body` where there are such.
        resource: What the authorizer is asked about.
        action: What it is asked whether the person may.
        answer: The type of what comes back.
        query: Model of the query string.
        body: Model of the request's JSON.
        status: Of an answer without a problem.
    """

    method: Literal["GET", "POST"]
    path: str
    call: Callable[..., Any]
    resource: str
    action: Action
    answer: Any
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    status: int = 200

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.call.__doc__ or "").strip().splitlines()[0]


ROUTES = (
    Route("GET", "/runs", runs_api.list_runs, RUNS, "read", models.RunPage, query=models.RunsQuery),
    Route("POST", "/runs", runs_api.start_run, RUNS, "execute", models.Submitted, body=models.NewRun, status=201),
    Route("GET", "/runs/{run_id}", runs_api.get_run, RUNS, "read", models.RunDetails),
    Route("POST", "/runs/{run_id}/cancel", runs_api.cancel_run, RUNS, "execute", models.RunOut, status=202),
    Route(
        "POST", "/runs/{run_id}/retry", runs_api.retry_run, RUNS, "execute", models.RunOut, body=models.RetryRun,
        status=201,
    ),
    Route("GET", "/runs/{run_id}/events", runs_api.list_events, RUNS, "read", models.EventPage,
          query=models.EventsQuery),
    Route("GET", "/runs/{run_id}/notebook", runs_api.executed_notebook, RUNS, "read", dict[str, Any]),
    Route("GET", "/compare", runs_api.compare_runs, RUNS, "read", list[models.ComparedOut], query=models.CompareQuery),
    Route(
        "GET", "/parameters", places_api.read_parameters, NOTEBOOKS, "read", models.Parameters,
        query=models.NotebookQuery,
    ),
    # It changes nothing: a notebook is too long for a query string.
    Route(
        "POST", "/parameters", places_api.parameters_of_content, NOTEBOOKS, "read", models.Parameters,
        body=models.NotebookContent,
    ),
    Route("GET", "/profiles", places_api.list_profiles, PLACES, "read", list[models.ProfileOut]),
    Route("GET", "/capacity", places_api.read_capacity, PLACES, "read", dict[str, Any], query=models.CapacityQuery),
    Route("GET", "/doctor", places_api.run_doctor, PLACES, "read", list[models.CheckOut], query=models.CapacityQuery),
)  # fmt: skip
