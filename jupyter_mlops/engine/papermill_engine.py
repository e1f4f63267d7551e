"""The papermill engine `mlops`: nbclient with events for every step, bounded outputs and atomic saves.

Also usable as `papermill --engine mlops`; then there is nobody to listen, and the rest holds.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from nbclient.exceptions import CellExecutionComplete, CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager
from papermill.utils import merge_kwargs
from traitlets import Float

from ..config import MIB
from ..events import CellEvent, Event, LogEvent, NoticeEvent
from ..notebook.document import cell_digest, cell_title
from ..profile import Profile
from ..redact import Redactor
from ..spec import FailureCode, RunState
from .outcome import EngineStop, Outcome, cell_error, describe_exit, format_bytes, kernel_death
from .outputs import OutputKeeper
from .stop import Stopper, kernel_process

_LOG_EVENTS_PER_CELL = 256 * 1024
"""Characters of a cell's output that go out as events; the notebook and the file beside it hold more."""
_IOPUB_PATIENCE = 24 * 3600
"""Seconds that outputs may come in after a cell has replied: a flood takes its time, and `_SILENCE` ends it."""
_LOOK_AGAIN = 1.0
_SILENCE = 30.0
"""Seconds without a message after which a cell that has replied is done, although the word of it got lost."""


def _raise(error: OSError) -> None:
    raise error


@dataclass
class Listening:
    """What the engine is given by the run around it; the defaults serve papermill alone.

    Attributes:
        emit: Takes each event.
        outputs_dir: Where outputs go that the notebook cannot keep.
        redactor: Masks secrets.
        cell_limit: Bytes of output a cell keeps.
        total_limit: Bytes of output the notebook keeps.
        profile: For the hints of failures.
        stopper: Holds why the run is to end.
        setup: Source that the kernel executes, unseen, before the first cell.
        oom_kills: Counts the system's out-of-memory kills since the run began.
        last_memory: Resident bytes of the kernel at the last look.
        memory_limit: Bytes that the kernel can have, or None.
        cannot_write: Takes the error when an output or the notebook cannot be written in the middle of a cell.
        kernel_ready: Called once when the kernel answers, before the setup.
        first_cell: Called once after the setup.
        notebook: Set by the engine: the notebook as it is executed, also after a failure.
    """

    emit: Callable[[Event], None] = lambda _event: None
    outputs_dir: Path | None = None
    redactor: Redactor = field(default_factory=Redactor)
    cell_limit: int = 4 * MIB
    total_limit: int = 32 * MIB
    profile: Profile = field(default_factory=lambda: Profile(name="local"))
    stopper: Stopper = field(default_factory=lambda: Stopper(10.0))
    setup: Callable[[], str] | None = None
    oom_kills: Callable[[], int] = lambda: 0
    last_memory: Callable[[], int | None] = lambda: None
    memory_limit: Callable[[], int | None] = lambda: None
    cannot_write: Callable[[OSError], None] = _raise
    kernel_ready: Callable[[MLOpsClient], None] = lambda _client: None
    first_cell: Callable[[], None] = lambda: None
    notebook: Any = None


