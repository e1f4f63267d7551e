"""Nothing of a run stays in Kubernetes beyond its time, however it ended: all that a namespace can hold is counted.

What is counted is what the API server says that it has, not a list of ours: of every kind, before and after.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.events import CellEvent, LogEvent
from jupyter_mlops.kubernetes import contract, names
from jupyter_mlops.spec import RunState

from .pods import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from kubernetes.client import ApiClient

    from jupyter_mlops.store.models import RunRecord

    from .run_place import Place

pytestmark = pytest.mark.cluster

TTL = 10
SHAPES: dict[str, dict[str, Any]] = {
    "one_pod": {"ttl": TTL}, "two_pods": {"ttl": TTL, "pods": 2, "memory": "4Gi", "workers": 2},
}  # fmt: skip
_BEGAN = ("import time\nprint('began')", "time.sleep(600)")


@pytest.fixture(params=list(SHAPES))
def profile(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is different from the place's profile."""
    return SHAPES[request.param]


def everything(place: Place) -> set[str]:
    """All that the namespace holds, of every kind that can be listed.

    But events, which the API server writes down about what was and forgets by itself.
    """
    from kubernetes.dynamic import DynamicClient
    from kubernetes.dynamic.resource import ResourceList

    found = set()
    for kind in DynamicClient(place.admin).resources.search():
        # A ResourceList is the same kind once more.
        if isinstance(kind, ResourceList) or not kind.namespaced or kind.kind == "Event":
            continue
        if "list" not in (kind.verbs or ()):
            continue
        for thing in kind.get(namespace=place.namespace).items:
            found.add(f"{kind.group or 'core'}/{kind.kind}/{thing.metadata.name}")
    return found


class Before:
    """What the namespace held before a run, and whether it holds the same again."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._held = everything(place)
        assert self._held, "at least the service account and what the test has put there"

    def assert_more(self, pods: int) -> None:
        """The run has put there what it needs: else that nothing stays proves nothing."""
        kinds = {each.split("/")[1] for each in everything(self._place) - self._held}
        wanted = {"Job", "Pod"} | ({"Service", "Secret", "NetworkPolicy", "EndpointSlice"} if pods > 1 else set())
        assert kinds >= wanted, kinds

    def wait(self) -> None:
        """Until it is the same again, with nobody looking after the run."""
        wait_for(
            "nothing of the run to be left",
            lambda: everything(self._place) == self._held,
            lambda: everything(self._place) ^ self._held,
        )


def test_after_success(place: Place, profile: dict[str, Any]) -> None:
    before = Before(place)
    record = place.submit("import time\ntime.sleep(5)\nprint('done')", profile=profile)
    place.follow_until(record, lambda event: isinstance(event, CellEvent))
    before.assert_more(profile.get("pods", 1))
    before.wait()
    assert place.runs.get(record.run_id).state is RunState.SUCCEEDED


def test_after_failure(place: Place, profile: dict[str, Any]) -> None:
    before = Before(place)
    record = place.submit("import time\ntime.sleep(5)\n1 / 0", profile=profile)
    place.follow_until(record, lambda event: isinstance(event, CellEvent))
    before.assert_more(profile.get("pods", 1))
    before.wait()
    assert place.runs.get(record.run_id).state is RunState.FAILED


def test_after_cancel(place: Place, profile: dict[str, Any]) -> None:
    before = Before(place)
    record = place.submit(*_BEGAN, profile=profile)
    place.follow_until(record, _has_begun)
    before.assert_more(profile.get("pods", 1))
    place.runs.cancel(record.run_id)
    before.wait()
    assert place.runs.get(record.run_id).state is RunState.CANCELLED


def test_after_the_client_was_killed_while_it_followed(place: Place, profile: dict[str, Any], tmp_path: Path) -> None:
    before = Before(place)
    place.runs.config.profiles = {"cluster": {**place.runs.config.profiles["cluster"], **profile}}
    notebook = place.make_notebook("import time\ntime.sleep(10)\nprint('done')")
    client = place.command("train", str(notebook), "--profile", "cluster", "--json", home=tmp_path)
    assert client.stdout is not None
    assert any('"type":"cell"' in line.replace(" ", "") for line in client.stdout), "it followed the run to its cell"
    client.kill()
    client.wait()
    before.assert_more(profile.get("pods", 1))
    before.wait()
    (record,) = place.runs.find()
    assert record.state is RunState.SUCCEEDED


def test_after_the_client_was_killed_between_the_parts_of_a_run(place: Place, tmp_path: Path) -> None:
    before = Before(place)
    place.runs.config.profiles = {"cluster": {**place.runs.config.profiles["cluster"], **SHAPES["two_pods"]}}
    notebook = place.make_notebook("print('never')")
    program = textwrap.dedent(
        f"""
        import os, signal, sys
        from pathlib import Path
        from jupyter_mlops.config import MLOps
        from jupyter_mlops.kubernetes import manifest
        from jupyter_mlops.runs import Runs
        manifest.HOLD = 5
        def killed(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)
        manifest.network_policy_manifest = killed
        config = MLOps()
        config.profiles = {dict(place.runs.config.profiles)!r}
        runs = Runs(config=config)
        runs.submit(runs.prepare(Path({str(notebook)!r}), profile=config.profile("cluster")))
        """
    )
    client = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert client.returncode == -9, client.stderr
    (record,) = place.runs.store.runs()
    kinds = {each.partition("/")[0] for each in place.objects(record)}
    assert kinds == {"V1Job", "V1Service", "V1Secret"}, "no pod yet, and the rest is there"
    before.wait()
    (record,) = place.runs.find()
    assert record.state is RunState.FAILED


@pytest.mark.parametrize("retries", [0, 1])
def test_after_the_head_pod_was_killed_while_nobody_looked(place: Place, profile: dict[str, Any], retries: int) -> None:
    before = Before(place)
    again = f"int(os.environ.get('{contract.FAILURES_VARIABLE}') or 0)"
    record = place.submit(
        "print('began')", f"import os, time\nif not {again}:\n    time.sleep(600)",
        profile={**profile, "retries": retries},
    )  # fmt: skip
    place.follow_until(record, _has_begun)
    before.assert_more(profile.get("pods", 1))
    if profile.get("pods", 1) > 1:
        time.sleep(10)  # the worker has found the head
    _kill_head(place.admin, place, record)
    before.wait()
    ended = place.runs.get(record.run_id)
    assert ended.state is (RunState.SUCCEEDED if retries else RunState.FAILED), ended


def _kill_head(admin: ApiClient, place: Place, record: RunRecord) -> None:
    head = next(pod for pod in place.pods(record) if pod.metadata.labels[names.INDEX_KEY] == "0")
    place.delete_pod(head, grace=0)


def _has_begun(event: object) -> bool:
    return isinstance(event, LogEvent) and "began" in event.text
