"""Runs and Dask clusters on the GPUs of this machine: LocalCUDACluster, who sees which GPU, and GPU memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_mlops.errors import ProfileError
from jupyter_mlops.events import ResourceEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState
from tests.integration.test_dask import HEAD
from tests.integration.watching import (
    executed,
    nothing_is_left,
    outputs_text,
    until,
)

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

ON_GPU = (
    "def on_gpu(n):\n    import numpy\n    from numba import cuda\n"
    "    there = cuda.to_device(numpy.arange(n, dtype='int64'))\n    return int(there.copy_to_host().sum())\n"
)


def test_a_process_gets_one_worker_for_each_gpu_and_it_computes_there(gpus: list[str], tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        HEAD + ON_GPU + "if __name__ == '__main__':\n    client = jupyter_mlops.get_client()\n"
        "    tell(kind=type(client.cluster).__name__, address=client.scheduler.address)\n"
        "    tell(first=[s.split(',')[0] for s in client.run(lambda: os.environ['CUDA_VISIBLE_DEVICES']).values()])\n"
        "    tell(sums=list(client.run(on_gpu, 1000).values()))\n"
    )  # fmt: skip
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    facts = {key: value for line in done.stdout.splitlines() for key, value in json.loads(line).items()}
    assert facts["kind"] == "LocalCUDACluster"
    assert facts["address"].startswith("tls://127.0.0.1:")
    assert sorted(facts["first"]) == sorted(gpus)
    assert facts["sums"] == [499500] * len(gpus)


def test_a_run_sees_the_gpus_that_it_asked_for_and_tells_their_use(
    gpus: list[str], runs: Runs, run_notebook: Callable
) -> None:
    record = run_notebook(
        ("client = None", "parameters"),
        ON_GPU + "import os\nprint('sees', os.environ['CUDA_VISIBLE_DEVICES'], on_gpu(10))\n"
        "print(type(client.cluster).__name__, len(client.nthreads()), client.submit(on_gpu, 1000).result())",
        "import time; time.sleep(4)",
        profile=runs.config.profile(gpus=1),
    )
    assert record.state is RunState.SUCCEEDED, record.message
    text = outputs_text(executed(runs, record))
    assert f"sees {gpus[0]} 45" in text
    assert "LocalCUDACluster 1 499500" in text
    uses = [event.gpus for event in runs.events(record) if isinstance(event, ResourceEvent) and event.gpus]
    assert uses
    assert {len(use) for use in uses} == {1}
    assert max(use[0].memory_used for use in uses) > 0
    assert uses[0][0].memory_total > 2**30
    until(lambda: nothing_is_left(runs))


def test_a_run_without_gpus_sees_none(gpus: list[str], runs: Runs, run_notebook: Callable) -> None:
    record = run_notebook(
        "from numba import cuda\nprint('available', cuda.is_available())", profile=runs.config.profile(gpus=0)
    )
    assert record.state is RunState.SUCCEEDED, record.message
    assert "available False" in outputs_text(executed(runs, record))
    assert not [event for event in runs.events(record) if isinstance(event, ResourceEvent) and event.gpus]


def test_a_run_that_asks_for_more_gpus_than_there_are_is_refused(
    gpus: list[str], runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    with pytest.raises(ProfileError, match=f"this machine has {len(gpus)}"):
        runs.prepare(make_notebook("1"), profile=runs.config.profile(gpus=len(gpus) + 1))


def test_a_cell_that_takes_more_memory_than_the_gpu_has_is_told_as_out_of_memory(
    gpus: list[str], run_notebook: Callable
) -> None:
    record = run_notebook(
        "from numba import cuda\nkept = []\nwhile True:\n    kept.append(cuda.device_array(2**30, dtype='int8'))"
    )
    assert (record.state, record.code) == (RunState.FAILED, FailureCode.OUT_OF_MEMORY), record.message
    assert "GPU memory" in record.message
