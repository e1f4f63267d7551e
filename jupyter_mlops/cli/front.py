"""What a command speaks to: a terminal, or the notebook that a magic was called in; two that share one protocol."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import RunFailedError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from ..events import RunEvent
    from ..runs import Runs
    from ..store.models import RunRecord


class Front(Protocol):
    """Where a command was called, and how it answers."""

    cell: str | None
    """The body of a cell magic, or None."""

    @property
    def runs(self) -> Runs:
        """The core."""

    def notebook(self, given: str | None) -> Path:
        """The notebook that is meant: the one given, else the one that the person is in."""

    def refuse_stale(self, notebook: Path, *, as_saved: bool) -> None:
        """Refuse a notebook whose file is older than what the person has just executed."""

    def say(self, *lines: str) -> None:
        """Plain lines for the person."""

    def show(self, renderable: Any, html: str | None = None) -> None:
        """A rich renderable, or its HTML where there is a browser."""

    def figure(self, figure: Callable[[], Any]) -> bool:
        """Show the matplotlib figure that this makes; False, and it is not made, where that cannot be."""

    def data(self, value: Any) -> None:
        """JSON for a program."""

    def follow(self, record: RunRecord, *, wait: bool | None, json_lines: bool = False) -> None:
        """Show the run's progress until its end, or beside the work where the front can.

        Raises:
            RunFailedError: it was waited for and did not succeed.
        """

    def outputs(self, outputs: Sequence[Mapping[str, Any]]) -> None:
        """What a cell displayed that ran elsewhere, as outputs of the notebook format."""

    def take_results(self, names: Mapping[str, Any]) -> None:
        """Names that an offloaded cell assigned."""

    def namespace(self) -> dict[str, Any]:
        """The names of the session that a cell came from, to read only; empty in a terminal."""

    def open(self, target: str) -> None:
        """Open a URL or a file for the person."""


class TerminalFront:
    """A shell, interactive or not."""

    cell: str | None = None

    @cached_property
    def runs(self) -> Runs:
        """The core, with the configuration of the files."""
        from ..runs import Runs

        return Runs(front="terminal")

    @cached_property
    def console(self) -> Console:
        """Standard output; rich finds out what it can show."""
        from rich.console import Console

        return Console(soft_wrap=False)

    def notebook(self, given: str | None) -> Path:
        """The notebook given; a terminal has no other."""
        if given is None:
            raise UsageError("Which notebook? None was named.", hint="Write its path: jupyter mlops train NOTEBOOK")
        return Path(given)

    def refuse_stale(self, notebook: Path, *, as_saved: bool) -> None:
        """A file is a file here."""

    def say(self, *lines: str) -> None:
        """On standard output, control characters made visible."""
        from ..progress.state import printable

        for line in lines:
            sys.stdout.write(printable(line) + "\n")
        sys.stdout.flush()

    def show(self, renderable: Any, html: str | None = None) -> None:
        """Through rich."""
        self.console.print(renderable)

    def figure(self, figure: Callable[[], Any]) -> bool:
        """A terminal shows no figures."""
        return False

    def data(self, value: Any) -> None:
        """JSON on standard output; nan and inf as Python's JSON writes them."""
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")

    def follow(self, record: RunRecord, *, wait: bool | None, json_lines: bool = False) -> None:
        """Progress until the end. Ctrl-C leaves the view, not the run."""
        from ..progress.terminal import show_progress

        if wait is False:
            return
        try:
            final = show_progress(
                self.runs.events(record, follow=True),
                console=self.console,
                run_id=record.run_id,
                expected=self.runs.expected_durations(record),
                json_lines=json_lines,
            )
        except KeyboardInterrupt:
            sys.stderr.write(
                f"The run {record.run_id} goes on. To see it again: jupyter mlops attach {record.run_id}; "
                f"to end it: jupyter mlops cancel {record.run_id}\n"
            )
            raise
        self.runs.get(record.run_id)
        raise_unless_succeeded(final, quiet=True)

    def outputs(self, outputs: Sequence[Mapping[str, Any]]) -> None:
        """As text, and only after a live view: that one leaves nothing of them, while a log has had them already."""
        from ..progress.state import printable

        if not self.console.is_terminal:
            return
        for output in outputs:
            text = "".join(output.get("text", ""))
            if "data" in output:
                text = f"{output['data'].get('text/plain', '')}\n"
            sys.stdout.write(printable(text, keep_lines=True))
        sys.stdout.flush()

    def take_results(self, names: Mapping[str, Any]) -> None:
        """There is no session to put them in."""

    def namespace(self) -> dict[str, Any]:
        """A terminal has no names."""
        return {}

    def open(self, target: str) -> None:
        """With the system's opener; the address is printed too, for machines without one."""
        import click

        self.say(target)
        click.launch(target)


def raise_unless_succeeded(final: RunEvent | None, *, quiet: bool) -> None:
    """Turn the end of a run into the command's exit.

    Args:
        final: The run's last event; None: the view ended before the run.
        quiet: Whether the view has told the person already.

    Raises:
        RunFailedError: the run failed or was cancelled.
    """
    from ..states import RunState

    if final is None or final.state is RunState.SUCCEEDED:
        return
    error = RunFailedError(
        final.message or f"The run {final.state.value}.", hint=final.hint, code=final.code.value if final.code else None
    )
    error.told = quiet
    raise error
