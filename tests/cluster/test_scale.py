"""What hundreds of runs of eight pods cost one client: time, calls to the API server, memory; each by run.

The pods are played (`simulated`); the API server, the scheduler, the controllers and MLflow are the real ones. How many
runs is said by JUPYTER_MLOPS_TEST_RUNS; `pytest -s` shows the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import psutil
import pytest
import yaml

from jupyter_mlops.config import MLOps
from jupyter_mlops.events import RunEvent, event_line
from jupyter_mlops.kubernetes import transport
from jupyter_mlops.kubernetes.rights import role_manifest
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import RunState

from . import access
from .counting import Counting
from .places import API_PORT
from .pods import wait_for
from .simulated import LABEL, TAINT, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kubernetes.client import ApiClient

    from jupyter_mlops.store.models import RunRecord

    from .context import Context
    from .door import Door

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600, func_only=True)]

RUNS = int(os.environ.get("JUPYTER_MLOPS_TEST_RUNS", "16"))
TABLE = os.environ.get("JUPYTER_MLOPS_TEST_TABLE", "")
"""A file to write the table to."""
PODS = 8
PAGE = 500
WATCHED = 20.0
"""Seconds for which nothing happens and everything is followed."""
LIVE = 10
"""So many of the runs are looked at live, with what they print."""
SUBMIT = Counter(
    {"check and create jobs": 1, "create jobs": 1, "create secrets": 1, "create services": 1,
     "create networkpolicies": 1, "patch jobs": 1}
)  # fmt: skip
END = Counter({"get jobs": 1, "list pods": 1, "get pods/log": 1})


@dataclass
class Client:
    """One client of many runs, and what it asks the API server."""

    runs: Runs
    api: Counting
    admin: ApiClient
    namespace: str
    notebook: Path
    simulation: Simulation
    home: Path
    mlflow_seconds: list[float] = field(default_factory=list)

    def submit(self) -> RunRecord:
        profile = self.runs.config.profile("simulated")
        return self.runs.submit(self.runs.prepare(self.notebook, profile=profile))

    def wait_until_all_run(self, count: int) -> None:
        from kubernetes import client as k

        batch = k.BatchV1Api(self.admin)

        def running() -> list[int]:
            jobs = batch.list_namespaced_job(self.namespace).items
            return [job.status.ready or 0 for job in jobs]

        patient = time.monotonic() + 600
        while time.monotonic() < patient and running() != [PODS] * count:
            time.sleep(1)
        assert running() == [PODS] * count

    def listed_by_command(self) -> tuple[list[dict[str, Any]], float, Counter[str]]:
        """`jupyter mlops runs`: a process that knows nothing yet."""
        start = time.monotonic()
        with self.api.counted() as asked:
            done = subprocess.run(
                [sys.executable, "-m", "jupyter_mlops.cli", "runs", "--json", "--limit", str(2 * RUNS)],
                capture_output=True, text=True, check=True, env={**os.environ, "JUPYTER_CONFIG_DIR": str(self.home)},
            )  # fmt: skip
        return json.loads(done.stdout), time.monotonic() - start, asked


@pytest.fixture
def client(
    own: Context,
    admin: ApiClient,
    namespace: str,
    mlflow: Door,
    make_notebook: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Client]:
    """Somebody with the rights of the Role, whose way to the API server is counted."""
    from kubernetes import client as k

    assert own.place is not None
    # What a test before this one followed is followed for half a minute more, by whatever KUBECONFIG says then.
    followers = {"mlops-jobs", "mlops-pods"}
    wait_for("the end of other followers", lambda: not followers & {each.name for each in threading.enumerate()})
    limited = access.write_limited_kubeconfig(
        own.kubeconfig, tmp_path / "kubeconfig", namespace, role_manifest(namespace=namespace)["rules"], seconds=7200
    )
    api = Counting(own.address, API_PORT, own.place.pki / "ca.crt")
    config = yaml.safe_load(limited.read_text())
    config["clusters"][0]["cluster"] = {"server": api.uri}
    limited.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(limited))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", mlflow.user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", mlflow.password)
    profile = {
        "runner": "kubernetes", "image": "simulated/notebook:1", "namespace": namespace, "pods": PODS, "gpus": PODS,
        "cpus": PODS, "memory": f"{PODS}Gi", "node_selector": {LABEL: "true"}, "ttl": 3600,
        "tolerations": [{"key": TAINT["key"], "value": TAINT["value"], "effect": TAINT["effect"]}],
    }  # fmt: skip
    settings = MLOps()
    settings.profiles = {"simulated": profile}
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "jupyter_mlops_config.py").write_text(f"c.MLOps.profiles = {settings.profiles!r}\n")
    said = [event_line(RunEvent(state=RunState.RUNNING, total_cells=1)), event_line(RunEvent(state=RunState.SUCCEEDED))]
    log, last = (line.decode().strip() for line in said)
    simulation = Simulation(own.place, admin, tmp_path, log=[log], last=last)
    found = Client(
        Runs(config=settings),
        api,
        admin,
        namespace,
        make_notebook("print('trained')"),
        simulation,
        tmp_path / "settings",
    )
    sends = transport.send_inputs

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        try:
            return sends(*args, **kwargs)
        finally:
            found.mlflow_seconds.append(time.monotonic() - start)

    monkeypatch.setattr(transport, "send_inputs", timed)
    yield found
    k.BatchV1Api(admin).delete_collection_namespaced_job(namespace, propagation_policy="Background")
    wait_for("the pods to end", lambda: not k.CoreV1Api(admin).list_namespaced_pod(namespace, limit=1).items)
    simulation.close()
    api.close()


def test_what_a_run_costs_a_client_does_not_grow_with_their_number(client: Client) -> None:
    rows: list[dict[str, Any]] = []
    records: list[RunRecord] = []
    client.simulation.add_nodes(RUNS, gpus=PODS)
    records.append(client.submit())  # MLflow's first experiment, and what a process loads once
    for total in (RUNS // 4, RUNS):
        rows.append(_one_round(client, records, total))
    small, large = rows
    for each in ("submit s", "MLflow s", "list again s"):
        assert large[each] < 3 * small[each] + 0.2, (each, rows)
    waiting = [record.run_id for record in records]
    ended: list[RunRecord] = []
    start = time.monotonic()
    with client.api.counted() as asked:
        follower = threading.Thread(target=lambda: ended.extend(client.runs.ends(waiting)), daemon=True)
        follower.start()
        client.simulation.end_heads()
        follower.join(1800)
    assert {record.run_id for record in ended} == set(waiting)
    assert {record.state for record in ended} == {RunState.SUCCEEDED}
    took = time.monotonic() - start
    calls = _by_run(asked, len(records))
    told = f"{_table(rows)}\n\nThe ends of {len(records)} runs, all at once: {took:.1f} s, {calls} calls each."
    click.echo(f"\n{told}")
    if TABLE:
        Path(TABLE).write_text(told, encoding="utf-8")
    # The lists that a follower begins with; and where the head ends before its Job, the events of that.
    lists = {"list jobs": 2, "list pods": 2 * _pages(PODS * len(records)), "list events": len(records)}
    _assert_asked(asked, END, len(records), watching=took, besides=lists)
    with client.api.counted() as asked:
        assert len(client.runs.find(limit=2 * RUNS)) == len(records)
    assert not asked, "what has ended is not asked for again"


def _one_round(client: Client, records: list[RunRecord], total: int) -> dict[str, Any]:
    new = total - len(records)
    client.mlflow_seconds.clear()
    start = time.monotonic()
    with client.api.counted() as asked:
        records += [client.submit() for _ in range(new)]
    submit = time.monotonic() - start
    _assert_asked(asked, SUBMIT, new, watching=submit)
    row: dict[str, Any] = {
        "runs": total, "submit s": submit / new, "MLflow s": sum(client.mlflow_seconds) / new,
        "submit calls": _by_run(asked, new),
    }  # fmt: skip
    client.wait_until_all_run(total)

    listed, seconds, asked = client.listed_by_command()
    assert [each["state"] for each in listed] == ["running"] * total
    assert asked == Counter({"list jobs": _pages(total), "list pods": _pages(total * PODS)})
    row.update({"list s": seconds, "list calls": asked.total()})

    client.runs.find(limit=2 * RUNS)
    client.runs.find(limit=2 * RUNS)  # from here on it is followed
    start = time.monotonic()
    with client.api.counted() as asked:
        assert {record.state for record in client.runs.find(limit=2 * RUNS)} == {RunState.RUNNING}
    row["list again s"] = (time.monotonic() - start) / total
    assert _without_watches(asked) == Counter()

    stop = threading.Event()
    with client.api.counted() as asked:
        waiting = [record.run_id for record in records]
        start = time.monotonic()
        follower = threading.Thread(target=lambda: list(client.runs.ends(waiting, stop=stop.is_set)), daemon=True)
        follower.start()
        time.sleep(WATCHED)
        stop.set()
        follower.join(120)
    _assert_asked(asked, {}, total, watching=time.monotonic() - start)
    row["watch calls"] = asked.total()

    with client.api.counted() as asked:
        start = time.monotonic()
        _look_live(client, records[:LIVE])
    watching = time.monotonic() - start
    # Its head's, again while it is cut, and now and then that of each worker.
    logs = round(PODS * (2 + watching / 5))
    _assert_asked(asked, {}, LIVE, watching=watching, besides={"get pods/log": logs * LIVE})
    row["memory MiB"] = psutil.Process().memory_info().rss / 2**20
    return row


def _look_live(client: Client, records: list[RunRecord]) -> None:
    """Look at some runs as a person does, all at once, until each has told that it runs."""
    stop, told = threading.Event(), Counter[str]()

    def follow(record: RunRecord) -> None:
        for event in client.runs.events(record, follow=True, stop=stop.is_set):
            if isinstance(event, RunEvent) and event.state is RunState.RUNNING:
                told[record.run_id] += 1

    threads = [threading.Thread(target=follow, args=[record], daemon=True) for record in records]
    for thread in threads:
        thread.start()
    wait_for("every run to tell", lambda: len(told) == len(records))
    time.sleep(5)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert set(told.values()) == {1}


def _assert_asked(
    asked: Counter[str],
    each: Mapping[str, int],
    runs: int,
    *,
    watching: float,
    besides: Mapping[str, int] | None = None,
) -> None:
    """So many calls for each run; besides them the watches of one follower, whatever the number of runs, and at most these."""
    # One of Jobs and one of Pods, anew every 25 seconds.
    assert max(asked["watch jobs"], asked["watch pods"]) <= 2 + watching / 20, asked
    rest = _without_watches(asked)
    rest.subtract({key: count * runs for key, count in each.items()})
    allowed = {"get version": 1, **(besides or {})}
    wrong = {key: count for key, count in rest.items() if not 0 <= count <= allowed.get(key, 0)}
    assert not wrong, (asked, wrong)


def _without_watches(asked: Counter[str]) -> Counter[str]:
    return Counter({key: count for key, count in asked.items() if not key.startswith("watch ")})


def _by_run(asked: Counter[str], runs: int) -> float:
    return round(_without_watches(asked).total() / runs, 2)


def _pages(things: int) -> int:
    return max(1, -(-things // PAGE))


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(rows[0])} |", f"|{' --- |' * len(rows[0])}"]
    for row in rows:
        lines.append(
            f"| {' | '.join(f'{each:.3f}' if isinstance(each, float) else str(each) for each in row.values())} |"
        )
    return "\n".join(lines)
