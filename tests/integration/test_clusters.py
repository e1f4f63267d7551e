"""Warm clusters on this machine: started, used, scaled, and gone, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_mlops.clusters import Clusters
from jupyter_mlops.errors import ClusterError, NotFoundError, UsageError
from jupyter_mlops.events import CellEvent, RunEvent
from jupyter_mlops.runner import cluster as cluster_runner
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState
from jupyter_mlops.store.models import RunRecord

from .conftest import processes_of

pytestmark = pytest.mark.integration

_PATIENCE = 120.0


@pytest.fixture
def clusters(runs: Runs) -> Iterator[Clusters]:
    """The core; every cluster is ended, and with each its processes."""
    core = Clusters(runs.config)
    yield core
    for record in core.find(everywhere=False):
        core.stop(record.name)


@pytest.fixture
def start(clusters: Clusters) -> Callable[..., Path]:
    """Start a small cluster and give its directory."""

    def begin(name: str = "small", **options: Any) -> Path:
        workers = options.pop("workers", 1)
        profile = clusters.config.profile("local", workers=workers, cpus=float(workers), gpus=0)
        return clusters.start(profile, name=name, **options).directory

    return begin


@pytest.fixture
def submit(runs: Runs, clusters: Clusters, make_notebook: Callable[..., Path]) -> Callable[..., RunRecord]:
    """Start a notebook of these cells on a cluster."""

    def begin(*cells: str | tuple[str, str], cluster: str = "small", **options: Any) -> RunRecord:
        notebook = make_notebook(*cells, name=options.pop("notebook", "notebook.ipynb"))
        profile = clusters.profile_of(cluster)
        return runs.submit(runs.prepare(notebook, profile=profile, cluster=cluster, **options))

    return begin


def until(look: Callable[[], Any], what: str, patience: float = _PATIENCE) -> Any:
    """Wait for something."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} has not come in {patience} s"
        time.sleep(0.1)
    return found


def until_ready(clusters: Clusters, name: str = "small") -> None:
    until(lambda: clusters.get(name).ready, "an engine that waits")


def nothing_left(directory: Path) -> None:
    """Neither the directory nor a process of the cluster."""
    until(lambda: not directory.exists(), f"the end of {directory}")
    until(lambda: not _processes(directory), "the end of the processes")


