"""Who takes part: the same notebook through papermill, nbconvert, jupyter-mlops, and its cells as a plain script.

Each is measured from outside, as a person meets it: from the start of its process (for the warm ones: from the call)
to the moment that the notebook's first cell wrote down, and to the end of the command.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from jupyter_mlops.warm.waiting import dismiss, is_ready
from jupyter_mlops.worker import become_subreaper

from .measure import Contestant, Sample, stages
from .notebooks import NOTEBOOKS, STAMP, write_notebook, write_script

OURS = "jupyter mlops train"
OURS_READY = "jupyter mlops train, engine ready"
OURS_WARM = "jupyter-mlops in Python, warm"
PAPERMILL = "papermill"
PAPERMILL_API = "papermill in Python, fresh"
PAPERMILL_WARM = "papermill in Python, warm"
PAPERMILL_SPARED = "papermill, spared rfc3987_syntax"
NBCONVERT = "jupyter nbconvert --execute"
FLOOR = "the cells as a script"

_PATIENCE = 600.0
"""Seconds that one measurement may take: a slow machine is measured too, one that hangs is told."""


class BenchError(Exception):
    """A contestant failed; its last words."""


@dataclass
class Place:
    """Where the bench works: a directory with a home of its own, so that nobody's settings play a part.

    Attributes:
        root: The directory.
        orphans_come_here: Whether this process is told of the end of what its children leave running, as `adopt_orphans`
            has it: only then is it known how much processor time a run takes, which outlives its command.
        environment: The variables of every contestant.
    """

    root: Path
    orphans_come_here: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("home", "notebooks", "out"):
            (self.root / name).mkdir(parents=True)
        kept = ("LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SYSTEMROOT")
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        # PYTHONDONTWRITEBYTECODE is not among the kept: with it Python compiles every module at each start.
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "PATH": programs,
            "HOME": str(self.root / "home"),
            "IPYTHONDIR": str(self.root / "ipython"),
            "JUPYTER_CONFIG_DIR": str(self.root / "config"),
            "JUPYTER_RUNTIME_DIR": str(self.root / "runtime"),
            "JUPYTER_MLOPS_DATA_DIR": str(self.root / "data"),
            "MPLCONFIGDIR": str(self.root / "matplotlib"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "JUPYTER_MLOPS_WARM_SECONDS": "0",
            STAMP: str(self.stamp),
        }

    @property
    def stamp(self) -> Path:
        """What the first cell writes."""
        return self.root / "stamp"

    @property
    def data(self) -> Path:
        """The data directory of jupyter-mlops."""
        return self.root / "data"

    def run(self, command: Sequence[str], **variables: str) -> Sample:
        """Measure one command.

        Args:
            command: The words of it.
            **variables: On top of the environment.

        Raises:
            BenchError: it failed.
        """
        self.stamp.unlink(missing_ok=True)
        before = _processor_time()
        with tempfile.TemporaryFile() as log:
            start = time.time()
            done = subprocess.run(
                command, cwd=self.root / "notebooks", env={**self.environment, **variables}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, timeout=_PATIENCE, check=False,
            )  # fmt: skip
            end = time.time()
            if done.returncode != 0:
                log.seek(0)
                raise BenchError(f"{' '.join(command)} failed:\n{log.read().decode(errors='replace')[-2000:]}")
        self.settle()
        spent = _processor_time() - before if self.orphans_come_here else None
        return Sample(end - start, self.since(start), spent)

    def since(self, start: float) -> float | None:
        """Seconds from `start` to the first cell, or None when none was executed."""
        return float(self.stamp.read_text(encoding="ascii")) - start if self.stamp.exists() else None

    def settle(self) -> None:
        """Wait until the runs' processes are gone, so that the next one does not share the machine with them."""
        import psutil

        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            busy = False
            for process in psutil.process_iter():
                try:
                    arguments = process.cmdline()
                except psutil.Error:
                    continue
                busy = busy or ("jupyter_mlops.worker" in arguments and any(str(self.root) in a for a in arguments))
            if not busy:
                self._bury()
                return
            time.sleep(0.1)
        raise BenchError("a run of the bench does not end")

    def with_engine(self, name: str) -> Ready:
        """A data directory of its own, in which an engine waits for each run."""
        data = self.root / name
        if not data.exists():
            data.mkdir()
            for file in self.data.glob("mlflow.db*"):
                shutil.copy(file, data)
        return Ready(data)

    def _bury(self) -> None:
        if self.orphans_come_here:
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


