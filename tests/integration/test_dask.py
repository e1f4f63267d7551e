"""The Dask cluster of a process and of a run: real workers, who reaches them, and that they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_mlops.events import NoticeEvent, ResourceEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState

from .conftest import processes_of
from .watching import (
    cell_runs,
    engine_of,
    executed,
    nothing_is_left,
    outputs_text,
    start,
    until,
)

pytestmark = pytest.mark.integration

HEAD = """
import json, os, sys, time, warnings
import jupyter_mlops
from jupyter_mlops.cluster import client as room
from jupyter_mlops.profile import Profile
TWO = Profile(name="two", workers=2, cpus=2, gpus=0)

def tell(**facts):
    print(json.dumps(facts), flush=True)
"""


def script(tmp_path: Path, body: str, *, guarded: bool = True) -> Path:
    """A script that tells facts, each a line of JSON."""
    main = "\n".join(f"    {line}" for line in body.strip().splitlines())
    path = tmp_path / "script.py"
    path.write_text(HEAD + (f'\nif __name__ == "__main__":\n{main}\n' if guarded else f"\n{body.strip()}\n"))
    return path


def facts_of(path: Path, **environ: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, env={**os.environ, **environ}, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return {key: value for line in done.stdout.splitlines() for key, value in json.loads(line).items()}


def test_a_process_has_one_cluster_that_only_this_machine_and_who_has_the_certificate_reach(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    path = script(
        tmp_path,
        """
import psutil
client = jupyter_mlops.get_client(TWO)
tell(same=jupyter_mlops.get_client() is client, sum=client.submit(sum, [1, 2, 3]).result())
from distributed import default_client
tell(default=default_client() is client, address=client.scheduler.address, threads=sum(client.nthreads().values()))
family = [psutil.Process(), *psutil.Process().children(recursive=True)]
tell(listens=[c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN])
tell(inside=client.submit(lambda: jupyter_mlops.get_client().scheduler.address).result())
tell(nested=client.submit(lambda: jupyter_mlops.get_client().submit(sum, [4, 5]).result()).result())
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    other = jupyter_mlops.get_client(Profile(name="three", workers=3, gpus=0))
tell(kept=other is client, told=[str(w.message) for w in told])
state = json.load(open(os.environ["JUPYTER_MLOPS_RUN_DIR"] + "/dask.json"))
use = room.dask_use(state)
tell(state=state, pid=os.getpid(), workers=use.workers, busy=use.processing, memory=use.memory)
child = os.fork()
if child == 0:
    room.close_client()  # a copy of the parent's is not the child's to close
    os._exit(0 if room._held is None else 1)
tell(child=os.waitpid(child, 0)[1], alive=client.submit(sum, [2, 2]).result())
room.close_client()
tell(gone=not os.path.exists(os.environ["JUPYTER_MLOPS_RUN_DIR"] + "/dask.json"))
room.close_client()
again = jupyter_mlops.get_client(TWO)
tell(new=again is not client, works=again.submit(sum, [1, 1]).result())
again.cluster.close()
third = jupyter_mlops.get_client(TWO)
tell(third=third.submit(sum, [3]).result())
""",
    )  # fmt: skip
    facts = facts_of(path, JUPYTER_MLOPS_RUN_DIR=str(run_dir))
    assert facts["same"]
    assert facts["default"]
    assert facts["sum"] == 6
    assert facts["address"].startswith("tls://127.0.0.1:")
    assert facts["threads"] == 2
    assert set(facts["listens"]) == {"127.0.0.1"}
    assert facts["inside"] == facts["address"]
    assert facts["nested"] == 9
    assert facts["kept"]
    assert "keeps the resources it was started with" in facts["told"][0]
    assert facts["state"]["address"] == facts["address"]
    assert facts["state"]["pid"] == facts["pid"]
    assert facts["workers"] == 2
    assert facts["memory"] > 0
    assert (facts["child"], facts["alive"]) == (0, 4)
    assert facts["gone"]
    assert (facts["new"], facts["works"], facts["third"]) == (True, 2, 3)
    assert not (run_dir / "dask.json").exists()  # closed at the end of the process
    until(lambda: not processes_of(tmp_path))


def test_who_has_no_certificate_is_refused(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
import asyncio
client = jupyter_mlops.get_client(TWO)
from distributed import Client
for address in (client.scheduler.address, client.scheduler.address.replace("tls:", "tcp:")):
    try:
        Client(address, timeout=5, set_as_default=False)
        tell(**{address[:3]: "let in"})
    except Exception as error:
        tell(**{address[:3]: type(error).__name__})
tell(works=client.submit(sum, [1]).result())
""",
    )
    facts = facts_of(path)
    assert facts["works"] == 1
    assert facts["tls"] != "let in"
    assert facts["tcp"] != "let in"


