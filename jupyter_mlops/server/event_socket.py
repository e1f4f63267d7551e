"""Runs as they go, over one websocket: what the browser follows is pushed to it.

The browser says `{"follow": RUN, "after": N}` and `{"unfollow": RUN}`. It hears `{"run": RUN, "after": N, "events":
[...]}`, where N counts the events that it has with these; `{"run": RUN, "ended": true}` when no more will come; and
`{"changed": [run, ...]}` for each run of the list that is new or stands otherwise than it was told last.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from pydantic import BaseModel, ConfigDict, Field
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ..errors import MLOpsError
from ..events import Event
from ..notebook.strict_json import UnfitError, parse_json
from .models import Problem, RunName
from .routes import RUNS
from .runs_api import run_out
from .wire import to_json

if TYPE_CHECKING:
    from .context import Context

_log = logging.getLogger(__name__)
_MOST_FOLLOWED = 32
_MOST_WAITING = 500
"""Events of a run that wait for a browser; also the most in one message."""
_PATIENCE = 1.0
"""Seconds between two looks whether the browser still wants more."""
_SLOWEST = 15.0
"""Seconds that a browser may leave a message of the list untaken, which all the others wait for."""
_LIST_SECONDS = 2.0
"""Seconds between two looks of the server at the list of runs, while somebody listens."""
_LISTED = 100
"""Runs of the list that are watched: the newest."""
_LONGEST_MESSAGE = 4096


class _Request(BaseModel):
    """What a browser says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    follow: RunName | None = None
    unfollow: RunName | None = None
    after: int = Field(default=0, ge=0)


