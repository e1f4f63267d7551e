import dataclasses
import itertools
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jupyter_mlops.errors import ProfileError
from jupyter_mlops.kubernetes import contract, dask_options
from jupyter_mlops.kubernetes.dask_options import Place, place, scheduler_command, worker_command, worker_memory

from .specs import profile

GIB = 2**30
HEAD = Place(
    index=0, name="train-abc-0-x7x7x", address="10.1.2.3", job="train-abc", service="train-abc", memory=64 * GIB, cpus=8,
    certificates="/certificates",
)  # fmt: skip
WORKER = dataclasses.replace(HEAD, index=1, name="train-abc-1-y8y8y", address="10.1.2.4")


def options(command: list[str]) -> dict[str, str]:
    """The options with their values; flags are left out."""
    words = command[command.index("scheduler" if "scheduler" in command else "worker") + 1 :]
    return {
        word: following
        for word, following in itertools.pairwise(words)
        if word.startswith("--") and not following.startswith("--")
    }


def test_the_head_starts_a_scheduler_that_its_workers_find() -> None:
    two = profile(pods=2, gpus=2)
    command = scheduler_command(two, HEAD)
    assert command[:4] == ["python", "-m", "dask", "scheduler"]
    assert options(command) == {
        "--protocol": "tls", "--host": "10.1.2.3", "--port": "8786", "--dashboard-address": ":8787",
        "--tls-ca-file": "/certificates/ca.crt", "--tls-cert": "/certificates/tls.crt",
        "--tls-key": "/certificates/tls.key",
    }  # fmt: skip
    assert "tls://train-abc-0.train-abc:8786" in worker_command(two, WORKER)


@pytest.mark.parametrize("here", [HEAD, WORKER])
def test_every_worker_announces_the_pods_address_and_never_the_machines_own(here: Place) -> None:
    found = options(worker_command(profile(pods=2), here))
    assert found["--host"] == here.address
    assert found["--name"] == here.name
    assert found["--local-directory"] == contract.SPILL_DIR
    assert found["--death-timeout"] == "60"
    assert found["--dashboard-address"] == (":0" if here.index == 0 else ":8787")
    assert "--no-dashboard" in worker_command(profile(pods=2), here)


def test_an_ipv6_address_is_put_in_brackets() -> None:
    six = dataclasses.replace(WORKER, address="fd00::4")
    assert options(worker_command(profile(pods=2), six))["--host"] == "[fd00::4]"


def test_a_pod_with_gpus_runs_one_worker_a_gpu() -> None:
    four = profile(pods=2, gpus=4, memory="128Gi")
    command = worker_command(four, WORKER)
    assert command[3:5] == ["cuda", "worker"]
    assert options(command)["--nthreads"] == "1"
    assert int(options(command)["--memory-limit"]) == int(64 * GIB * 0.8) // 2
    assert "--nworkers" not in command


def test_a_pod_without_gpus_shares_its_cores_between_its_workers() -> None:
    found = options(worker_command(profile(pods=2, workers=4), WORKER))
    assert (found["--nworkers"], found["--nthreads"]) == ("2", "4")
    default = options(worker_command(profile(pods=2), WORKER))
    assert (default["--nworkers"], default["--nthreads"]) == ("4", "2")


def test_workers_nobody_counted_are_no_more_than_the_memory_carries() -> None:
    small = dataclasses.replace(WORKER, memory=1 * GIB, cpus=64)
    found = options(worker_command(profile(pods=2), small))
    assert int(found["--nworkers"]) == 2
    assert int(found["--memory-limit"]) >= dask_options.LEAST_WORKER_MEMORY


@pytest.mark.parametrize(
    ("index", "pool", "has_rmm", "expected"),
    [
        (0, None, True, "0.5"), (1, None, True, "0.85"), (1, None, False, None), (1, 0, True, None),
        (1, 0.7, True, "0.7"), (0, "20Gi", False, str(20 * GIB)), (1, 1, True, "1.0"),
    ],
)  # fmt: skip
def test_the_pool_leaves_room_for_the_notebook_beside_the_heads_worker(
    index: int, pool: Any, has_rmm: bool, expected: str | None
) -> None:
    here = dataclasses.replace(WORKER, index=index)
    command = worker_command(profile(pods=2, gpus=2, rmm_pool=pool), here, has_rmm=has_rmm)
    assert options(command).get("--rmm-pool-size") == expected