@dataclass(frozen=True)
class Ready:
    """A data directory in which an engine waits for each run, as it does for whoever runs more than once.

    Attributes:
        data: The directory.
    """

    data: Path

    @property
    def variables(self) -> dict[str, str]:
        """What makes runs go there and leave an engine behind."""
        return {"JUPYTER_MLOPS_DATA_DIR": str(self.data), "JUPYTER_MLOPS_WARM_SECONDS": "3600"}

    def wait(self) -> None:
        """Wait until one is ready: it must not share the machine with whoever is measured next.

        Raises:
            BenchError: there is none.
        """
        deadline = time.monotonic() + _PATIENCE
        while not is_ready(self.data):
            if time.monotonic() > deadline:
                raise BenchError("no engine gets ready")
            time.sleep(0.1)


def adopt_orphans() -> bool:
    """Become the parent of processes that lose theirs, for a process that does nothing else; False where that cannot be."""
    become_subreaper()
    return sys.platform == "linux"


def _processor_time() -> float:
    times = os.times()
    return times.children_user + times.children_system


class Warm:
    """A process that has done it once and does it again on request.

    Args:
        place: Where.
        kind: What `warm.py` calls it.
        notebook: Executed once now, so that everything is imported.
        variables: On top of the environment.
    """

    def __init__(self, place: Place, kind: str, notebook: Path, variables: Mapping[str, str]) -> None:
        self._place = place
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py")), kind], cwd=place.root / "notebooks",
            env={**place.environment, **variables}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.run(notebook)

    def run(self, notebook: Path) -> Sample:
        """Measure from the request to the answer.

        Raises:
            BenchError: it failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._place.stamp.unlink(missing_ok=True)
        start = time.time()
        self._process.stdin.write(f"{notebook}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        end = time.time()
        if answer != "done":
            raise BenchError(f"the warm process failed: {answer or 'it is gone'}")
        return Sample(end - start, self._place.since(start))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def contestants(place: Place, title: str) -> Iterator[list[Contestant]]:
    """Everyone, on one of `NOTEBOOKS`.

    Args:
        place: Where; MLflow's database should be there already.
        title: The notebook.
    """
    cells = NOTEBOOKS[title]
    stem = title.replace(" ", "-")
    notebook = write_notebook(cells, place.root / "notebooks" / f"{stem}.ipynb")
    script = write_script(cells, place.root / "out" / f"{stem}.py")
    out = str(place.root / "out" / f"{stem}.ipynb")
    api = f"import papermill; papermill.execute_notebook({str(notebook)!r}, {out!r}, progress_bar=False)"
    terminal, python = place.with_engine("ready-in-terminal"), place.with_engine("ready-in-python")
    warm = {
        PAPERMILL_WARM: Warm(place, "papermill", notebook, {}),
        OURS_WARM: Warm(place, "mlops", notebook, python.variables),
    }
    place.run(train(notebook), **terminal.variables)
    place.settle()
    for each in (terminal, python):
        each.wait()

    def ours() -> Sample:
        start = time.time()
        sample = place.run(train(notebook))
        return replace(sample, stages=stages_of_last_run(place.data, start, start + sample.end))

    def ours_ready() -> Sample:
        start = time.time()
        sample = place.run(train(notebook), **terminal.variables)
        found = stages_of_last_run(terminal.data, start, start + sample.end)
        terminal.wait()
        return replace(sample, processor=None, stages=found)

    def ours_warm() -> Sample:
        sample = warm[OURS_WARM].run(notebook)
        python.wait()
        return sample

    papermill = ["papermill", str(notebook), out, "--no-progress-bar"]
    nbconvert = ["jupyter", "nbconvert", "--to", "notebook", "--execute", str(notebook), "--output", out]
    found = [
        Contestant(FLOOR, lambda: place.run([sys.executable, str(script)])),
        Contestant(PAPERMILL, lambda: place.run(papermill)),
        Contestant(PAPERMILL_API, lambda: place.run([sys.executable, "-c", api])),
        Contestant(NBCONVERT, lambda: place.run(nbconvert)),
        Contestant(OURS, ours),
        Contestant(OURS_READY, ours_ready),
        Contestant(PAPERMILL_WARM, lambda: warm[PAPERMILL_WARM].run(notebook)),
        Contestant(OURS_WARM, ours_warm),
    ]
    if find_spec("rfc3987_syntax") is not None:
        # JupyterLab brings it; where it is not installed papermill and nbconvert start a second or more sooner.
        shadow = place.root / "shadow"
        shadow.mkdir(exist_ok=True)
        (shadow / "rfc3987_syntax.py").write_text("raise ImportError\n", encoding="ascii")
        spared = Contestant(PAPERMILL_SPARED, lambda: place.run(papermill, PYTHONPATH=str(shadow)))
        found.insert(2, spared)
    try:
        yield found
    finally:
        for process in warm.values():
            process.close()
        for each in (terminal, python):
            dismiss(each.data)


def train(notebook: Path) -> list[str]:
    """The command that runs a notebook with jupyter-mlops and waits for its end."""
    return ["jupyter", "mlops", "train", str(notebook), "--wait"]


def stages_of_last_run(data: Path, start: float, end: float) -> dict[str, float]:
    """Where the time of a run went, from what the run itself told.

    Args:
        data: The data directory.
        start: When the command was started, in seconds since 1970.
        end: When it had ended.
    """
    run_dir = max((data / "runs").iterdir(), key=lambda path: path.stat().st_ctime)
    seen: dict[str, float] = {}
    for line in (run_dir / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["type"] == "run":
            what = event["phase"] or event["state"]
            seen.setdefault(what, datetime.fromisoformat(event["time"]).timestamp())
    words = {
        "preparing": "command, start of the run's process",
        "starting the kernel": "snapshot laid out",
        "waiting for MLflow": "kernel started, MLflow asked meanwhile",
        "running": "MLflow answered",
        "saving the results": "cells executed, kernel ended",
        "succeeded": "results saved",
    }
    moments = [("", start), *((word, seen[what]) for what, word in words.items()), ("command ended", end)]
    return stages(moments)


def start_ups(place: Place) -> list[Contestant]:
    """The commands whose start-up is a promise, and what they are compared with."""
    shell = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()"
    extension = f"{shell}; shell.run_line_magic('load_ext', 'jupyter_mlops')"
    commands: Mapping[str, list[str]] = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "jupyter mlops --help": ["jupyter", "mlops", "--help"],
        "papermill --help": ["papermill", "--help"],
        "jupyter nbconvert --help": ["jupyter", "nbconvert", "--help"],
        "bare IPython": [sys.executable, "-c", shell],
        "IPython, %load_ext jupyter_mlops": [sys.executable, "-c", extension],
    }
    return [Contestant(name, lambda command=command: place.run(command)) for name, command in commands.items()]


def very_first(place: Place, number: int) -> Sample:
    """The first run ever on a machine: neither MLflow's database nor the store are there yet."""
    title = next(iter(NOTEBOOKS))
    notebook = write_notebook(NOTEBOOKS[title], place.root / "notebooks" / "first.ipynb")
    return place.run(train(notebook), JUPYTER_MLOPS_DATA_DIR=str(place.root / f"fresh-{number}"))
