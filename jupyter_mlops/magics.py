"""`%mlops` and `%%mlops`: the commands of `jupyter mlops`, called from a notebook.

A magic parses nothing itself: it hands its line to the same click commands with a front that answers in the notebook.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .runs import Runs
    from .store.models import RunRecord


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext jupyter_mlops`: make `%mlops` and `%%mlops` known."""
    from IPython.core.magic import no_var_expand

    @no_var_expand  # type: ignore[untyped-decorator]
    def mlops(line: str, cell: str | None = None) -> None:
        """Run notebooks with parameters: the commands of `jupyter mlops`. See `%mlops --help`."""
        call(shell, line, cell)

    shell.register_magic_function(mlops, magic_kind="line_cell", magic_name="mlops")


def call(shell: InteractiveShell, line: str, cell: str | None = None) -> None:
    """Execute one line of `%mlops`.

    Raises:
        MLOpsError: as the command does; IPython shows its sentence alone.
    """
    import click

    from .cli.app import mlops
    from .errors import UsageError

    try:
        arguments = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"The line cannot be read: {error}.", hint="Close every quote.") from None
    try:
        mlops.main(
            args=arguments or ["--help"],
            prog_name="%mlops",
            standalone_mode=False,
            obj=NotebookFront(shell, cell=cell),
        )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
    except click.ClickException as error:
        raise UsageError(error.format_message(), hint="%mlops --help lists the commands.") from None
    except click.Abort:
        raise KeyboardInterrupt from None


class NotebookFront:
    """The notebook that a magic was called in.

    Args:
        shell: IPython's.
        cell: The body of a cell magic.
    """

    def __init__(self, shell: InteractiveShell, cell: str | None = None) -> None:
        self._shell = shell
        self.cell = cell

    @cached_property
    def runs(self) -> Runs:
        """The core, with the configuration of the files."""
        from .runs import Runs

        return Runs(front="notebook")

    def notebook(self, given: str | None) -> Path:
        """The notebook given, else this one."""
        if given is not None:
            return Path(given)
        from .notebook.current import current_notebook

        return current_notebook(self._shell)

    def refuse_stale(self, notebook: Path, *, as_saved: bool) -> None:
        """Refuse when the cell that is executing is not in the file: other edits will be missing too.

        Raises:
            UsageError: it is not, and `as_saved` was not asked for.
        """
        from .errors import UsageError
        from .notebook.current import cell_is_saved
        from .notebook.document import read_notebook

        if as_saved:
            return
        history = self._shell.user_ns.get("In") or [""]
        if not cell_is_saved(read_notebook(notebook), _raw_cell(self._shell) or history[-1]):
            raise UsageError(
                f"{notebook.name} has edits that are not saved: the file does not hold this very cell.",
                hint="Save the notebook (Ctrl+S) and run the cell again, or add --as-saved to run the file as it is.",
                code="unsaved",
            )

    def say(self, *lines: str) -> None:
        """Plain lines under the cell."""
        import click

        from .errors import as_magic
        from .progress.state import printable

        for line in lines:
            click.echo(printable(as_magic(line)))

    def show(self, renderable: Any, html: str | None = None) -> None:
        """HTML where the core has some, else rich's own rendering for notebooks."""
        from IPython.display import HTML, display

        if html is not None and _has_kernel(self._shell):
            display(HTML(html))
            return
        from rich.console import Console

        console = Console(force_jupyter=True) if _has_kernel(self._shell) else Console()
        console.print(renderable)

    def figure(self, figure: Callable[[], Any]) -> bool:
        """Under the cell."""
        from io import BytesIO

        from IPython.display import publish_display_data

        # As a picture: a kernel shows figures themselves only once its notebook has set matplotlib up.
        picture = BytesIO()
        drawn = figure()
        drawn.savefig(picture, format="png", dpi=2 * drawn.dpi)
        width, height = (round(inches * drawn.dpi) for inches in drawn.get_size_inches())
        publish_display_data(
            {"image/png": picture.getvalue(), "text/plain": "<the plot of the runs>"},
            {"image/png": {"width": width, "height": height}},
        )
        return True

    def data(self, value: Any) -> None:
        """JSON as text."""
        import json

        import click

        click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def follow(self, record: RunRecord, *, wait: bool | None, json_lines: bool = False) -> None:
        """The live view; the notebook stays free for other work unless `wait` is True.

        Raises:
            RunFailedError: it was waited for and did not succeed.
        """
        from .cli.front import raise_unless_succeeded

        if wait is False:
            self.say(f"Follow it: %mlops attach {record.run_id}")
            return
        if json_lines or not _has_kernel(self._shell):
            from .cli.front import TerminalFront

            terminal = TerminalFront()
            terminal.follow(record, wait=True, json_lines=json_lines)
            return
        from IPython.display import display

        from .progress.widget import RunWidget

        runs = self.runs
        widget = RunWidget(
            record.run_id,
            lambda: runs.events(record, follow=True),
            lambda: runs.cancel(record.run_id),
            expected=runs.expected_durations(record),
            **_links(runs.files(record)),
        )
        display(widget)
        if wait:
            widget.wait()
            raise_unless_succeeded(widget.final, quiet=True)

    def outputs(self, outputs: Sequence[Mapping[str, Any]]) -> None:
        """Under the cell, as if it had run here."""
        if not _has_kernel(self._shell):
            from .cli.front import TerminalFront

            TerminalFront().outputs(outputs)
            return
        import sys

        from IPython.display import publish_display_data

        for output in outputs:
            if "data" in output:
                publish_display_data(output["data"], output.get("metadata", {}))
            elif output.get("output_type") == "error":
                sys.stderr.write("\n".join(output.get("traceback", [])) + "\n")
            else:
                stream = sys.stderr if output.get("name") == "stderr" else sys.stdout
                stream.write("".join(output.get("text", "")))

    def take_results(self, names: Mapping[str, Any]) -> None:
        """Into the session."""
        self._shell.push(dict(names))

    def namespace(self) -> dict[str, Any]:
        """The session's names."""
        found: dict[str, Any] = self._shell.user_ns
        return found

    def open(self, target: str) -> None:
        """A link; a kernel may be on another machine than the browser."""
        from html import escape

        from IPython.display import HTML, display

        if target.startswith(("http://", "https://")):
            display(HTML(f'<a href="{escape(target)}" target="_blank" rel="noopener">{escape(target)}</a>'))
        else:
            self.say(_relative(Path(target)))


def _has_kernel(shell: InteractiveShell) -> bool:
    return getattr(shell, "kernel", None) is not None


def _raw_cell(shell: InteractiveShell) -> str | None:
    kernel = getattr(shell, "kernel", None)
    try:
        parent = kernel.get_parent("shell") if kernel is not None else {}
    except Exception:  # noqa: BLE001 - kernels of other makers
        return None
    code = (parent.get("content") or {}).get("code")
    return str(code) if code else None


def _links(files: Path) -> dict[str, Any]:
    return {"files": files}


def _relative(path: Path) -> str:
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)
