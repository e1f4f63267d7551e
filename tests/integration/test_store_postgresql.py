"""The store on a real PostgreSQL, and what several processes and a restart of the server do to it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jupyter_mlops.errors import StoreError
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import RunState
from jupyter_mlops.store import database
from jupyter_mlops.store.database import Store
from tests.unit.store.cases import ROOT, StoreCases, all_at_once, process, spec

from .postgresql import PostgreSQL, postgresql

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running:
        yield running


@pytest.fixture
def url(server: PostgreSQL) -> str:
    return server.new_database()


class TestOnPostgreSQL(StoreCases):
    """Everything that the store promises on SQLite."""


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    if request.param == "postgresql":
        return request.getfixturevalue("server").new_database
    numbers = itertools.count()
    return lambda: f"sqlite:///{tmp_path / f'store-{next(numbers)}.db'}"


@pytest.fixture
def either_url(new_url: Callable[[], str]) -> str:
    return new_url()


def test_an_upgrade_by_several_processes_at_once_happens_once(new_url: Callable[[], str]) -> None:
    urls = [new_url() for _ in range(6)]  # the moment at which they meet is short
    code = "for url in sys.argv[1:]:\n    print(len(Store(url).runs()))"
    assert all_at_once(code, 4, *urls) == ["0\n" * 6] * 4


def test_one_key_from_many_processes_is_one_run(either_url: str) -> None:
    Store(either_url).close()
    code = "s = Store(sys.argv[1])\nfor slot in range(20):\n    print(s.add_run(spec(run_key=f'job/{slot}')).run_id)"
    answers = all_at_once(code, 6, either_url)
    assert len(set(answers)) == 1
    assert len(set(answers[0].split())) == 20
    assert len(Store(either_url).runs(limit=1000)) == 20


def test_writers_in_several_processes_lose_and_double_nothing(either_url: str) -> None:
    Store(either_url).close()
    code = (
        "from jupyter_mlops.spec import RunState\ns = Store(sys.argv[1])\n"
        "for n in range(30):\n    r = s.add_run(spec(name=str(n)))\n    s.update_run(r.run_id, state=RunState.RUNNING)\n"
        "    assert s.update_run(r.run_id, state=RunState.SUCCEEDED)\n    print(r.run_id)"
    )
    added = [run_id for answer in all_at_once(code, 5, either_url) for run_id in answer.split()]
    records = Store(either_url).runs(limit=1000)
    assert sorted(record.run_id for record in records) == sorted(added)
    assert len(set(added)) == 150
    assert {record.state for record in records} == {RunState.SUCCEEDED}


def test_an_end_that_several_processes_record_at_once_is_recorded_by_one(either_url: str) -> None:
    record = Store(either_url).add_run(spec())
    code = (
        "from jupyter_mlops.spec import RunState\nimport os\n"
        "print(Store(sys.argv[1]).update_run(sys.argv[2], state=RunState.FAILED, message=str(os.getpid())))"
    )
    answers = all_at_once(code, 5, either_url, record.run_id)
    assert sorted(answers) == ["False\n"] * 4 + ["True\n"]


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_work_goes_on_when_the_server_is_back(server: PostgreSQL, url: str, how: str) -> None:
    Store(url).close()
    writer = process(
        "s = Store(sys.argv[1])\nfor n in range(100000):\n    print(s.add_run(spec(run_key=f'k{n}')).run_id, flush=True)\n"
        "    if n and sys.argv[2] == 'stop': break",
        url, "go",
    )  # fmt: skip
    try:
        acknowledged = [writer.stdout.readline().strip() for _ in range(20)]
        if how == "kill":
            server.kill()
        else:
            server.stop(how)
            time.sleep(2)  # long enough that it is met
            server.start()
        acknowledged += [writer.stdout.readline().strip() for _ in range(200)]
        assert all(acknowledged), writer.stderr.read()
    finally:
        writer.kill()
        rest, _ = writer.communicate()
    acknowledged += [line for line in rest.split("\n")[:-1] if line]
    found = {record.run_key: record.run_id for record in Store(url).runs(limit=100_000)}
    # One more may have been written whose answer the writer's end swallowed.
    assert len(found) - len(acknowledged) in (0, 1)
    assert [found[f"k{number}"] for number in range(len(acknowledged))] == acknowledged


def test_a_server_that_stays_away_is_told_and_asked_again_later(
    server: PostgreSQL, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_RESTART_TIMEOUT", 2.0)
    store = Store(url)
    record = store.add_run(spec())
    server.stop()
    try:
        begun = time.monotonic()
        with pytest.raises(StoreError, match="does not answer") as caught:
            store.update_run(record.run_id, state=RunState.SUCCEEDED)
        assert time.monotonic() - begun >= 2
        assert server.password not in f"{caught.value} {caught.value.hint}"
        begun = time.monotonic()
        with pytest.raises(StoreError, match="does not answer"):
            Store(url)  # it was never there: nothing to wait for
    finally:
        server.start()
    assert store.update_run(record.run_id, state=RunState.SUCCEEDED)
    assert Store(url).run(record.run_id).state is RunState.SUCCEEDED


def test_a_database_that_is_missing_or_closed_to_the_user_is_told(server: PostgreSQL, url: str) -> None:
    with pytest.raises(StoreError, match="nowhere") as caught:
        Store(server.plain_url("nowhere"))
    assert server.password not in str(caught.value)
    with pytest.raises(StoreError, match="password authentication failed"):
        Store(url.replace(server.password, "wrong-password"))
    name = url.rpartition("/")[2]
    server.execute("DROP ROLE IF EXISTS reader")
    server.execute("CREATE ROLE reader LOGIN PASSWORD 'reads-only'")
    with pytest.raises(StoreError, match="permission denied"):
        Store(f"postgresql://reader:reads-only@127.0.0.1:{server.port}/{name}")


def test_a_run_outlasts_its_store_and_its_end_is_recorded(
    server: PostgreSQL, url: str, runs: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_MLOPS_STORE_URL", url)
    core = Runs()
    gate = Path(os.environ["HOME"]) / "gate"
    path = make_notebook(
        f"import time, pathlib\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.1)",
        "import os\nprint(sorted(name for name in os.environ if 'STORE' in name))",
    )
    record = core.submit(core.prepare(path))
    for event in core.events(record, follow=True):
        if event.type == "cell":
            break
    server.stop("immediate")
    try:
        gate.touch()
        for _ in core.events(record, follow=True):
            pass  # to its end, with the store away
    finally:
        server.start()
    ended = core.wait(record.run_id)
    assert ended.state is RunState.SUCCEEDED, ended.message
    assert ended.mlflow_run_id
    files = [entry for entry in core.files(record).rglob("*") if entry.is_file()]
    assert files
    for file in files:
        assert server.password.encode() not in file.read_bytes(), file


def test_one_key_submitted_by_several_processes_runs_once(
    url: str, runs: Runs, make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_MLOPS_STORE_URL", url)
    core = Runs()
    core.store.close()
    path = make_notebook("print('once')")
    code = (
        "import sys\nfrom pathlib import Path\nfrom jupyter_mlops.runs import Runs\nruns = Runs()\n"
        "prepared = runs.prepare(Path(sys.argv[1]), run_key='job/7')\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "print(runs.submit(prepared).run_id)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(4)
    ]
    for one in processes:
        assert one.stdout.readline() == "ready\n"
    found = []
    for one in processes:
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in processes:
        found.append(one.communicate(timeout=300)[0].strip())
    assert len(set(found)) == 1
    assert core.wait(found[0]).state is RunState.SUCCEEDED
    assert [entry.name for entry in (core.config.data_path / "runs").iterdir()] == [found[0]]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(core.config.mlflow_uri())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert len(client.search_runs(experiments)) == 1
    assert json.loads((core.files(core.get(found[0])) / "spec.json").read_text())["run_key"] == "job/7"