def test_a_script_without_the_guard_is_told_before_anything_starts(tmp_path: Path) -> None:
    path = script(tmp_path, "print('once', flush=True)\njupyter_mlops.get_client(TWO)", guarded=False)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert done.stdout == "once\n"
    assert "The script script.py starts a Dask cluster in line" in done.stderr
    assert not processes_of(tmp_path)


def test_more_gpus_than_there_are_is_told(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
try:
    jupyter_mlops.get_client(Profile(name="big", gpus=1000))
except jupyter_mlops.errors.MLOpsError as error:
    tell(error=error.message, hint=error.hint)
""",
    )
    facts = facts_of(path)
    assert "asks for 1000 GPUs" in facts["error"]
    assert "--gpus" in facts["hint"]


def test_the_workers_of_a_killed_process_end(tmp_path: Path) -> None:
    path = script(tmp_path, "client = jupyter_mlops.get_client(TWO)\ntell(ready=True)\ntime.sleep(600)")
    process = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["ready"]
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family))


def seen_in(runs: Runs, record: Any) -> list[Any]:
    return [event.dask for event in runs.events(record) if isinstance(event, ResourceEvent) and event.dask]


def test_workers_cpus_and_memory_of_the_profile_are_those_of_the_runs_cluster(
    runs: Runs, run_notebook: Callable
) -> None:
    record = run_notebook(
        ("client = None", "parameters"),
        "workers = client.scheduler_info(n_workers=-1)['workers'].values()\n"
        "print(sorted((w['nthreads'], w['memory_limit']) for w in workers))\n"
        "print(client.submit(lambda: __import__('os').environ['JUPYTER_MLOPS_RUN_ID']).result())",
        "import time; time.sleep(4)",
        profile=runs.config.profile(workers=2, cpus=2, memory="3Gi"),
    )
    assert record.state is RunState.SUCCEEDED, record.message
    text = outputs_text(executed(runs, record))
    each = 3 * 2**30 * 3 // 4 // 2
    assert str([(1, each), (1, each)]) in text
    assert record.run_id in text
    assert max(use.workers for use in seen_in(runs, record)) == 2
    assert all((use.dashboard or "http://127.0.0.1:").startswith("http://127.0.0.1:") for use in seen_in(runs, record))
    assert not (runs.files(record) / "dask.json").exists()
    until(lambda: nothing_is_left(runs))


def test_a_worker_that_is_killed_is_replaced_and_the_run_goes_on(runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook(
        ("client = None", "parameters"),
        "import os, signal, time\n"
        "tasks = [client.submit(lambda n: (time.sleep(0.2), n)[1], n, pure=False) for n in range(20)]\n"
        "victim = next(iter(client.run(os.getpid).values()))\nos.kill(victim, signal.SIGKILL)\n"
        "print(sum(client.gather(tasks)))\nclient.wait_for_workers(2, timeout=120)\n"
        "print('back:', victim not in client.run(os.getpid).values())",
        profile=runs.config.profile(workers=2, cpus=2),
    )
    assert record.state is RunState.SUCCEEDED, record.message
    text = outputs_text(executed(runs, record))
    assert "190" in text
    assert "back: True" in text
    until(lambda: nothing_is_left(runs))


def test_a_profile_that_starves_the_workers_fails_with_the_sentence(runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook(
        ("client = None", "parameters"), "print('never')", profile=runs.config.profile(workers=8, memory="1Gi")
    )
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.CELL_FAILED)
    assert "leaves 96 MiB of memory to each of 8 Dask workers" in record.message
    until(lambda: nothing_is_left(runs))


def test_no_worker_is_left_when_engine_and_supervisor_are_killed(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(("client = None", "parameters"), "import time; time.sleep(600)")
    record = start(runs, path, profile=runs.config.profile(workers=2, cpus=2))
    until(lambda: cell_runs(runs, record, 3))
    engine = engine_of(runs, record)
    assert engine is not None
    supervisor = json.loads((runs.files(record) / "worker.json").read_text())["pid"]
    family = psutil.Process(supervisor).children(recursive=True)
    assert len(family) >= 5  # engine, kernel, Dask's resource tracker, two nannies or workers
    os.kill(supervisor, signal.SIGKILL)
    engine.kill()
    ended = until(lambda: (found := runs.get(record.run_id)).state.is_terminal and found)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.WORKER_DIED)
    until(lambda: nothing_is_left(runs))
    assert not [event for event in runs.events(record) if isinstance(event, NoticeEvent) and event.level == "warning"]
    time.sleep(1)
    assert nothing_is_left(runs)
