"""The head of a run as the process that it is in its pod, with a real MLflow and without a Kubernetes around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.events import CellEvent, Event, NoticeEvent, RunEvent, parse_event
from jupyter_mlops.kubernetes import contract
from jupyter_mlops.kubernetes.pod_template import pod_template
from jupyter_mlops.kubernetes.transport import mark_cancelled, recorded_events, send_inputs
from jupyter_mlops.redact import Redactor
from jupyter_mlops.runs import Runs
from jupyter_mlops.snapshot import SnapshotStore
from jupyter_mlops.spec import FailureCode, RunSpec, RunState

from .mlflow_server import mlflow_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .mlflow_server import MLflowServer

pytestmark = pytest.mark.integration

# The one thing that is not as in a pod: where the last word is written.
_START = """
import sys
from jupyter_mlops.kubernetes import contract
contract.TERMINATION_FILE = sys.argv.pop(1)
from jupyter_mlops.kubernetes.pod import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[MLflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("server"), database=mlflow_database) as running:
        yield running


@dataclass
class Head:
    """A head that was started.

    Attributes:
        lines: What it printed on its standard output so far.
    """

    process: subprocess.Popen[str]
    directory: Path
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def events(self) -> list[Event]:
        """Its standard output; each line of it is an event."""
        return [parse_event(line) for line in self.lines]

    def wait_for(self, seen: Callable[[Event], bool]) -> None:
        until = time.monotonic() + 120
        while not any(map(seen, self.events)):
            assert time.monotonic() < until, (self.lines, self.errors)
            assert self.process.poll() is None, (self.lines, self.errors)
            time.sleep(0.1)

    def end(self) -> int:
        status = self.process.wait(180)
        self._reader.join(30)
        return status

    @property
    def errors(self) -> str:
        return (self.directory / "stderr").read_text(errors="replace")

    @property
    def last_word(self) -> Event | None:
        path = self.directory / "termination-log"
        return parse_event(path.read_bytes()) if path.exists() else None


@dataclass
class Submitted:
    """A run that was handed over as the runner does, without its Job."""

    spec: RunSpec
    mlflow_run_id: str
    server: MLflowServer
    directory: Path
    heads: list[Head] = field(default_factory=list)

    def start(self, **changes: str) -> Head:
        """Start a pod of it, with the variables that its manifest gives."""
        directory = self.directory / f"pod-{len(self.heads)}"
        directory.mkdir(parents=True)
        told = pod_template(self.spec, mlflow_run_id=self.mlflow_run_id)["spec"]["containers"][0]["env"]
        variables = {each["name"]: each["value"].replace("$$", "$") for each in told if "value" in each}
        variables |= {
            "PATH": os.environ["PATH"], "HOME": str(directory), "TMPDIR": str(directory),
            "JUPYTER_MLOPS_DATA_DIR": str(directory / "mlops"), "DASK_TEMPORARY_DIRECTORY": str(directory),
            contract.INDEX_VARIABLE: "0", contract.NODE_NAME_VARIABLE: "node-7", **changes,
        }  # fmt: skip
        with (directory / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, str(directory / "termination-log")],
                env=variables, cwd=directory, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
            )  # fmt: skip
        self.heads.append(Head(process, directory))
        return self.heads[-1]

    def in_mlflow(self) -> Any:
        import mlflow

        return mlflow.MlflowClient(self.server.uri).get_run(self.mlflow_run_id)