def test_the_device_memory_limit_is_dasks_own_unless_the_profile_says_another() -> None:
    assert "--device-memory-limit" not in worker_command(profile(pods=2, gpus=2), WORKER)
    for limit, text in ((0.6, "0.6"), (1, "1.0")):
        limited = worker_command(profile(pods=2, gpus=2, device_memory_limit=limit), WORKER)
        assert options(limited)["--device-memory-limit"] == text


@pytest.mark.parametrize("protocol", ["ucx", "ucxx"])
def test_ucx_is_spoken_by_all_and_shows_no_certificates(protocol: str) -> None:
    open_ = dataclasses.replace(WORKER, certificates=None)
    fast = profile(pods=2, gpus=2, protocol=protocol)
    for command in (worker_command(fast, open_), scheduler_command(fast, open_)):
        assert options(command)["--protocol"] == protocol
        assert not any(word.startswith("--tls") for word in command)
    assert f"{protocol}://train-abc-0.train-abc:8786" in worker_command(fast, open_)


@given(memory=st.integers(2**28, 2**42), workers=st.integers(1, 64), head=st.booleans())
def test_the_workers_of_a_pod_never_get_more_than_four_fifths_of_its_memory(
    memory: int, workers: int, head: bool
) -> None:
    try:
        each = worker_memory(profile(), memory, workers, head=head)
    except ProfileError:
        each = 0
    assume(each)
    assert each * workers <= memory * 0.8
    if head:
        assert memory * 0.8 - each * workers >= min(memory / 4, 8 * GIB) - workers


def test_too_little_memory_is_told_with_the_numbers() -> None:
    with pytest.raises(ProfileError, match=r"leaves 51.2 MiB of memory to each of 16 Dask workers in a pod of 1 GiB"):
        worker_memory(profile(), GIB, 16, head=False)


ENVIRONMENT = {
    contract.INDEX_VARIABLE: "1", contract.POD_NAME_VARIABLE: "train-abc-1-y8y8y", contract.POD_IP_VARIABLE: "10.1.2.4",
    contract.JOB_VARIABLE: "train-abc", contract.SERVICE_VARIABLE: "train-abc", contract.CPUS_VARIABLE: "8000",
    contract.MEMORY_VARIABLE: str(64 * GIB), contract.CERTIFICATES_VARIABLE: "/certificates",
}  # fmt: skip


def test_a_pod_learns_its_place_from_its_variables() -> None:
    assert place(ENVIRONMENT) == WORKER


@pytest.mark.parametrize("name", [name for name in ENVIRONMENT if name != contract.CERTIFICATES_VARIABLE])
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        place({key: value for key, value in ENVIRONMENT.items() if key != name})


def test_the_notebooks_client_finds_the_cluster_by_itself() -> None:
    """In a process of its own, because Dask reads its variables at import."""
    found = dask_options.client_environment(profile(pods=2), HEAD)
    code = (
        "import dask, distributed\n"
        "from distributed.security import Security\n"
        "s = Security()\n"
        "print(dask.config.get('scheduler-address'), s.require_encryption, s.tls_ca_file, s.tls_client_cert,"
        " s.tls_client_key)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **found}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == [
        "tls://train-abc-0.train-abc:8786", "True", "/certificates/ca.crt", "/certificates/tls.crt",
        "/certificates/tls.key",
    ], done.stderr  # fmt: skip


def parsed(command: list[str]) -> dict[str, Any]:
    """What Dask's own command line makes of it; an option that it does not know raises."""
    from importlib.metadata import entry_points

    from click import Context
    from dask.cli import _register_command_ep as register
    from dask.cli import cli

    for entry in entry_points(group="dask_cli"):
        if entry.name not in cli.commands:
            register(cli, entry)
    assert command[:3] == ["python", "-m", "dask"]
    group = cli.commands[command[3]]
    return group.make_context(command[3], list(command[4:]), parent=Context(cli), resilient_parsing=False).params


@pytest.mark.parametrize("here", [HEAD, WORKER])
def test_dask_itself_understands_the_commands(here: Place, tmp_path: Any) -> None:
    for name in (contract.CA_FILE, contract.CERTIFICATE_FILE, contract.KEY_FILE):
        (tmp_path / name).write_text("")  # Dask's options want files that exist
    there = dataclasses.replace(here, certificates=str(tmp_path))
    two = profile(pods=2, workers=4)
    scheduler = parsed(scheduler_command(two, there))
    assert (scheduler["host"], scheduler["protocol"], scheduler["preload_argv"]) == (here.address, "tls", ())
    worker = parsed(worker_command(two, there))
    assert (worker["host"], worker["n_workers"], worker["preload_argv"]) == (here.address, "2", ())
    assert worker["dashboard"] is False
