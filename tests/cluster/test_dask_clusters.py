"""Warm clusters on a real Kubernetes: reached through the API server, used, scaled, and gone with everything of them."""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.clusters import Clusters
from jupyter_mlops.errors import ClusterError, NotFoundError
from jupyter_mlops.events import CellEvent, LogEvent, RunEvent
from jupyter_mlops.kubernetes.rights import INTERACTIVE_RIGHTS, RIGHTS, role_manifest
from jupyter_mlops.spec import RunState

from . import access
from .pods import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_mlops.store.models import RunRecord
    from jupyter_mlops.warm.known import Known

    from .context import Context
    from .run_place import Place

pytestmark = pytest.mark.cluster


@pytest.fixture
def clusters(place: Place, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clusters]:
    """The core, for somebody who may also forward ports."""
    rules = role_manifest(*RIGHTS, *INTERACTIVE_RIGHTS, namespace=place.namespace)["rules"]
    path = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "interactive", place.namespace, rules)
    monkeypatch.setenv("KUBECONFIG", str(path))
    core = Clusters(place.runs.config)
    yield core
    from jupyter_mlops.cluster.client import close_client

    close_client()


def _start(clusters: Clusters, name: str = "small", *, pods: int = 2, **options: Any) -> Known:
    profile = clusters.config.profile("cluster", pods=pods, workers=pods, memory=f"{2 * pods}Gi")
    return clusters.start(profile, name=name, **options)


def _objects(place: Place, cluster: Known) -> list[str]:
    """Everything of the cluster that is in the namespace; it has the labels of a run."""
    return place.objects(cluster.spec.as_run())  # type: ignore[arg-type]  # all that is read is its id


def _names(place: Place, cluster: Known) -> list[str]:
    found = place.pods(cluster.spec.as_run())  # type: ignore[arg-type]  # the same
    return [pod.metadata.name for pod in found if not pod.metadata.deletion_timestamp]


def _submit(place: Place, clusters: Clusters, *cells: str, cluster: str = "small", **options: Any) -> RunRecord:
    notebook = place.make_notebook(*cells, name=options.pop("notebook", "train.ipynb"))
    prepared = place.runs.prepare(notebook, profile=clusters.profile_of(cluster), cluster=cluster, **options)
    return place.runs.submit(prepared)


def test_a_cluster_of_two_pods_is_used_from_outside_by_people_and_runs_and_leaves_nothing(
    place: Place, clusters: Clusters
) -> None:
    told: list[str] = []
    cluster = _start(clusters, told=told.append)
    client = clusters.connect("small")
    assert client.scheduler.address.startswith("tls://127.0.0.1:")
    wait_for("both workers", lambda: clusters.get("small").workers == 2, lambda: clusters.get("small"))

    import dask.array as da

    x = da.ones((1200, 1200), chunks=(200, 200))
    assert int((x @ x.T).sum().compute()) == 1200**3
    assert len(set(client.run(socket.gethostname).values())) == 2

    wait_for("an engine that waits", lambda: clusters.get("small").ready)
    record = _submit(
        place, clusters,
        "from jupyter_mlops import get_client\nclient = get_client()\nimport mlflow\nmlflow.log_metric('loss', 1.5)\n"
        "print('workers', len(client.nthreads()), client.scheduler.address)",
        "print('sum', client.submit(sum, [1, 2, 3]).result())",
    )  # fmt: skip
    accepted = time.time()
    events = place.follow(record)
    final = events[-1]
    assert isinstance(final, RunEvent)
    assert final.state is RunState.SUCCEEDED, events
    first = next(event for event in events if isinstance(event, CellEvent))
    sys.stdout.write(f"from submit to the first cell in a warm pod: {first.time.timestamp() - accepted:.2f} s\n")
    printed = "".join(event.text for event in events if isinstance(event, LogEvent) and event.stream == "stdout")
    assert "workers 2 tls://" in printed
    assert "sum 6" in printed
    ended = place.runs.get(record.run_id)
    assert (ended.runner, ended.state) == ("cluster", RunState.SUCCEEDED)
    assert "sum 6" in (place.runs.files(ended) / "executed.ipynb").read_text()
    assert place.in_mlflow(record).info.status == "FINISHED"
    assert place.in_mlflow(record).data.metrics == {"loss": 1.5, **place.in_mlflow(record).data.metrics}

    endless = _submit(place, clusters, "import time\ntime.sleep(600)", notebook="endless.ipynb")
    place.follow_until(endless, lambda event: isinstance(event, CellEvent))
    place.runs.cancel(endless.run_id)
    assert place.runs.wait(endless.run_id).state is RunState.CANCELLED

    assert len(_objects(place, cluster)) >= 6
    clusters.stop("small")
    wait_for("nothing to be left", lambda: not _objects(place, cluster), lambda: _objects(place, cluster))
    assert clusters.find() == []