def _processes(directory: Path) -> list[psutil.Process]:
    found = processes_of(directory)
    for process in psutil.process_iter():
        try:
            if str(directory) in process.environ().get("JUPYTER_MLOPS_DATA_DIR", "") and process not in found:
                found.append(process)
        except psutil.Error:
            continue
    return [each for each in found if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_a_cluster_computes_for_this_process_and_for_runs_and_leaves_nothing(
    clusters: Clusters, start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs
) -> None:
    from jupyter_mlops import get_client
    from jupyter_mlops.cluster.client import close_client

    directory = start(workers=2)
    assert oct(directory.stat().st_mode)[-3:] == "700"
    assert oct((directory / "tls.key").stat().st_mode)[-3:] == "600"
    client = clusters.connect("small")
    assert get_client() is client
    assert client.submit(sum, range(10)).result() == 45
    record = clusters.get("small")
    assert (record.state, record.workers, record.where) == ("running", 2, "this machine")

    submitted = submit(
        ("factor = 2", "parameters"),
        "from jupyter_mlops import get_client\nclient = get_client()\n"
        "import mlflow, os, sys\n"
        "there = client.scheduler.address\n"
        "answer = client.submit(lambda x: x * factor, 21).result()\n"
        "mlflow.log_metric('answer', answer)\nprint('workers', len(client.nthreads()), there)",
        "from pathlib import Path\nPath('left.txt').write_text('x')\n'x' * 3",
        parameters={"factor": 2},
    )
    ended = runs.wait(submitted.run_id)
    assert (ended.state, ended.message) == (RunState.SUCCEEDED, "")
    assert ended.runner == "cluster"
    address = client.scheduler.address
    text = (runs.files(ended) / "executed.ipynb").read_text()
    assert f"workers 2 {address}" in text
    assert (runs.files(ended) / "executed.html").exists()
    import mlflow

    found = mlflow.MlflowClient(runs.config.mlflow_uri()).get_run(ended.mlflow_run_id)
    assert (found.info.status, found.data.metrics["answer"]) == ("FINISHED", 42)

    clusters.stop("small")
    assert client.status == "closed"
    nothing_left(directory)
    with pytest.raises(ClusterError, match="'small' is gone"):
        get_client()
    close_client()
    with pytest.raises(NotFoundError):
        clusters.get("small")


def test_a_notebook_that_starts_a_cluster_has_a_ready_client(clusters: Clusters) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_mlops import get_client
    from jupyter_mlops.cluster.client import close_client
    from jupyter_mlops.magics import call

    shell = InteractiveShell()
    call(shell, "cluster start --workers 1 --cpus 1 --gpus 0 --name small --idle-timeout 10m")
    client = shell.user_ns["client"]
    assert client.submit(sum, [1, 2]).result() == 3
    assert get_client() is client
    close_client()
    assert clusters.get("small").state == "running"
    with pytest.raises(UsageError, match="already"):
        call(shell, "cluster start --name small")
    call(shell, "cluster stop small")
    assert clusters.find(everywhere=False) == []


def test_the_first_cell_of_a_run_starts_at_once(
    clusters: Clusters, start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    start()
    waited = []
    for _ in range(3):
        until_ready(clusters)
        time.sleep(2)
        record = submit("x = 1")
        accepted = time.time()
        events = list(runs.events(record, follow=True))
        first = next(event for event in events if isinstance(event, CellEvent))
        waited.append(first.time.timestamp() - accepted)
        assert runs.get(record.run_id).state is RunState.SUCCEEDED
    with capsys.disabled():
        sys.stdout.write(
            f"\nfrom submit to the first cell on a warm cluster: {', '.join(f'{each:.2f}' for each in waited)} s\n"
        )
    assert min(waited) < 10  # a quiet machine needs less than one; this one may be anything but quiet


def test_a_run_can_be_cancelled_and_another_goes_on_beside_it(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs
) -> None:
    start()
    endless = submit("import time\nprint('here')\ntime.sleep(600)", notebook="endless.ipynb")
    other = submit("import time\ntime.sleep(1)\ny = 2", notebook="other.ipynb")
    until(lambda: any(isinstance(event, CellEvent) for event in runs.events(endless)), "the first cell")
    runs.cancel(endless.run_id)
    cancelled, done = runs.wait(endless.run_id), runs.wait(other.run_id)
    assert cancelled.state is RunState.CANCELLED
    assert "cancelled by" in cancelled.message
    assert done.state is RunState.SUCCEEDED


def test_a_run_fails_with_its_own_sentence_and_is_retried_on_the_cluster(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs
) -> None:
    start()
    failed = runs.wait(submit("1 / 0").run_id)
    assert failed.state is RunState.FAILED
    assert "ZeroDivisionError" in failed.message
    again = runs.wait(runs.retry(failed.run_id).run_id)
    assert (again.runner, again.state, again.retry_of) == ("cluster", RunState.FAILED, failed.run_id)


def test_another_seed_and_the_files_beside_the_notebook_are_what_the_run_gets(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs, clusters: Clusters, tmp_path: Path
) -> None:
    start()
    until_ready(clusters)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "project" / "own.py").write_text("value = 5\n")
    cells = (
        "import os, own\nprint(open('data.csv').read().strip(), own.value, os.environ['PYTHONHASHSEED'])",
        "print(os.environ['JUPYTER_MLOPS_RUN_ID'], hash('a'))",
    )
    found = []
    for seed in (0, 7):
        ended = runs.wait(submit(*cells, seed=seed).run_id)
        assert (ended.state, ended.message) == (RunState.SUCCEEDED, "")
        text = (runs.files(ended) / "executed.ipynb").read_text()
        assert f"1,2 5 {seed}" in text
        assert ended.run_id in text
        found.append(text)


def test_it_ends_when_nothing_ran_on_it_for_a_while_and_not_before(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs, clusters: Clusters, make_notebook: Any
) -> None:
    runs.prepare(make_notebook("x = 1"))  # what is imported for that must not take the time of the cluster
    directory = start(idle_timeout=30.0)
    record = submit("import time\ntime.sleep(40)")
    assert runs.wait(record.run_id).state is RunState.SUCCEEDED
    nothing_left(directory)
    assert clusters.find(everywhere=False) == []
    with pytest.raises(NotFoundError, match="no cluster 'small'"):
        submit("x = 1")


def test_it_ends_at_the_end_of_its_lifetime_whatever_runs_on_it(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs
) -> None:
    directory = start(lifetime=75.0)
    record = submit("import time\nprint('here')\ntime.sleep(600)")
    until(lambda: any(isinstance(event, CellEvent) for event in runs.events(record)), "the first cell")
    nothing_left(directory)
    ended = runs.wait(record.run_id)
    assert ended.state is RunState.CANCELLED
    assert "lifetime" in ended.message


def test_it_outlives_whoever_started_it_and_ends_by_itself(clusters: Clusters, make_notebook: Any) -> None:
    directory = clusters.config.data_path / "clusters" / "orphan"
    command = [
        sys.executable, "-c",
        "import sys, time\nfrom jupyter_mlops.clusters import Clusters\ncore = Clusters()\n"
        "core.start(core.config.profile('local', workers=1, gpus=0), name='orphan', idle_timeout=30)\n"
        "client = core.connect('orphan')\nclient.submit(sum, [1]).result()\nprint('up', flush=True)\ntime.sleep(600)",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        starter.send_signal(signal.SIGKILL)
    assert clusters.get("orphan").state == "running"
    nothing_left(directory)


def test_a_run_whose_cluster_is_killed_gets_its_record_and_nothing_goes_on(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs, clusters: Clusters
) -> None:
    directory = start()
    head = psutil.Process(_head(directory))
    record = submit("import time\nprint('here')\ntime.sleep(600)")
    until(lambda: any(isinstance(event, CellEvent) for event in runs.events(record)), "the first cell")
    head.kill()
    head.wait(_PATIENCE)
    ended = until(lambda: _terminal(runs, record), "the record")
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    assert "The cluster small was lost" in ended.message
    assert clusters.find(everywhere=False) == []
    nothing_left(directory)


def test_a_start_that_is_broken_off_leaves_nothing(clusters: Clusters) -> None:
    def break_off(_text: str) -> None:
        raise KeyboardInterrupt

    profile = clusters.config.profile("local", workers=1, cpus=1.0, gpus=0)
    with pytest.raises(KeyboardInterrupt):
        clusters.start(profile, name="small", told=break_off)
    assert clusters.find(everywhere=False) == []
    nothing_left(clusters.config.data_path / "clusters" / "small")


def test_a_run_that_is_still_being_sent_is_not_taken_for_lost(
    start: Callable[..., Path],
    submit: Callable[..., RunRecord],
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start()
    send, seen = cluster_runner._send, []

    def look_while_it_is_sent(*arguments: Any) -> None:
        seen.extend(record.state for record in runs.find())
        send(*arguments)
        seen.extend(record.state for record in runs.find())

    monkeypatch.setattr(cluster_runner, "_send", look_while_it_is_sent)
    record = submit("print('all is well')")
    assert seen == [RunState.PENDING] * 2
    ended = runs.wait(record.run_id)
    assert (ended.state, ended.message) == (RunState.SUCCEEDED, "")
    assert "sender" not in (runs.files(ended) / cluster_runner.PLACE_FILE).read_text()


def test_a_run_that_was_never_sent_whole_is_recorded_as_lost(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()

    def break_off(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster_runner, "_send", break_off)
    with pytest.raises(KeyboardInterrupt):
        submit("print('nothing')")
    (record,) = runs.find()
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.WORKER_DIED)


def test_a_run_that_nobody_looked_at_before_its_cluster_ended_has_the_record_that_it_made(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs, clusters: Clusters
) -> None:
    start()
    record = submit("print('all is well')")
    until(lambda: record.run_id in clusters.get("small").runs, "the beginning")
    until(lambda: not clusters.get("small").runs, "the end")
    clusters.stop("small")
    ended = runs.get(record.run_id)
    assert (ended.state, ended.message) == (RunState.SUCCEEDED, "")
    assert "all is well" in (runs.files(ended) / "executed.ipynb").read_text()
    assert any(isinstance(event, CellEvent) for event in runs.events(ended))


def test_workers_come_and_go_and_data_stays(clusters: Clusters, start: Callable[..., Path]) -> None:
    start(workers=2)
    client = clusters.connect("small")
    kept = client.scatter({f"k{n}": n for n in range(20)}, broadcast=False)
    assert all(client.has_what().values())  # each worker holds some of it alone
    assert clusters.scale("small", 1) == 1
    until(lambda: clusters.get("small").workers == 1, "one worker")
    assert client.gather(kept) == {f"k{n}": n for n in range(20)}
    clusters.scale("small", 2)
    until(lambda: clusters.get("small").workers == 2, "two workers")
    with pytest.raises(UsageError, match="more than this machine"):
        clusters.scale("small", 1000)


def test_only_who_has_the_certificate_can_speak_to_it(start: Callable[..., Path], tmp_path: Path) -> None:
    from jupyter_mlops.kubernetes.certificates import issue_certificates
    from jupyter_mlops.warm import calls
    from jupyter_mlops.warm.known import CA_FILE, CERTIFICATE_FILE, KEY_FILE

    directory = start()
    address = _facts(directory)["address"]
    other = tmp_path / "other"
    other.mkdir()
    issued = issue_certificates("small")
    for name, text in ((CA_FILE, issued.ca), (CERTIFICATE_FILE, issued.certificate), (KEY_FILE, issued.key)):
        (other / name).write_text(text)
    with pytest.raises((ClusterError, OSError)):
        calls.call(address, calls.security_of(other), calls.STATE)
    assert calls.call(address, calls.security_of(directory), calls.STATE)["workers"] == 1


def test_the_name_is_free_again_when_its_cluster_is_gone(start: Callable[..., Path], clusters: Clusters) -> None:
    directory = start()
    with pytest.raises(UsageError, match="already"):
        start()
    os.kill(_head(directory), signal.SIGKILL)
    until(lambda: not psutil.pid_exists(_head(directory)) or clusters.find(everywhere=False) == [], "the end")
    start()


def _terminal(runs: Runs, record: RunRecord) -> RunRecord | None:
    found = runs.get(record.run_id)
    return found if found.state.is_terminal else None


def _facts(directory: Path) -> dict[str, Any]:
    import json

    facts: dict[str, Any] = json.loads((directory / "head.json").read_text())
    return facts


def _head(directory: Path) -> int:
    try:
        return int(_facts(directory)["pid"])
    except OSError:
        return -1


def test_events_are_told_once_whoever_looks(
    start: Callable[..., Path], submit: Callable[..., RunRecord], runs: Runs
) -> None:
    start()
    record = submit("x = 1", "y = 2")
    followed = list(runs.events(record, follow=True))
    again = list(runs.events(record))
    assert [event for event in again if isinstance(event, RunEvent)][-1].state is RunState.SUCCEEDED
    assert followed == again
    assert sum(isinstance(event, CellEvent) for event in again) == 4