@pytest.fixture
def submit(
    server: MLflowServer, make_notebook: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Submitted]]:
    """Hand a notebook of these cells over to MLflow."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    made: list[Submitted] = []

    def hand_over(*cells: str | tuple[str, str], **options: Any) -> Submitted:
        runs = Runs(config=MLOps())
        prepared = runs.prepare(make_notebook(*cells), **options)
        store = SnapshotStore(runs.config.data_path)
        store.save(prepared.snapshot)
        spec = prepared.spec
        run_dir = runs.config.run_dir(spec.run_id)
        run_dir.mkdir(parents=True)
        (run_dir / "spec.json").write_text(spec.to_json())
        begun = send_inputs(spec, store, run_dir, uri=server.uri, wait=20, redactor=Redactor())
        made.append(Submitted(spec, begun.mlflow_run_id, server, tmp_path / f"pods-{spec.run_id}"))
        return made[-1]

    yield hand_over
    for submitted in made:
        for head in submitted.heads:
            if head.process.poll() is None:
                os.killpg(head.process.pid, signal.SIGKILL)
                head.process.wait()


def _running(event: Event) -> bool:
    return isinstance(event, CellEvent) and event.state == "running"


def test_the_head_runs_the_notebook_and_its_standard_output_is_the_events(submit: Callable[..., Submitted]) -> None:
    submitted = submit(
        ("rate: float = 0.5\ndepth = 3", "parameters"),
        "import os, sys, mlflow\nmlflow.log_metric('loss', rate)\nprint('from the cell')\n"
        "os.write(2, b'raw, without an end')\nos.system('echo from a child; echo -n raw')",
        assignments={"rate": "0.25"},
    )
    assert submitted.in_mlflow().info.status == "SCHEDULED"
    head = submitted.start()
    assert head.end() == 0, head.errors
    final = head.events[-1]
    assert isinstance(final, RunEvent)
    assert final.state is RunState.SUCCEEDED
    assert head.last_word == final
    run = submitted.in_mlflow()
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"loss": 0.25} or run.data.metrics["loss"] == 0.25
    assert run.data.params == {"rate": "0.25", "depth": "3"}
    kept = recorded_events(submitted.mlflow_run_id, uri=submitted.server.uri, wait=20)
    assert kept == head.events


def test_a_failed_cell_leaves_a_record_and_the_status_that_forbids_a_repetition(
    submit: Callable[..., Submitted],
) -> None:
    submitted = submit("x = 1", "x / 0")
    head = submitted.start()
    assert head.end() == contract.EXIT_RECORDED
    told = head.last_word
    assert isinstance(told, RunEvent)
    assert (told.code, told.line) == (FailureCode.CELL_FAILED, "x / 0")
    run = submitted.in_mlflow()
    assert run.info.status == "FAILED"
    assert run.data.tags["jupyter_mlops.failure_code"] == "cell_failed"


def test_a_head_that_has_to_go_leaves_no_record_and_the_next_one_goes_on_in_the_same_mlflow_run(
    submit: Callable[..., Submitted],
) -> None:
    submitted = submit(
        "import time\nprint('saved')", "from pathlib import Path\nif not Path(__import__('os').environ['GOON']).exists():"
        "\n    time.sleep(300)",
    )  # fmt: skip
    flag = submitted.directory.parent / "go-on"
    first = submitted.start(GOON=str(flag))
    first.wait_for(lambda event: _running(event) and event.number == 2)  # type: ignore[union-attr]
    first.process.send_signal(signal.SIGTERM)
    assert first.end() == contract.EXIT_INTERRUPTED, first.errors
    ends = [event for event in first.events if isinstance(event, RunEvent)]
    assert not any(event.state.is_terminal for event in ends)
    assert ends[-1].message == "The run has to leave node-7: its pod was told to end."
    assert first.last_word is None
    assert submitted.in_mlflow().info.status == "SCHEDULED"
    flag.touch()
    second = submitted.start(GOON=str(flag), **{contract.DISRUPTIONS_VARIABLE: "1"})
    assert second.end() == 0, second.errors
    run = submitted.in_mlflow()
    assert run.info.status == "FINISHED"
    assert "jupyter_mlops.failure_code" not in run.data.tags
    final = second.events[-1]
    assert isinstance(final, RunEvent)
    assert final.mlflow_run_id == submitted.mlflow_run_id


def test_a_head_that_somebody_wants_to_end_records_who(submit: Callable[..., Submitted]) -> None:
    submitted = submit("import time\ntime.sleep(300)")
    head = submitted.start()
    head.wait_for(_running)
    mark_cancelled(submitted.mlflow_run_id, "ann", uri=submitted.server.uri, wait=20)
    head.process.send_signal(signal.SIGTERM)
    assert head.end() == contract.EXIT_RECORDED, head.errors
    told = head.last_word
    assert isinstance(told, RunEvent)
    assert (told.state, told.message) == (RunState.CANCELLED, "The run was cancelled by ann.")
    assert submitted.in_mlflow().info.status == "KILLED"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({contract.VERSION_VARIABLE: "0"}, "not_started", "version 0 of the pods' contract"),
        ({contract.DISRUPTIONS_VARIABLE: "3"}, "evicted", "lost its pod 3 times"),
    ],
)
def test_a_head_that_must_not_begin_says_why_everywhere(
    submit: Callable[..., Submitted], changes: dict[str, str], code: str, words: str
) -> None:
    submitted = submit("raise SystemExit")
    head = submitted.start(**changes)
    assert head.end() == contract.EXIT_RECORDED
    told = head.last_word
    assert isinstance(told, RunEvent)
    assert words in told.message
    assert told == head.events[-1]
    run = submitted.in_mlflow()
    assert (run.info.status, run.data.tags["jupyter_mlops.failure_code"]) == ("FAILED", code)


def test_an_image_of_another_version_is_refused_by_a_cell_with_pickled_values_and_noted_by_a_notebook(
    submit: Callable[..., Submitted], monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_mlops.offload import CELL_TAG
    from jupyter_mlops.snapshot import environment

    real = environment.read_environment

    def older(*arguments: Any) -> Any:
        found, warnings = real(*arguments)
        return found.model_copy(update={"python": "3.9.1"}), warnings

    monkeypatch.setattr("jupyter_mlops.snapshot.build.read_environment", older)
    notebook = submit("1 + 1").start()
    cell = submit("1 + 1", tags={CELL_TAG: "true"})
    refused = cell.start()
    assert notebook.end() == 0, notebook.errors
    assert any(isinstance(event, NoticeEvent) and "(not 3.9.1)" in event.message for event in notebook.events)
    assert refused.end() == contract.EXIT_RECORDED
    told = refused.last_word
    assert isinstance(told, RunEvent)
    assert "were pickled by Python 3.9" in told.message
    assert not any(isinstance(event, CellEvent) for event in refused.events)


def test_a_snapshot_that_is_not_what_the_spec_names_is_refused(submit: Callable[..., Submitted]) -> None:
    import mlflow

    submitted, other = submit("1 + 1"), submit("2 + 2")
    client = mlflow.MlflowClient(submitted.server.uri)
    scratch = submitted.directory.parent / "scratch"
    scratch.mkdir()
    foreign = client.download_artifacts(other.mlflow_run_id, "snapshot.zip", str(scratch))
    client.log_artifact(submitted.mlflow_run_id, foreign)
    head = submitted.start()
    assert head.end() == contract.EXIT_RECORDED
    told = head.last_word
    assert isinstance(told, RunEvent)
    assert told.message == "What the MLflow run holds is another snapshot than the run's."


def test_a_spec_of_a_newer_version_is_refused_in_words(submit: Callable[..., Submitted]) -> None:
    import mlflow

    submitted = submit("1 + 1")
    newer = {**json.loads(submitted.spec.to_json()), "of_tomorrow": 1}
    client = mlflow.MlflowClient(submitted.server.uri)
    client.log_text(submitted.mlflow_run_id, json.dumps(newer), "spec.json")
    head = submitted.start()
    assert head.end() == contract.EXIT_RECORDED
    told = head.last_word
    assert isinstance(told, RunEvent)
    assert "cannot read this run" in told.message
    assert "of_tomorrow" in told.message