def test_a_cluster_grows_and_shrinks_and_keeps_its_data(place: Place, clusters: Clusters) -> None:
    cluster = _start(clusters, pods=1)
    client = clusters.connect("small")
    assert clusters.scale("small", 3) == 3
    wait_for("three workers", lambda: clusters.get("small").workers == 3, lambda: clusters.get("small"))
    kept = client.scatter({str(number): number for number in range(12)})
    assert len({worker for holders in client.who_has(list(kept.values())).values() for worker in holders}) == 3
    assert clusters.scale("small", 1) == 1
    wait_for("one pod", lambda: len(_names(place, cluster)) == 1, lambda: _names(place, cluster))
    wait_for("one worker", lambda: clusters.get("small").workers == 1, lambda: clusters.get("small"))
    assert sum(client.gather(kept).values()) == sum(range(12))
    clusters.stop("small")
    wait_for("nothing to be left", lambda: not _objects(place, cluster), lambda: _objects(place, cluster))


def test_it_ends_by_itself_when_it_is_idle_and_is_not_known_any_more(place: Place, clusters: Clusters) -> None:
    cluster = _start(clusters, pods=2, idle_timeout=10.0)
    wait_for("the pods to end", lambda: not _running(place, cluster), lambda: _running(place, cluster))
    wait_for("it to be forgotten", lambda: not clusters.find(), clusters.find)
    with pytest.raises(NotFoundError, match="There is no cluster 'small'"):
        clusters.get("small")


def test_one_that_was_started_elsewhere_is_listed_and_can_be_stopped(place: Place, clusters: Clusters) -> None:
    cluster = _start(clusters, pods=1)
    cluster.forget()  # as on a machine that has never known of it
    (found,) = clusters.find()
    assert (found.name, found.here) == ("small", False)
    assert found.lifetime_left
    clusters.stop("small")
    wait_for("nothing to be left", lambda: not _objects(place, cluster), lambda: _objects(place, cluster))


def test_a_cluster_that_does_not_start_says_why_and_leaves_nothing(place: Place, clusters: Clusters) -> None:
    profile = clusters.config.profile("cluster", pods=1, image="localhost/there-is-none:1")
    told: list[str] = []
    with pytest.raises(ClusterError):
        clusters.start(profile, name="none", told=lambda text: _give_up(told, text))
    assert any("there-is-none" in text for text in told), told
    assert clusters.find() == []


def test_a_run_of_two_pods_gets_a_third_while_it_runs_and_gives_it_back(place: Place, clusters: Clusters) -> None:
    record = place.submit(
        "from jupyter_mlops import get_client\nimport time\nclient = get_client()\n"
        "def until(count):\n    deadline = time.monotonic() + 240\n"
        "    while len(client.nthreads()) != count and time.monotonic() < deadline:\n        time.sleep(0.5)\n"
        "    print('workers', len(client.nthreads()), flush=True)\n"
        "print('began with', len(client.nthreads()), flush=True)",
        "until(3)\nkept = client.scatter(list(range(12)))",
        "until(2)\nprint('kept', sum(client.gather(kept)))",
        profile={"pods": 2, "memory": "4Gi", "workers": 2},
    )
    place.follow_until(record, lambda event: isinstance(event, LogEvent) and "began with 2" in event.text)
    assert place.runs.scale(record.run_id, 3) == 3
    place.follow_until(record, lambda event: isinstance(event, LogEvent) and "workers 3" in event.text)
    time.sleep(3)  # the notebook keeps data on every worker first
    assert place.runs.scale(record.run_id, 2) == 2
    events = place.follow(record)
    final = events[-1]
    assert isinstance(final, RunEvent)
    assert final.state is RunState.SUCCEEDED, [event for event in events if not isinstance(event, CellEvent)]
    printed = "".join(event.text for event in events if isinstance(event, LogEvent) and event.stream == "stdout")
    assert "workers 3\nworkers 2\nkept 66" in printed


def _running(place: Place, cluster: Known) -> list[str]:
    found = place.pods(cluster.spec.as_run())  # type: ignore[arg-type]  # all that is read is its id
    return [pod.metadata.name for pod in found if pod.status.phase not in ("Succeeded", "Failed")]


def _give_up(told: list[str], text: str) -> None:
    """What a person does who reads that the image cannot be had."""
    told.append(text)
    if "there-is-none" in text:
        raise ClusterError("given up")
