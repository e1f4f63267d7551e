"""Runs that are awaited together are given one after the other as each ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_mlops.errors import NotFoundError
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import RunState

pytestmark = pytest.mark.integration


def test_each_run_is_given_once_when_it_ends_and_the_first_to_end_is_the_first(
    runs: Runs, make_notebook: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    waits = make_notebook(
        f"import time\nfrom pathlib import Path\nwhile not Path({str(gate)!r}).exists():\n    time.sleep(0.2)",
        name="waits.ipynb",
    )
    fails = make_notebook("1 / 0", name="fails.ipynb")
    slow, quick = (runs.submit(runs.prepare(notebook)) for notebook in (waits, fails))
    ended = []
    for record in runs.ends([slow.run_id, quick.run_id]):
        ended.append((record.run_id, record.state))
        gate.touch()
    assert ended == [(quick.run_id, RunState.FAILED), (slow.run_id, RunState.SUCCEEDED)]
    assert [record.run_id for record in runs.ends([quick.run_id])] == [quick.run_id], "also what had ended before"


def test_waiting_for_the_ends_can_be_stopped_and_the_run_goes_on(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    record = runs.submit(runs.prepare(make_notebook("import time\ntime.sleep(600)")))
    assert list(runs.ends([record.run_id], stop=lambda: True)) == []
    runs.cancel(record.run_id)
    assert [each.state for each in runs.ends([record.run_id])] == [RunState.CANCELLED]


def test_a_run_that_there_is_not_is_told_at_once(runs: Runs) -> None:
    with pytest.raises(NotFoundError):
        list(runs.ends(["nothing"]))
