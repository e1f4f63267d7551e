"""The mirror of a namespace: when it asks, when it only listens, and what it does when it hears nothing.

The API server is scripted here; what the mirror saves on the real one is counted in `tests/cluster/test_scale.py`.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from jupyter_mlops.errors import KubernetesError
from jupyter_mlops.kubernetes import mirror, names
from jupyter_mlops.kubernetes.mirror import Mirror, mirror_of_all, mirror_of_run
from jupyter_mlops.kubernetes.watch import Watch

from . import objects

Object = dict[str, Any]
SELECTOR = {names.MANAGED_BY_LABEL: names.PRODUCT, names.RUN_LABEL: "abc"}


class Source:
    """An API server with these Jobs and pods, which counts what it is asked; a watch hears what is `sent`."""

    def __init__(self, jobs: list[Object], pods: list[Object]) -> None:
        self.jobs, self.pods = jobs, pods
        self.asked: Counter[str] = Counter()
        self.sent: queue.Queue[Any] = queue.Queue()
        self.away: KubernetesError | None = None

    def listing(self, resource: str, **_selection: Any) -> tuple[list[Object], str]:
        self.asked[f"list {resource}"] += 1
        if self.away is not None:
            raise self.away
        return list(self.jobs if resource == "jobs" else self.pods), "7"

    def watch(self, resource: str, **options: Any) -> Iterator[Object]:
        self.asked[f"watch {resource}"] += 1
        if self.away is not None:
            raise self.away
        return self._pods() if resource == "pods" else iter(())

    def _pods(self) -> Iterator[Object]:
        while True:
            change = self.sent.get()
            if isinstance(change, Exception):
                raise change
            if change is None:
                return
            yield change

    def get(self, resource: str, name: str) -> Object | None:
        self.asked["get"] += 1
        return next((job for job in self.jobs if job["metadata"]["name"] == name), None)

    def find(self, resource: str, **_selection: Any) -> list[Object]:
        self.asked[f"find {resource}"] += 1
        return list(self.pods) if resource == "pods" else []

    def find_if_allowed(self, resource: str, **_selection: Any) -> None:
        self.asked[f"find {resource}"] += 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_PAUSE", 0.01)


def until(look: Callable[[], Any]) -> None:
    patience = time.monotonic() + 30
    while not look():
        assert time.monotonic() < patience
        time.sleep(0.01)


def make(source: Source, labels: Mapping[str, str] = SELECTOR) -> Mirror:
    return Mirror(source, labels, wide=False)  # type: ignore[arg-type]


def test_one_look_is_two_lists_however_many_runs_are_read_from_it() -> None:
    source = Source([objects.job()], [objects.running()])
    found = make(source)
    found.refresh()
    assert found.job("train-abc") is not None
    assert found.job("train-xyz") is None
    assert [len(found.pods(run)) for run in ("abc", "xyz")] == [1, 0]
    assert source.asked == {"list jobs": 1, "list pods": 1}


def test_who_asks_again_listens_from_then_on_and_asks_no_more() -> None:
    head = objects.running(name="head")
    source = Source([objects.job()], [head])
    found = make(source)
    for _ in range(20):
        found.refresh()
    assert (source.asked["list pods"], source.asked["list jobs"]) == (2, 2)
    second = objects.running(name="second")
    source.sent.put({"type": "ADDED", "object": second})
    until(lambda: len(found.pods("abc")) == 2)
    source.sent.put({"type": "DELETED", "object": head})
    until(lambda: [pod["metadata"]["name"] for pod in found.pods("abc")] == ["second"])
    source.sent.put({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
    source.sent.put(None)  # a watch ends by itself: the next one goes on
    until(lambda: source.asked["watch pods"] == 2)
    assert source.asked["list pods"] == 2


def test_a_version_that_is_too_old_is_listed_anew() -> None:
    source = Source([objects.job()], [])
    found = make(source)
    found.refresh()
    found.refresh()
    source.pods = [objects.running()]
    source.sent.put(KubernetesError("too old", code="kubernetes_expired"))
    until(lambda: len(found.pods("abc")) == 1)
    assert source.asked["list pods"] == 3


def test_an_api_server_that_is_away_is_told_to_who_looks_until_it_is_back() -> None:
    source = Source([objects.job()], [objects.running()])
    found = make(source)
    found.refresh()
    found.refresh()
    source.away = KubernetesError("away", code="kubernetes_unreachable")
    source.sent.put(source.away)

    def is_away() -> bool:
        try:
            found.refresh()
        except KubernetesError:
            return True
        return False

    until(is_away)
    source.away = None
    until(lambda: not is_away())
    assert len(found.pods("abc")) == 1


def test_nothing_is_followed_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source([], [])
    found = make(source)
    found.refresh()
    found.refresh()
    monkeypatch.setattr(mirror, "_KEPT", 0.0)
    source.sent.put(None)
    until(lambda: found._pods._thread is None)
    assert not found.is_used


def test_two_runs_are_followed_each_by_itself_and_more_of_them_together() -> None:
    source: Any = Source([], [])
    selectors = [{**SELECTOR, names.RUN_LABEL: f"run-{number}"} for number in range(5)]
    found = [mirror_of_run(source, selector) for selector in selectors]
    assert len({id(each) for each in found}) == 3
    assert found[2] is found[4] is mirror_of_all(source)
    assert mirror_of_run(source, {**SELECTOR, names.RUN_LABEL: "another"}) is mirror_of_all(source)


def test_an_end_is_believed_from_the_source_alone() -> None:
    over = objects.job(conditions=[objects.condition("Complete")])
    source = Source([over], [])
    found = make(source)
    source.pods = [objects.running(name="head")]
    found._pods.refresh()
    found._pods._replace([], "7")  # the mirror has the end of the Job and not yet its pod
    found._jobs.refresh()
    found.refresh = lambda: None  # type: ignore[method-assign]
    watch: Any = Watch(source, "train-abc", SELECTOR, mirror=found)  # type: ignore[arg-type]
    assert watch.glance(found).is_over
    assert not watch.look().is_over
    assert (source.asked["get"], source.asked["find pods"]) == (1, 1)


def test_what_is_kept_of_a_pod_is_what_explains_it() -> None:
    pod = objects.running()
    pod["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    pod["spec"]["containers"] = [{"name": "run", "image": "i", "env": [{"name": "A", "value": "B"}]}]
    source = Source([], [pod])
    found = make(source)
    found.refresh()
    (kept,) = found.pods("abc")
    assert "managedFields" not in kept["metadata"]
    assert kept["spec"]["containers"] == [{"name": "run", "image": "i"}]
    assert "managedFields" in pod["metadata"], "what was listed is another's"
