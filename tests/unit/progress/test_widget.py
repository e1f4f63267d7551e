from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

import pytest

from jupyter_mlops.errors import UsageError
from jupyter_mlops.events import Event, LogEvent, RunEvent
from jupyter_mlops.progress.widget import RunWidget
from jupyter_mlops.spec import RunState

from .histories import HOSTILE, half_a_run, succeeded_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT = 30.0


class Feed:
    """Events that come when the test says so."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Event | Exception | None] = queue.Queue()

    def give(self, *events: Event | Exception | None) -> None:
        for event in events:
            self._queue.put(event)

    def __call__(self) -> Iterator[Event]:
        while (event := self._queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed()
    yield feed
    feed.give(None)


@pytest.fixture
def show(feed: Feed) -> Iterator[Callable[..., RunWidget]]:
    made: list[RunWidget] = []

    def show(cancel: Callable[[], object] = lambda: None, **given: object) -> RunWidget:
        made.append(RunWidget("r1", feed, cancel, **given))  # type: ignore[arg-type]
        return made[-1]

    yield show
    for widget in made:
        widget.close()


def html(widget: RunWidget) -> str:
    return "".join(_values(widget.box))


def _values(widget: object) -> Iterator[str]:
    if getattr(getattr(widget, "layout", None), "display", None) == "none":
        return
    for child in getattr(widget, "children", ()):
        yield from _values(child)
    yield str(getattr(widget, "value", ""))


def button(widget: RunWidget, name: str) -> object | None:
    """The button of that name, if a person can see it."""

    def found(one: object) -> Iterator[object]:
        if getattr(one, "description", None) == name and one.layout.display != "none":  # type: ignore[attr-defined]
            yield one
        for child in getattr(one, "children", ()):
            yield from found(child)

    return next(found(widget.box), None)


def press(widget: RunWidget, name: str) -> None:
    pressed = button(widget, name)
    assert pressed is not None
    pressed.click()  # type: ignore[attr-defined]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_the_view_follows_the_events_until_the_end(feed: Feed, show: Callable[..., RunWidget]) -> None:
    widget = show()
    assert "Waiting" in html(widget)
    feed.give(*half_a_run())
    eventually(lambda: "Cell 2 of 3: train the model" in html(widget))
    assert widget.wait(timeout=0.01) is None
    feed.give(*succeeded_run()[len(half_a_run()) :])
    final = widget.wait(timeout=WAIT)
    assert final is not None
    assert final.state is RunState.SUCCEEDED
    assert "3 of 3 cells" in html(widget)
    assert button(widget, "Cancel run") is None


def test_cancelling_takes_a_second_press(feed: Feed, show: Callable[..., RunWidget]) -> None:
    cancelled = threading.Event()
    widget = show(cancelled.set)
    press(widget, "Cancel run")
    assert button(widget, "Cancel run") is None
    press(widget, "Keep running")
    assert not cancelled.is_set()
    press(widget, "Cancel run")
    press(widget, "Yes, cancel the run")
    assert cancelled.wait(WAIT)
    eventually(lambda: "The run was asked to end." in html(widget))


def test_a_run_that_cannot_be_cancelled_says_why_and_lets_it_be_tried_again(
    show: Callable[..., RunWidget],
) -> None:
    def refuse() -> None:
        raise UsageError(f"It has ended {HOSTILE[0]}.", hint="Look at it.")

    widget = show(refuse)
    press(widget, "Cancel run")
    press(widget, "Yes, cancel the run")
    eventually(lambda: "It has ended &lt;script&gt;" in html(widget))
    assert "Look at it." in html(widget)
    assert HOSTILE[0] not in html(widget)
    eventually(lambda: not button(widget, "Cancel run").disabled)  # type: ignore[union-attr]


def test_the_log_is_shown_on_demand(feed: Feed, show: Callable[..., RunWidget]) -> None:
    widget = show()
    feed.give(LogEvent(text="epoch 1\n"))
    eventually(widget.state.log.lines)
    assert "epoch 1" not in html(widget)
    button(widget, "Show log").value = True  # type: ignore[union-attr]
    assert "epoch 1" in html(widget)
    button(widget, "Hide log").value = False  # type: ignore[union-attr]
    assert "epoch 1" not in html(widget)


def test_events_that_cannot_be_read_are_told_and_raised(feed: Feed, show: Callable[..., RunWidget]) -> None:
    widget = show()
    feed.give(*half_a_run(), OSError("the disk is gone"))
    with pytest.raises(OSError, match="the disk is gone"):
        widget.wait(timeout=WAIT)
    assert "the disk is gone" in html(widget)
    assert "%mlops attach r1" in html(widget)


def test_events_that_end_early_end_the_view(feed: Feed, show: Callable[..., RunWidget]) -> None:
    widget = show()
    feed.give(*half_a_run(), None)
    assert widget.wait(timeout=WAIT) is None
    assert button(widget, "Cancel run") is None


def test_closing_ends_the_threads(feed: Feed, show: Callable[..., RunWidget]) -> None:
    before = set(threading.enumerate())
    widget = show()
    ours = set(threading.enumerate()) - before
    assert len(ours) == 2
    assert all(thread.daemon for thread in ours)  # nothing of ours keeps a kernel from its exit
    widget.close()
    feed.give(RunEvent(state=RunState.RUNNING))  # the reading one ends with the next event
    for thread in ours:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in ours)
    assert widget.state.state is RunState.PENDING


def test_a_closed_view_still_has_a_picture(feed: Feed, show: Callable[..., RunWidget]) -> None:
    widget = show()
    feed.give(*half_a_run())
    eventually(lambda: widget.state.current)
    widget.close()
    bundle = widget._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "Cell 2 of 3: train the model" in bundle["text/html"]
    assert "Cell 2 of 3: train the model" in bundle["text/plain"]


def test_a_live_view_brings_a_picture_for_viewers_without_widgets(show: Callable[..., RunWidget]) -> None:
    bundle = show()._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert "Waiting" in bundle["text/html"]


def test_the_executed_notebook_is_linked_relative_to_where_the_view_is(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, feed: Feed, show: Callable[..., RunWidget]
) -> None:
    from pathlib import Path

    monkeypatch.chdir(str(tmp_path))
    widget = show(files=Path(str(tmp_path)) / "runs" / "r 1")
    feed.give(*succeeded_run())
    widget.wait(timeout=WAIT)
    assert 'href="runs/r%201/executed.ipynb"' in html(widget)
