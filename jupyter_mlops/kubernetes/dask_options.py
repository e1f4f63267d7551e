"""The command lines of Dask inside the pods of a run that has several; a run in one pod starts its own local cluster.

Decided from the profile and from what a pod learns about itself when it starts. May not start anything, and may not ask
the machine: what it must know, it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from ..errors import ProfileError
from ..profile import Profile
from . import contract
from .quantities import format_bytes

MIB = 2**20
DASK = ("python", "-m", "dask")
DEATH_TIMEOUT = 60
"""Seconds until a worker without a scheduler ends."""
WORKERS_SHARE = 0.8
"""Of a pod's memory: the rest is for what Dask does not count (the interpreter, `/dev/shm`, fragmentation)."""
LEAST_WORKER_MEMORY = 256 * MIB
"""An idle worker that has imported pandas uses half of it; with less Dask would restart it for ever."""
_NOTEBOOK_SHARE, _NOTEBOOK_MOST = 4, 8 * 2**30
"""A quarter of the head's memory, but no more than this, is for the notebook and the Dask scheduler."""
_SHARED_POOL, _OWN_POOL = 0.5, 0.85


@dataclass(frozen=True)
class Place:
    """What a pod knows about itself.

    Attributes:
        index: Its completion index; 0 is the head.
        name: Its name, which no other attempt at the same index has.
        address: Its IP address, which the other pods reach.
        job: The Job's name.
        service: The Service's name.
        memory: Bytes that it may use.
        cpus: Cores that it may use.
        certificates: Directory of the run's certificate, or None: the pods do not use TLS.
    """

    index: int
    name: str
    address: str
    job: str
    service: str
    memory: int
    cpus: float
    certificates: str | None = None


def place(environment: Mapping[str, str]) -> Place:
    """What the variables of the pod (`contract`) say.

    Raises:
        ValueError: one is missing or wrong.
    """
    try:
        return Place(
            index=int(environment[contract.INDEX_VARIABLE]),
            name=environment[contract.POD_NAME_VARIABLE],
            address=environment[contract.POD_IP_VARIABLE],
            job=environment[contract.JOB_VARIABLE],
            service=environment[contract.SERVICE_VARIABLE],
            memory=int(environment[contract.MEMORY_VARIABLE]),
            cpus=int(environment[contract.CPUS_VARIABLE]) / 1000,
            certificates=environment.get(contract.CERTIFICATES_VARIABLE),
        )
    except KeyError as error:
        raise ValueError(f"the variable {error.args[0]} is missing: this is no pod of a run with several") from None


def scheduler_address(profile: Profile, here: Place) -> str:
    """Where every pod of the run finds the Dask scheduler."""
    return f"{_scheme(profile, here)}://{here.job}-0.{here.service}:{contract.SCHEDULER_PORT}"


def scheduler_command(profile: Profile, here: Place) -> list[str]:
    """`dask scheduler`, for the head."""
    return [
        *DASK, "scheduler",
        "--protocol", _scheme(profile, here),
        "--host", _host(here),
        "--port", str(contract.SCHEDULER_PORT),
        "--dashboard-address", f":{contract.HTTP_PORT}",
        *_tls_files(here),
    ]  # fmt: skip


