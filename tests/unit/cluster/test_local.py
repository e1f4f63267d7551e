"""What is started on this machine for a profile, and which GPUs a process sees: pure functions, as tables of cases."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.cluster.local import (
    LEAST_WORKER_MEMORY,
    ClusterPlan,
    can_import,
    parse_visible_devices,
    plan_cluster,
    visible_gpus,
)
from jupyter_mlops.errors import ClusterError
from jupyter_mlops.profile import Profile

GIB = 2**30


def plan(
    fields: Mapping[str, Any], *, gpus: int = 0, cpus: int = 8, cuda: bool = True, rmm: bool = False
) -> ClusterPlan:
    return plan_cluster(Profile(name="p", **fields), [str(n) for n in range(gpus)], cuda, cpus, has_rmm=rmm)


@pytest.mark.parametrize(
    ("fields", "cpus", "workers", "threads", "memory"),
    [
        ({}, 8, 4, 2, "auto"),
        ({}, 1, 1, 1, "auto"),
        ({}, 2, 1, 2, "auto"),
        ({}, 7, 3, 2, "auto"),
        ({"cpus": 4}, 8, 2, 2, "auto"),
        ({"cpus": 0.5}, 8, 1, 1, "auto"),
        ({"cpus": 64}, 8, 4, 2, "auto"),  # the container has less than the profile says
        ({"workers": 3}, 8, 3, 2, "auto"),
        ({"workers": 16}, 8, 16, 1, "auto"),
        ({"workers": 1, "cpus": 8}, 8, 1, 8, "auto"),
        ({"memory": 8 * GIB}, 8, 4, 2, 6 * GIB // 4),
        ({"memory": 100 * GIB}, 8, 4, 2, 92 * GIB // 4),
        ({"memory": GIB}, 8, 3, 2, GIB * 3 // 4 // 3),  # fewer workers, each with enough to live
        ({"memory": GIB, "workers": 2}, 8, 2, 4, GIB * 3 // 4 // 2),
    ],
)
def test_workers_on_cpu(fields: dict[str, Any], cpus: int, workers: int, threads: int, memory: object) -> None:
    found = plan(fields, cpus=cpus)
    assert (found.kind, found.workers, found.threads, found.memory_limit) == ("cpu", workers, threads, memory)
    assert found.warning == ""


@pytest.mark.parametrize(
    ("fields", "visible", "gpus", "omp"),
    [
        ({}, 4, ("0", "1", "2", "3"), 2),
        ({"gpus": 2}, 4, ("0", "1"), 4),
        ({"gpus": 1, "workers": 7}, 4, ("0",), 8),  # two processes on one GPU fight for its memory
        ({"gpus": 4, "cpus": 2}, 4, ("0", "1", "2", "3"), 1),
    ],
)
def test_one_worker_for_each_gpu(fields: dict[str, Any], visible: int, gpus: tuple[str, ...], omp: int) -> None:
    found = plan(fields, gpus=visible)
    assert (found.kind, found.gpus, found.workers, found.threads) == ("cuda", gpus, len(gpus), 1)
    assert found.omp_threads == omp


@pytest.mark.parametrize("fields", [{"gpus": 0}, {"gpus": 0, "cpus": 2}])
def test_who_asks_for_no_gpu_gets_none(fields: dict[str, Any]) -> None:
    assert plan(fields, gpus=4).kind == "cpu"


@pytest.mark.parametrize(
    ("fields", "rmm", "pool"),
    [
        ({}, False, None),
        ({}, True, 0.5),
        ({"rmm_pool": 0.25}, True, 0.25),
        ({"rmm_pool": 0}, True, None),
        ({"rmm_pool": 0.25}, False, None),
    ],
)
def test_the_memory_pool_of_a_gpu(fields: dict[str, Any], rmm: bool, pool: float | None) -> None:
    found = plan({**fields, "device_memory_limit": 0.7}, gpus=1, rmm=rmm)
    assert (found.rmm_pool_size, found.device_memory_limit) == (pool, 0.7)


def test_gpus_without_dask_cuda_are_told_with_the_command_that_installs_it() -> None:
    found = plan({}, gpus=2, cuda=False)
    assert found.kind == "cpu"
    assert "2 GPUs are visible, but dask-cuda is not installed" in found.warning
    assert "pip install 'jupyter-mlops[gpu]'" in found.warning
    assert plan({"gpus": 0}, gpus=2, cuda=False).warning == ""


@pytest.mark.parametrize(
    ("asked", "visible", "words", "hint"),
    [
        (1, 0, "asks for 1 GPU, and 0 are visible here", "--gpus 0"),
        (3, 1, "asks for 3 GPUs, and 1 is visible here", "--gpus 1"),
    ],
)
def test_more_gpus_than_there_are_is_refused(asked: int, visible: int, words: str, hint: str) -> None:
    with pytest.raises(ClusterError, match=words) as caught:
        plan({"gpus": asked}, gpus=visible)
    assert hint in caught.value.hint


def test_workers_that_would_starve_are_refused() -> None:
    with pytest.raises(ClusterError, match="leaves 96 MiB of memory to each of 8 Dask workers"):
        plan({"memory": GIB, "workers": 8})


@given(
    cpus=st.integers(1, 512),
    asked=st.none() | st.floats(0.1, 600),
    workers=st.none() | st.integers(1, 64),
    memory=st.none() | st.integers(1, 2**42),
)
def test_a_plan_never_promises_more_than_the_profile_has(
    cpus: int, asked: float | None, workers: int | None, memory: int | None
) -> None:
    try:
        found = plan({"cpus": asked, "workers": workers, "memory": memory}, cpus=cpus)
    except ClusterError:
        assert memory is not None
        return
    cores = min(cpus, max(1, int(asked))) if asked is not None else cpus
    assert found.workers >= 1
    assert found.threads >= 1
    assert workers is None or found.workers == workers
    assert found.threads == 1 or found.workers * found.threads <= cores
    if memory is not None:
        assert isinstance(found.memory_limit, int)
        assert found.memory_limit >= LEAST_WORKER_MEMORY
        assert found.workers * found.memory_limit <= memory


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("", []),
        ("0", ["0"]),
        ("2,0", ["2", "0"]),
        (" 1 , 3 ", ["1", "3"]),
        ("0,9,1", ["0"]),  # CUDA: everything after the first that does not exist is not visible
        ("-1", []),
        ("1,-1,0", ["1"]),
        ("0,0", ["0"]),
        ("NoDevFiles", []),
        ("GPU-a", ["GPU-a"]),
        ("GPU-x", []),
        ("MIG-a,1", ["MIG-a", "1"]),
        ("٣", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(setting: str, found: list[str]) -> None:
    assert parse_visible_devices(setting, 4, lambda name: name in ("GPU-a", "MIG-a")) == found


@given(st.text(max_size=40))
def test_no_value_of_visible_devices_breaks_it(setting: str) -> None:
    assert set(parse_visible_devices(setting, 4, lambda name: False)) <= {"0", "1", "2", "3"}


def test_no_driver_means_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert visible_gpus() == []


def test_a_module_that_is_broken_cannot_be_imported() -> None:
    assert can_import("json")
    assert not can_import("no_such_module_anywhere")
    assert not can_import("json.no_such.child")
