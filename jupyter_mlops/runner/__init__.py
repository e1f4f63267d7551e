"""Runners: where a run is executed. A runner takes a `RunSpec` and nothing else.

`local` and `kubernetes` are found through the entry-point group `jupyter_mlops.runners`, so that others can add one.
A runner knows no HTTP, no command line and no store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..config import MLOps
from ..errors import ProfileError, nearest
from ..events import Event
from ..spec import RunSpec

GROUP = "jupyter_mlops.runners"


class Runner(Protocol):
    """Where a run is executed."""

    def __init__(self, config: MLOps) -> None: ...

    def check(self, spec: RunSpec) -> None:
        """Refuse what this runner cannot give, before anything is created."""

    def submit(self, spec: RunSpec) -> None:
        """Start the run; a run that was started already is left alone."""

    def events(self, run_id: str, *, follow: bool, stop: Callable[[], bool]) -> Iterator[Event]:
        """The events from the first on; with `follow` until the end or `stop()`."""

    def cancel(self, run_id: str, *, by: str) -> None:
        """Ask the run to end; returns at once. A run that has ended is left alone."""

    def reconcile(self, run_id: str) -> None:
        """Give a run whose processes are gone without a record the record that it lacks."""

    def standing(self, run_ids: Sequence[str]) -> Iterator[tuple[str, list[Event]]]:
        """Events that tell how each of these runs stands, as `reconcile` leaves it; many cost little more than one.

        A run that cannot be seen now is left out. What a running one printed is not among the events.
        """

    def files(self, run_id: str) -> Path:
        """The directory with the run's files on this machine."""


@runtime_checkable
class ElasticRunner(Protocol):
    """A runner whose runs can get more or fewer Dask workers while they run."""

    def scale(self, spec: RunSpec, workers: int) -> int:
        """Have so many workers, or the next number that can be had; returns that."""


def get_runner(name: str, config: MLOps) -> Runner:
    """The runner of that name.

    Raises:
        ProfileError: none is installed under it.
    """
    found = _installed()
    if name not in found.names:  # it may have been installed since
        _installed.cache_clear()
        found = _installed()
    if name not in found.names:
        raise ProfileError(
            f"There is no runner '{name}'.", hint=nearest(name, found.names, noun="runner"), code="runner"
        )
    runner: type[Runner] = found[name].load()
    return runner(config)


@lru_cache(maxsize=1)
def _installed() -> EntryPoints:
    # Each look reads a file of every installed package, and a list of runs asks for the runner of each.
    return entry_points(group=GROUP)