def worker_command(profile: Profile, here: Place, *, has_rmm: bool = False) -> list[str]:
    """`dask worker`, or `dask cuda worker` where the profile has GPUs.

    The head's announces the pod's address as all others do. Left to itself it would announce 127.0.0.1, because its
    scheduler is there too, and the first exchange of data with another pod would hang without a word. Dask resolves
    a host's name before it announces it, so the name NAME-0.NAME would come to the same and need the DNS.

    Args:
        profile: The run's.
        here: The pod's.
        has_rmm: Whether `rmm` can be imported; without it no pool can be had.

    Raises:
        ProfileError: a worker would get too little memory to live.
    """
    gpus = (profile.gpus or 0) // profile.pods
    workers = workers_in_pod(profile, here)
    threads = 1 if gpus else max(1, int(here.cpus) // workers)
    command = [
        *DASK, *(("cuda", "worker") if gpus else ("worker",)), scheduler_address(profile, here),
        "--protocol", _scheme(profile, here),
        "--host", _host(here),
        "--name", here.name,
        "--nthreads", str(threads),
        "--memory-limit", str(worker_memory(profile, here.memory, workers, head=here.index == 0)),
        "--local-directory", contract.SPILL_DIR,
        "--death-timeout", str(DEATH_TIMEOUT),
        "--no-dashboard",
        # Without its pages it still answers /health and /metrics. On the head the port is the scheduler's.
        "--dashboard-address", ":0" if here.index == 0 else f":{contract.HTTP_PORT}",
        *_tls_files(here),
    ]  # fmt: skip
    return [*command, *(_gpu_options(profile, here, has_rmm) if gpus else ["--nworkers", str(workers)])]


def workers_in_pod(profile: Profile, here: Place) -> int:
    """How many Dask workers this pod has: one a GPU, else as the profile says or as its cores and memory carry."""
    return (profile.gpus or 0) // profile.pods or _cpu_workers(profile, here)


def client_environment(profile: Profile, here: Place) -> dict[str, str]:
    """Variables with which `distributed.Client()` in the notebook finds the run's cluster and may use it."""
    found = {"DASK_SCHEDULER_ADDRESS": scheduler_address(profile, here)}
    if here.certificates is not None:
        ca, certificate, key = _certificate_files(here.certificates)
        found |= {
            "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": ca,
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": certificate,
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": key,
        }
    return found


def worker_memory(profile: Profile, memory: int, workers: int, *, head: bool) -> int:
    """Bytes of main memory for each Dask worker of a pod.

    Args:
        profile: For the error.
        memory: The pod's.
        workers: Worker processes in the pod.
        head: Whether the notebook lives there too.

    Raises:
        ProfileError: it is too little for a worker to live.
    """
    shared = int(memory * WORKERS_SHARE) - (min(memory // _NOTEBOOK_SHARE, _NOTEBOOK_MOST) if head else 0)
    each = shared // workers
    if each < LEAST_WORKER_MEMORY:
        raise ProfileError(
            f"The profile '{profile.name}' leaves {format_bytes(each)} of memory to each of {workers} Dask "
            f"worker{'s' * (workers != 1)} in a pod of {format_bytes(memory)}, and one needs "
            f"{format_bytes(LEAST_WORKER_MEMORY)}.",
            hint="Ask for more memory (--memory), or for fewer workers or pods.",
        )
    return each


def check_memory(profile: Profile) -> None:
    """Refuse a profile whose pods could not hold their Dask workers.

    Raises:
        ProfileError: see `worker_memory`.
    """
    if profile.pods == 1 or profile.memory is None:
        return
    workers = (profile.gpus or 0) // profile.pods or ceil((profile.workers or 1) / profile.pods)
    worker_memory(profile, profile.memory // profile.pods, workers, head=True)


def _cpu_workers(profile: Profile, here: Place) -> int:
    if profile.workers is not None:
        return ceil(profile.workers / profile.pods)
    return carried_workers(here.cpus, here.memory)


def carried_workers(cpus: float, memory: int) -> int:
    """Dask workers on CPU in a pod of a profile that names no number.

    Args:
        cpus: Cores of the pod.
        memory: Bytes of the pod.
    """
    # Never more than the memory carries: nobody asked for the number.
    carried = int(memory * (WORKERS_SHARE - 1 / _NOTEBOOK_SHARE)) // LEAST_WORKER_MEMORY
    return max(1, min(int(cpus) // 2, carried))


def _gpu_options(profile: Profile, here: Place, has_rmm: bool) -> list[str]:
    options = []
    if profile.device_memory_limit is not None:
        # With its point: Dask-CUDA reads "1" as one byte and "1.0" as all of the memory.
        options += ["--device-memory-limit", str(float(profile.device_memory_limit))]
    pool = profile.rmm_pool
    if pool is None and has_rmm:
        pool = _SHARED_POOL if here.index == 0 else _OWN_POOL
    if pool:
        options += ["--rmm-pool-size", str(pool)]
    return options


def _scheme(profile: Profile, here: Place) -> str:
    return "tls" if here.certificates is not None else profile.protocol


def _host(here: Place) -> str:
    return f"[{here.address}]" if ":" in here.address else here.address


def _tls_files(here: Place) -> list[str]:
    if here.certificates is None:
        return []
    ca, certificate, key = _certificate_files(here.certificates)
    return ["--tls-ca-file", ca, "--tls-cert", certificate, "--tls-key", key]


def _certificate_files(directory: str) -> tuple[str, str, str]:
    names = (contract.CA_FILE, contract.CERTIFICATE_FILE, contract.KEY_FILE)
    ca, certificate, key = (f"{directory}/{name}" for name in names)
    return ca, certificate, key