class EventSocket(WebSocketMixin, WebSocketHandler, JupyterHandler):  # type: ignore[misc]
    """One browser that listens."""

    def initialize(self, context: Context, watch: ListWatch) -> None:
        """Tornado's hook: what the path was registered with."""
        self._context = context
        self._watch = watch
        self._followed: dict[str, threading.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Let in whoever is logged in and may read runs."""
        user = self.current_user
        if user is None:
            raise web.HTTPError(403)
        if not await ensure_async(self.authorizer.is_authorized(self, user, "read", RUNS)):
            raise web.HTTPError(403)
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Begin to tell of the list."""
        super().open(*args, **kwargs)
        self._loop = asyncio.get_running_loop()
        self._watch.join(self._send_from_thread)

    def on_close(self) -> None:
        """Stop everything that was started for this browser."""
        self._watch.leave(self._send_from_thread)
        for stop in self._followed.values():
            stop.set()
        self._followed.clear()

    async def on_message(self, message: str | bytes) -> None:
        """Follow a run, or no more."""
        try:
            asked = _Request.model_validate(parse_json(_text(message)))
            if asked.follow is not None:
                self._follow(asked.follow, asked.after)
            if asked.unfollow is not None:
                self._unfollow(asked.unfollow)
        except (ValueError, UnfitError, RecursionError) as error:
            said = str(error).splitlines()[0]
            await self._send({"problem": Problem(message=f"The message cannot be read: {said}.", code="request")})

    def _follow(self, run_id: str, after: int) -> None:
        if run_id in self._followed:
            return
        if len(self._followed) >= _MOST_FOLLOWED:
            raise ValueError(f"{_MOST_FOLLOWED} runs are followed already")
        stop = self._followed[run_id] = threading.Event()
        threading.Thread(
            target=self._tell_events, args=(run_id, after, stop), name=f"mlops-follow-{run_id}", daemon=True
        ).start()

    def _unfollow(self, run_id: str) -> None:
        stop = self._followed.pop(run_id, None)
        if stop is not None:
            stop.set()

    def _tell_events(self, run_id: str, after: int, stop: threading.Event) -> None:
        """The thread of one followed run; a browser that reads slowly holds it up and nothing else."""
        try:
            record = self._context.runs.get(run_id)
            events = self._context.runs.events(record, follow=True, stop=stop.is_set)
            feed = Feed(self._send, run_id, after, stop)
            for event in skipping(events, after):
                if not feed.put(event, self._loop):
                    return
            if feed.drain() and not stop.is_set():
                self._send_from_thread({"run": run_id, "ended": True, "changed": [
                    run_out(self._context, self._context.runs.get(run_id))
                ]})  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the browser would wait for ever
            self._send_from_thread({"run": run_id, "problem": _problem_of(error)})
        finally:
            if self._followed.get(run_id) is stop:
                self._followed.pop(run_id, None)

    def _send_from_thread(self, message: dict[str, Any]) -> bool:
        """Send from another thread, and wait until it has gone out; False: nobody is there any more."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        try:
            return asyncio.run_coroutine_threadsafe(self._send(message), loop).result(_SLOWEST)
        except FutureTimeoutError:  # a computer that sleeps: its browser comes again, and is told anew
            loop.call_soon_threadsafe(self.close)
            return False
        except RuntimeError:  # the loop was closed in between
            return False

    async def _send(self, message: dict[str, Any]) -> bool:
        try:
            await self.write_message(to_json(message))
        except WebSocketClosedError:
            return False
        return True


class Feed:
    """From the thread that reads a run's events to the loop that sends them.

    What comes while one message goes out is the next message: a burst is few messages, a single event does not wait.

    Args:
        send: Sends a message; False: nobody is there any more.
        run_id: The run.
        after: Events that the browser has.
        stop: Set when it does not want more.
    """

    def __init__(
        self, send: Callable[[dict[str, Any]], Awaitable[bool]], run_id: str, after: int, stop: threading.Event
    ) -> None:
        self._send = send
        self._run_id = run_id
        self._after = after
        self._stop = stop
        self._waiting: list[Event] = []
        self._sending = False
        self._changed = threading.Condition()

    def put(self, event: Event, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Hand over one event; waits while the browser is behind. False: it is not wanted any more."""
        with self._changed:
            while len(self._waiting) >= _MOST_WAITING and not self._stop.is_set():
                self._changed.wait(_PATIENCE)
            if self._stop.is_set() or loop is None or loop.is_closed():
                return False
            self._waiting.append(event)
            if self._sending:
                return True
            self._sending = True
        asyncio.run_coroutine_threadsafe(self._send_all(), loop)
        return True

    def drain(self) -> bool:
        """Wait until all has gone out; False: it is not wanted any more."""
        with self._changed:
            while self._sending and not self._stop.is_set():
                self._changed.wait(_PATIENCE)
        return not self._stop.is_set()

    async def _send_all(self) -> None:
        while True:
            with self._changed:
                batch, self._waiting = self._waiting, []
                if not batch or self._stop.is_set():
                    self._sending = False
                    self._changed.notify_all()
                    return
                self._changed.notify_all()
            self._after += len(batch)
            told = {"run": self._run_id, "after": self._after, "events": [event.model_dump() for event in batch]}
            if not await self._send(told):
                self._stop.set()


class ListWatch:
    """Looks at the list of runs while somebody listens, once for all who do.

    Args:
        context: Of the server.
        seconds: Between two looks.
    """

    def __init__(self, context: Context, *, seconds: float = _LIST_SECONDS) -> None:
        self._context = context
        self._seconds = seconds
        self._lock = threading.Lock()
        self._listeners: list[Callable[[dict[str, Any]], bool]] = []
        self._running = False
        self._wake = threading.Event()

    def join(self, listener: Callable[[dict[str, Any]], bool]) -> None:
        """Tell this one too; it must be callable from another thread."""
        with self._lock:
            self._listeners.append(listener)
            if not self._running:
                self._running = True
                threading.Thread(target=self._look, name="mlops-list", daemon=True).start()
            self._wake.set()

    def leave(self, listener: Callable[[dict[str, Any]], bool]) -> None:
        """Tell it no more."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
            self._wake.set()

    def look_now(self) -> None:
        """Look at once: somebody has just changed something."""
        self._wake.set()

    def _look(self) -> None:
        known: dict[str, tuple[Any, ...]] = {}
        first = True
        while True:
            with self._lock:
                listeners = list(self._listeners)
                if not listeners:
                    self._running = False
                    return
                self._wake.clear()
            try:
                records = self._context.runs.find(limit=_LISTED)
            except Exception as error:  # noqa: BLE001 - without this thread no browser would hear of anything again
                self._tell(listeners, {"problem": _problem_of(error)})
            else:
                stands = {record.run_id: (record.state, record.code, record.mlflow_run_id) for record in records}
                changed = [record for record in records if known.get(record.run_id) != stands[record.run_id]]
                known = stands
                if changed and not first:
                    self._tell(listeners, {"changed": [run_out(self._context, record) for record in changed]})
                first = False
            self._wake.wait(self._seconds)

    def _tell(self, listeners: list[Callable[[dict[str, Any]], bool]], message: dict[str, Any]) -> None:
        for listener in listeners:
            if not listener(message):  # it is gone, or takes nothing: it hears the list when it comes again
                self.leave(listener)


def _problem_of(error: Exception) -> Problem:
    """What went wrong, for the browser; the traceback of what was not foreseen goes to the server's log alone."""
    if isinstance(error, MLOpsError):
        return Problem(message=error.message, hint=error.hint, code=error.code)
    _log.error("The runs could not be looked at.", exc_info=error)
    return Problem(
        message=f"The server could not do it: {type(error).__name__}.", hint="The log of the Jupyter server says more.",
        code="internal",
    )  # fmt: skip


def _text(message: str | bytes) -> str:
    if len(message) > _LONGEST_MESSAGE:
        raise ValueError("it is too long")
    return message if isinstance(message, str) else message.decode("utf-8")


def skipping(events: Iterator[Event], count: int) -> Iterator[Event]:
    """The events from the one after the first `count` on."""
    for index, event in enumerate(events):
        if index >= count:
            yield event
