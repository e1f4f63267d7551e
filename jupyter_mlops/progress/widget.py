"""The live view of a run in a notebook: ipywidgets around `render_html`, fed by a thread.

May not know where events come from nor how a run is cancelled: both are functions given to it. Its content
is made from the events alone, so that a new widget after a restart of the kernel shows what the old one
showed.

What a saved notebook keeps. JupyterLab does not save the state of widgets, and a reopened notebook shows
"model not found" in place of a widget even where the output holds HTML as well (the widget comes first). So
the output of the widget is replaced by plain HTML when the run ends, and until then a line beside it says
how to see the run again.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MLOpsError
from .render_html import (
    STYLE,
    Links,
    opening,
    render,
    render_links,
    render_log,
    render_metrics,
    render_status,
)
from .state import ProgressState, printable
from .words import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..events import Event, RunEvent

_SHORTEST_PAUSE = 0.25
_TICK = 1.0
"""Seconds: at most four drawings a second, and one each second for the clock alone."""


class RunWidget:
    """Shows one run until it ends, with a button that cancels it. Show it with `display`, as often as wanted.

    Args:
        run_id: The run.
        events: Called once, in a thread: the run's events from the first on, waiting for more until the end.
        cancel: Asks the run to end; called in a thread, after the person has confirmed.
        expected: Seconds per cell in earlier runs, by digest (`state.expected_durations`).
        files: The run's directory.
        notebook: The executed notebook, relative to the one that shows the run; default: the one in `files`.
        mlflow_url: The run in MLflow, until the run itself tells it.

    Attributes:
        box: The ipywidgets VBox, for putting the view among other widgets.
        state: What is known of the run; fed by the thread.
    """

    def __init__(
        self,
        run_id: str,
        events: Callable[[], Iterator[Event]],
        cancel: Callable[[], object],
        *,
        expected: Mapping[str, float] | None = None,
        files: Path | None = None,
        notebook: str | None = None,
        mlflow_url: str | None = None,
    ) -> None:
        self.state = ProgressState(run_id=run_id, expected=expected or {})
        self._links = Links(
            mlflow=mlflow_url,
            notebook=notebook or _relative_notebook(files),
            files=None if files is None else str(files),
        )
        self._events = events
        self._cancel = cancel
        self._error: BaseException | None = None
        self._displays: list[str] = []
        self._replaced = False
        self._state_lock = threading.Lock()
        self._output_lock = threading.RLock()
        self._news = threading.Event()
        self._read_all = threading.Event()
        self._stop = threading.Event()
        self._done = threading.Event()
        self._build()
        self._draw()
        atexit.register(self._stop.set)
        name = f"mlops-progress-{run_id}"
        self._painter = threading.Thread(target=self._paint, name=f"{name}-paint", daemon=True)
        threading.Thread(target=self._read, name=f"{name}-read", daemon=True).start()
        self._painter.start()

    @property
    def final(self) -> RunEvent | None:
        """The event that ended the run, or None."""
        return self.state.final

    def wait(self, timeout: float | None = None) -> RunEvent | None:
        """Wait for the end of the run, or of the view.

        Args:
            timeout: Seconds to wait at most; None: as long as it takes.

        Returns:
            The event that ended the run; None: the view was closed, or the time is over.

        Raises:
            Exception: what the events raised, if they could not be read to their end.
        """
        # A busy kernel may leave a pressed button until it is free again (ipykernel 6 and 7.4 do).
        self._tell("This cell waits for the run. To go on without it, interrupt the kernel: the run stays.")
        try:
            # In slices: a wait without a limit cannot be interrupted on every system.
            slice_ = 0.2
            while timeout is None or timeout > 0:
                if self._done.wait(slice_ if timeout is None else min(slice_, timeout)):
                    break
                timeout = None if timeout is None else timeout - slice_
        finally:
            self._tell("")
        if self._error is not None:
            raise self._error
        return self.final

    def close(self) -> None:
        """End the view and leave its last picture; the run goes on.

        The thread that waits for events ends when the next one comes.
        """
        self._stop.set()
        self._news.set()
        if threading.current_thread() is not self._painter:
            self._painter.join(timeout=5)
        self._replace_displays()
        for widget in [*self._parts, self.box]:
            widget.close()

    def _ipython_display_(self, **_: Any) -> None:
        from IPython.display import display

        with self._output_lock:
            if self._replaced:
                display(self._static(), raw=True)
                return
            name = f"mlops-run-{secrets.token_hex(8)}"
            self._displays.append(name)
            display(self._repr_mimebundle_(), raw=True, display_id=name)
            display(self._way_back(), raw=True, display_id=f"{name}-back")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The widget, and its picture for viewers without widgets."""
        bundle = self._static()
        if not self._replaced:
            bundle["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.box.model_id,
            }
        return bundle

    def __repr__(self) -> str:
        with self._state_lock:
            return summary(self.state)

    def _build(self) -> None:
        from ipywidgets import HTML, Button, HBox, Layout, ToggleButton, VBox

        self._status, self._metrics, self._log, self._message, self._row_links = (HTML() for _ in range(5))
        self._row_links.layout.margin = "0"
        self._cancel_button = Button(description="Cancel run", tooltip="End this run; what it has done so far is kept")
        self._sure_button = Button(
            description="Yes, cancel the run", button_style="danger", layout=Layout(width="auto")
        )
        self._keep_button = Button(description="Keep running")
        self._log_button = ToggleButton(description="Show log", value=False)
        self._cancel_button.on_click(lambda _: self._ask(True))
        self._keep_button.on_click(lambda _: self._ask(False))
        self._sure_button.on_click(lambda _: self._cancel_confirmed())
        self._log_button.observe(lambda _: self._toggle_log(), "value")
        buttons = [self._cancel_button, self._sure_button, self._keep_button, self._log_button]
        row = HBox(
            [*buttons, self._row_links],
            layout=Layout(flex_flow="row wrap", align_items="center", grid_gap="4px 8px", margin="8px 0 0"),
        )
        style = HTML(STYLE, layout=Layout(display="none"))
        layout = Layout(max_width="900px", padding="4px 0", overflow="hidden")
        self.box = VBox([style, self._status, self._metrics, self._log, row, self._message], layout=layout)
        self._parts = [
            style,
            self._status,
            self._metrics,
            self._log,
            self._message,
            self._row_links,
            *buttons,
            row,
        ]
        for widget in (self._metrics, self._log, self._message, self._sure_button, self._keep_button):
            _show(widget, False)

    def _read(self) -> None:
        try:
            for event in self._events():
                if self._stop.is_set():
                    return
                with self._state_lock:
                    self.state.apply(event)
                self._news.set()
                if self.state.final is not None:
                    return
        except Exception as error:  # noqa: BLE001 - whatever reading raises is for the person and for wait()
            self._error = error
        finally:
            self._read_all.set()
            self._news.set()

    def _paint(self) -> None:
        while not self._stop.is_set():
            self._news.wait(_TICK)
            self._news.clear()
            last = self._read_all.is_set()  # before drawing, so that the last drawing holds the last event
            try:
                self._draw()
            except Exception as error:  # noqa: BLE001 - a lost front end must not end the waiting for the run
                self._error = self._error or error
                self._read_all.wait()
                last = True
            if last:
                self._replace_displays(ended=self.state.final is not None)
                break
            self._stop.wait(_SHORTEST_PAUSE)
        atexit.unregister(self._stop.set)
        self._done.set()

    def _draw(self) -> None:
        with self._state_lock:
            start = opening(self.state)
            status = f"{start}{render_status(self.state)}</div>"
            metrics = render_metrics(self.state)
            log = render_log(self.state) if self._log_button.value else ""
            links = render_links(self.state, self._links)
            over = self.state.final is not None or self._read_all.is_set()
        with self._output_lock:
            self._status.value = status
            self._fill(self._metrics, metrics, start)
            self._fill(self._log, log, start)
            self._row_links.value = f'{start}<div class="mlops-links mlops-beside">{links}</div></div>'
            if self._error is not None:
                said = f"The view ended before the run: {self._error}"
                self._say(f"{said} To see the run again: %mlops attach {self.state.run_id}")
            if over:
                for button in (self._cancel_button, self._sure_button, self._keep_button):
                    _show(button, False)

    def _fill(self, widget: Any, content: str, start: str) -> None:
        widget.value = f"{start}{content}</div>" if content else ""
        _show(widget, bool(content))

    def _say(self, text: str) -> None:
        from html import escape

        said = f'<div class="mlops-notice" role="status">{escape(printable(text))}</div>'
        self._message.value = f"{opening(self.state)}{said}</div>"
        _show(self._message, bool(text))

    def _tell(self, text: str) -> None:
        with self._output_lock:
            if not self._read_all.is_set():
                self._say(text)

    def _ask(self, asking: bool) -> None:
        with self._output_lock:
            if self._read_all.is_set():
                return
            _show(self._cancel_button, not asking)
            _show(self._sure_button, asking)
            _show(self._keep_button, asking)
            # The button that had the focus is gone: the harmless one takes it.
            (self._keep_button if asking else self._cancel_button).focus()

    def _cancel_confirmed(self) -> None:
        with self._output_lock:
            self._ask(False)
            self._cancel_button.disabled = True
            self._say("Asking the run to end …")
        # Away from the kernel's thread: a runner may have to wait for a server.
        threading.Thread(target=self._call_cancel, name="mlops-progress-cancel", daemon=True).start()

    def _call_cancel(self) -> None:
        try:
            self._cancel()
            said, again = "The run was asked to end.", False
        except MLOpsError as error:
            said, again = f"{error.message} {error.hint}".strip(), True
        except Exception as error:  # noqa: BLE001 - who pressed a button learns what came of it
            said, again = f"The run could not be cancelled: {type(error).__name__}: {error}", True
        self._tell(said)
        self._cancel_button.disabled = not again

    def _toggle_log(self) -> None:
        self._log_button.description = "Hide log" if self._log_button.value else "Show log"
        self._draw()

    def _static(self) -> dict[str, Any]:
        with self._state_lock:
            return {"text/html": render(self.state, self._links), "text/plain": summary(self.state)}

    def _way_back(self) -> dict[str, str]:
        from html import escape

        said = "The run goes on when this notebook is closed. To see it again: "
        command = f"%mlops attach {printable(self.state.run_id)}"
        style = "color:var(--jp-ui-font-color2,inherit);font-size:var(--jp-ui-font-size0,12px)"
        html = f'<div style="{style}">{said}<code>{escape(command)}</code></div>'
        return {"text/html": html, "text/plain": said + command}

    def _replace_displays(self, *, ended: bool = False) -> None:
        from IPython.display import display

        with self._output_lock:
            if self._replaced:
                return
            if ended:
                self._say("")
            self._replaced = True
            for name in self._displays:
                display(self._static(), raw=True, display_id=name, update=True)
                if ended:
                    empty = {"text/html": "<span></span>", "text/plain": ""}
                    display(empty, raw=True, display_id=f"{name}-back", update=True)


def _show(widget: Any, shown: bool) -> None:
    widget.layout.display = None if shown else "none"


def _relative_notebook(files: Path | None) -> str | None:
    if files is None:
        return None
    try:
        return Path(os.path.relpath(files / "executed.ipynb")).as_posix()
    except (ValueError, OSError):  # another drive of Windows, or a directory that is gone
        return None