class MLOpsEngine(Engine):  # type: ignore[misc]  # papermill ships no types
    """Executes a notebook cell by cell and tells about it."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,
        log_output: bool = False,
        autosave_cell_every: int = 10,
        listening: Listening | None = None,
        save_to: Path | None = None,
        **kwargs: Any,
    ) -> Any:
        """Papermill's entry; see `papermill.engines.Engine.execute_notebook`.

        Args:
            nb: The notebook, parameters in place.
            kernel_name: The kernel's name.
            output_path: Where the executed notebook is saved, and where papermill writes it again at the end; or None.
            progress_bar: Papermill's own, on its standard error.
            log_output: Papermill's own.
            autosave_cell_every: Seconds between saves in the middle of a cell; 0: none.
            listening: The run around it, or None.
            save_to: Where the executed notebook is saved, and papermill does not write; wins over `output_path`.
            **kwargs: For nbclient.
        """
        if listening is None:
            beside = Path(output_path).resolve().parent if output_path and "://" not in output_path else None
            listening = Listening(outputs_dir=beside / "outputs" if beside else None)
        manager = RunExecutionManager(
            nb,
            output_path=str(save_to) if save_to is not None else output_path,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        manager.listen(listening)
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, log_output=log_output, listening=listening, **kwargs)
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
            listening.notebook = manager.nb
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: RunExecutionManager,
        kernel_name: str,
        *,
        listening: Listening,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 120,
        execution_timeout: float | None = None,
        kernel_manager: Any = None,
        **kwargs: Any,
    ) -> None:
        """Execute with nbclient; `kernel_manager` is a kernel that was started already, or None."""
        options = merge_kwargs(
            kwargs,
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
        )
        client = MLOpsClient(nb_man, km=kernel_manager, listening=listening, **options)
        listening.notebook = nb_man.nb
        try:
            client.execute()
        except DeadKernelError:  # after its last cell: before and in one the client tells by itself
            raise EngineStop(client.death(None, "after the last cell")) from None


class RunExecutionManager(NotebookExecutionManager):  # type: ignore[misc]
    """Papermill's bookkeeping, with atomic saves and events."""

    def listen(self, listening: Listening) -> None:
        """Tell this run about what happens."""
        self._listening = listening
        self._numbers: dict[int, int] = {}
        for index, cell in enumerate(self.nb.cells):
            if cell.cell_type == "code":
                self._numbers[index] = len(self._numbers) + 1
        self.current: int | None = None
        self._save_cost = 0.0

    def number(self, index: int | None) -> int | None:
        """The number among the code cells, from 1, of the cell at this position."""
        return None if index is None else self._numbers.get(index)

    def save(self, **_: Any) -> None:
        """Write the notebook whole or not at all."""
        started = time.monotonic()
        if self.output_path:
            save_notebook(self.nb, self.output_path)
        self.last_save_time = self.now()
        self._save_cost = time.monotonic() - started

    def autosave_cell(self) -> None:
        """Save in the middle of a cell, seldom enough that saving takes at most a tenth of the time."""
        if not self.autosave_cell_every:
            return
        waited = (self.now() - self.last_save_time).total_seconds()
        if waited >= max(self.autosave_cell_every, 10 * self._save_cost):
            self.save()

    def cell_start(self, cell: Any, cell_index: int | None = None, **_: Any) -> None:
        """Note the start; the notebook is not saved for that alone."""
        cell.metadata.papermill["start_time"] = self.now().isoformat()
        cell.metadata.papermill["status"] = self.RUNNING
        cell.metadata.papermill["exception"] = False
        self._started = time.monotonic()
        number = self.number(cell_index)
        if number is not None and cell_index is not None:
            self.current = cell_index
            self._listening.emit(self._event(cell, cell_index, number, "running"))

    def cell_complete(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        """Note the end and save."""
        number = self.number(cell_index)
        if number is not None and cell_index is not None:
            self.current = None
            state = "failed" if cell.metadata.papermill["status"] == self.FAILED else "succeeded"
            self._listening.emit(self._event(cell, cell_index, number, state, time.monotonic() - self._started))
        if number is None:  # text cells cost nothing, and need no save
            cell.metadata.papermill["status"] = self.COMPLETED
            return
        super().cell_complete(cell, cell_index=cell_index, **kwargs)

    def _event(self, cell: Any, index: int, number: int, state: Any, duration: float | None = None) -> CellEvent:
        return CellEvent(
            index=index,
            number=number,
            state=state,
            title=self._listening.redactor.text(cell_title(cell.source)),
            digest=cell_digest(cell.source),
            duration=None if duration is None else round(duration, 4),
        )


class MLOpsClient(PapermillNotebookClient):  # type: ignore[misc]
    """nbclient with bounded outputs, which knows why a kernel is gone."""

    # nbclient's own takes whole seconds only.
    timeout = Float(None, allow_none=True).tag(config=True)

    def __init__(self, nb_man: RunExecutionManager, km: Any = None, *, listening: Listening, **kwargs: Any) -> None:
        kwargs.setdefault("iopub_timeout", _IOPUB_PATIENCE)
        super().__init__(nb_man, km=km, raise_on_iopub_timeout=False, **kwargs)
        # A kernel that was started for this notebook is this notebook's to end.
        self.owns_km = True
        self._listening = listening
        self._keeper = OutputKeeper(
            listening.outputs_dir or Path(tempfile.gettempdir()),
            cell_limit=listening.cell_limit if listening.outputs_dir else 2**62,
            total_limit=listening.total_limit if listening.outputs_dir else 2**62,
            redactor=listening.redactor,
        )
        self._logged = 0
        self._process: Any = None
        self._replied: set[str | None] = set()

    def start_new_kernel_client(self, **kwargs: Any) -> Any:
        """Wait until the kernel answers, or say why it does not."""
        self._process = getattr(getattr(self.km, "provisioner", None), "process", None)
        self._listening.stopper.watch_kernel(kernel_process(self.km))
        try:
            return super().start_new_kernel_client(**kwargs)
        except RuntimeError as error:  # what jupyter_client raises when it has died or keeps silent
            self._raise_if_stopped()
            returncode = self._process.poll() if self._process is not None else None
            how = f"it ended ({describe_exit(returncode)})" if returncode is not None else str(error)
            raise EngineStop(
                Outcome(
                    RunState.FAILED, FailureCode.KERNEL_START,
                    f"The kernel '{self.kernel_name}' did not start: {how}.",
                    "What it printed: jupyter mlops logs --worker. By hand: jupyter console --kernel "
                    f"{self.kernel_name}",
                )
            ) from error  # fmt: skip

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        """Nbclient's loop over what a cell puts out, which also ends when the kernel has lost its last message."""
        assert self.kc is not None
        while True:
            try:
                message = await self.kc.iopub_channel.get_msg(timeout=_SILENCE)
            except Empty:
                if parent_msg_id in self._replied:
                    notice = "The kernel could not get rid of all its output: some is missing."
                    self._listening.emit(NoticeEvent(level="warning", message=notice))
                    return
                continue
            if message["parent_header"].get("msg_id") == parent_msg_id:
                try:
                    self.process_message(message, cell, cell_index)
                except CellExecutionComplete:
                    return

    def _watch_shell(self) -> None:
        """Remember which request was answered last, and look again when a wait for an answer takes long.

        Nbclient writes to the same socket while it waits, for each output inside a widget. ZeroMQ then may not wake who
        waits although the answer is there; asking anew shows it.
        """
        assert self.kc is not None
        get_msg = self.kc.shell_channel.get_msg

        async def look_again(timeout: float | None = None) -> Any:
            waited = 0.0
            while True:
                turn = _LOOK_AGAIN if timeout is None else max(0.0, min(_LOOK_AGAIN, timeout - waited))
                try:
                    message = await get_msg(timeout=turn)
                except Empty:
                    waited += turn
                    if timeout is not None and waited >= timeout:
                        raise
                else:
                    self._replied = {message["parent_header"].get("msg_id")}
                    return message

        self.kc.shell_channel.get_msg = look_again

    def papermill_execute_cells(self) -> None:
        """Papermill's loop, which also ends well when the kernel dies, hangs, or is told to stop."""
        self._watch_shell()
        self._listening.kernel_ready(self)
        # The limit is that of a cell; nbclient would apply it to what is asked of the kernel between cells too.
        limit, self.timeout = self.timeout, None
        try:
            self._run_setup()
        except DeadKernelError:
            self._raise_if_stopped()
            raise EngineStop(self.death(None)) from None
        self._listening.first_cell()
        self.timeout = limit
        try:
            self._execute_cells()
        finally:
            self.timeout = None

    def _execute_cells(self) -> None:
        for index, cell in enumerate(self.nb.cells):
            self._raise_if_stopped()
            if cell.cell_type == "code":
                self._keeper.start_cell(self.nb_man.number(index))
                self._logged = 0
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
            except CellExecutionError as error:
                self._fail(index, error)
                self._raise_if_stopped()
                break
            except CellTimeoutError:
                self._fail(index)
                number = self.nb_man.number(index)
                raise EngineStop(
                    Outcome(
                        RunState.FAILED, FailureCode.CELL_TIMEOUT,
                        f"Cell {number} was stopped: it ran longer than {self.timeout:g} s.",
                        "Raise --cell-timeout, or make the cell do less.", index,
                    )
                ) from None  # fmt: skip
            except DeadKernelError:
                self._fail(index)
                self._raise_if_stopped()
                raise EngineStop(self.death(index)) from None
            finally:
                cell = self.nb.cells[index]  # noqa: PLW2901 - nbclient may have put another in its place
                if cell.cell_type == "code":
                    for notice in self._keeper.end_cell(cell.outputs):
                        self._listening.emit(NoticeEvent(level="warning", message=notice))
                self.nb_man.cell_complete(cell, cell_index=index)

    def death(self, index: int | None, moment: str = "before the first cell") -> Outcome:
        """The outcome of a kernel that is gone; `moment` says when, if not in a cell."""
        return kernel_death(
            returncode=self._process.poll() if self._process is not None else None,
            oom_kills=self._listening.oom_kills(),
            last_memory=self._listening.last_memory(),
            limit=self._listening.memory_limit(),
            cell_index=index,
            number=self.nb_man.number(index),
            moment=moment,
        )

    def process_message(self, *args: Any, **kwargs: Any) -> Any:
        """Nbclient's hook for every message; a disk that cannot be written must not keep it from the next one."""
        try:
            return super().process_message(*args, **kwargs)
        except OSError as error:
            self._listening.cannot_write(error)
            return None

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        """Nbclient's hook for one output; widgets' own outputs take nbclient's way."""
        content = msg["content"]
        if self.output_hook_stack[msg["parent_header"].get("msg_id")]:
            msg["content"] = self._keeper.mask(content)
            return super().output(outs, msg, display_id, cell_index) if self._keeper.widget(msg["content"]) else None
        if self.clear_before_next_output:
            self._clear_now(outs, cell_index)
        if msg["msg_type"] == "stream":
            text = self._keeper.stream(outs, content["name"], content["text"])
            self._log(content["name"], text, cell_index)
            return outs[-1] if outs else None
        if msg["msg_type"] != "error" and self._keeper.is_full:
            self._keeper.leave_out(content)
            return None
        found = super().output(outs, msg, display_id, cell_index)
        if found is None:
            return None
        if found["output_type"] == "error":
            self._keeper.error(found)
            self._log("stderr", f"{found['ename']}: {found['evalue']}\n", cell_index)
            return found
        self._keeper.display(found, display_id=display_id)
        text = found["data"].get("text/plain")
        if isinstance(text, str):
            self._log("stdout", text + "\n", cell_index)
        return found

    def handle_comm_msg(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        """What a widget shows is kept in the notebook as well, so secrets are masked there too."""
        msg["content"] = self._keeper.mask(msg["content"])
        super().handle_comm_msg(outs, msg, cell_index)

    def set_widgets_metadata(self) -> None:
        """Keep the state of widgets, unless there is too much of it for a notebook that can be opened."""
        super().set_widgets_metadata()
        size = len(json.dumps(self.nb.metadata.get("widgets", {}), default=str))
        if size > self._listening.total_limit:
            del self.nb.metadata["widgets"]
            notice = f"The state of the widgets, {format_bytes(size)}, is too large for the notebook and was left out."
            self._listening.emit(NoticeEvent(level="warning", message=notice))

    def clear_output(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        """What a cell clears gives its room back."""
        super().clear_output(outs, msg, cell_index)
        if not outs:
            self._keeper.clear()

    def _clear_now(self, outs: list[Any], cell_index: int) -> None:
        outs[:] = []
        self.clear_display_id_mapping(cell_index)
        self.clear_before_next_output = False
        self._keeper.clear()

    def _update_display_id(self, display_id: str, msg: dict[str, Any]) -> None:
        data = msg["content"].get("data")
        if isinstance(data, dict) and display_id in self._display_id_map:
            places = [
                (cell, self.nb.cells[cell].outputs[index])
                for cell, indices in self._display_id_map[display_id].items()
                for index in indices
            ]
            for cell, output in places:
                self._keeper.replaced(output, in_this_cell=cell == self.nb_man.current)
            shown = {"output_type": "display_data", "data": data, "metadata": msg["content"].get("metadata") or {}}
            self._keeper.display(shown, display_id=display_id)
            msg["content"].update(data=shown["data"], metadata=shown["metadata"])
        super()._update_display_id(display_id, msg)

    def _log(self, stream: str, text: str, cell_index: int) -> None:
        room = _LOG_EVENTS_PER_CELL - self._logged
        if room <= 0 or not text:
            return
        self._logged += len(text)
        shown = text if len(text) <= room else text[:room] + "\n[… more in the executed notebook and in outputs/ …]\n"
        self._listening.emit(
            LogEvent(stream="stderr" if stream == "stderr" else "stdout", text=shown, cell_index=cell_index)
        )

    def _fail(self, index: int, error: BaseException | None = None) -> None:
        self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)

    def _raise_if_stopped(self) -> None:
        reason = self._listening.stopper.reason
        if reason is not None:
            raise EngineStop(reason)

    def _run_setup(self) -> None:
        if self._listening.setup is None:
            return
        source = self._listening.setup()
        self._raise_if_stopped()
        assert self.kc is not None
        reply = self.wait_for_reply(self.kc.execute(source, silent=True, store_history=False))
        self._raise_if_stopped()
        content = reply["content"] if reply else {"status": "error", "ename": "no reply"}
        if content["status"] != "ok":
            raise EngineStop(
                Outcome(
                    RunState.FAILED, FailureCode.KERNEL_START,
                    f"The kernel could not be prepared: {content.get('ename', '')}: {content.get('evalue', '')}",
                    "Check the kernel's environment.",
                )
            )  # fmt: skip


def failed_cell(nb: Any) -> Outcome | None:
    """The outcome of the first cell that failed in an executed notebook, or None if none did."""
    number = 0
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        number += 1
        if cell.metadata.get("papermill", {}).get("status") != NotebookExecutionManager.FAILED:
            continue
        error = next((output for output in cell.outputs if output["output_type"] == "error"), None)
        if error is None:
            return Outcome(RunState.FAILED, FailureCode.CELL_FAILED, f"Cell {number} failed.", "", index)
        if error["ename"] == "SystemExit" and error["evalue"] in ("", "0", "None"):
            return None  # papermill's rule: `sys.exit()` is a wish to end here, and no failure
        return cell_error(
            ename=error["ename"],
            evalue=error["evalue"],
            traceback=error["traceback"],
            source=cell.source,
            cell_index=index,
            number=number,
        )
    return None


def save_notebook(nb: Any, path: str | Path) -> None:
    """Write an executed notebook atomically; a local path that papermill cannot write this way goes to papermill.

    Raises:
        OSError: the disk is full, or the directory is gone.
    """
    if "://" in str(path):
        from papermill.iorw import write_ipynb

        write_ipynb(nb, str(path))
        return
    import nbformat

    target = Path(path)
    text = nbformat.writes(nb)
    with _temporary_beside(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
        temporary.replace(target)


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()
