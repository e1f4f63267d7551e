"""What runs in every pod of a cluster: `python -m jupyter_mlops.warm.pod`. Its index says which part it plays.

Index 0 is the head, with a set of Dask workers beside it; the others are workers and no different from a run's.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..cluster_spec import ClusterSpec
from ..errors import UsageError
from ..kubernetes import contract, dask_options, pod_worker
from ..kubernetes.pod_dask import DaskProcesses, pod_profile
from ..startup import start_quickly
from .head import Head, Site, engine_variables

_ENDING_WORKERS = 20.0


def main() -> int:
    """Play the part; the exit status is that of `contract`."""
    if int(os.environ.get(contract.INDEX_VARIABLE) or 0):
        return pod_worker.main()
    start_quickly()
    try:
        _head()
        status = 0
    except Exception as error:  # noqa: BLE001 - Kubernetes keeps the sentence for whoever started the cluster
        text = getattr(error, "message", f"{type(error).__name__}: {error}")
        sys.stderr.write(f"{text}\n")
        with suppress(OSError):
            Path(contract.TERMINATION_FILE).write_text(text[: contract.TERMINATION_LIMIT // 6], encoding="utf-8")
        status = contract.EXIT_RECORDED
    sys.stderr.flush()
    os._exit(status)


def _head() -> None:
    told = os.environ.get(contract.VERSION_VARIABLE, "")
    if told != contract.VERSION:
        raise UsageError(
            f"The cluster was started for version {told or 'unknown'} of the pods' contract, and the image has "
            f"{contract.VERSION}: use an image with the jupyter-mlops that starts it."
        )
    spec = ClusterSpec.model_validate_json(os.environ[contract.CLUSTER_VARIABLE])
    here = dask_options.place(os.environ)
    certificates = Path(os.environ[contract.CERTIFICATES_VARIABLE])
    address = dask_options.scheduler_address(pod_profile(os.environ), here)
    dask = DaskProcesses(os.environ)
    Path(os.environ["JUPYTER_MLOPS_DATA_DIR"]).mkdir(mode=0o700, exist_ok=True)

    def start_workers(_facts: dict[str, Any]) -> None:
        dask.start(scheduler=False)

    def end_workers() -> None:
        # Where the server knows no success policy, the other pods end because they are told to.
        variables = engine_variables(os.environ, spec, certificates, address, "")
        command = [sys.executable, "-m", "jupyter_mlops.kubernetes.pod", "--end-workers"]
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(command, env=variables, timeout=_ENDING_WORKERS, check=False)
        dask.stop()

    Head(spec, Site(
        certificates,
        lambda security: _start_scheduler(here, security),
        _leave_to_the_job,
        address=address,
        published=start_workers,
        before_end=end_workers,
    )).run()  # fmt: skip


async def _leave_to_the_job(_cluster: Any, _workers: int) -> None:
    """Pods come and go with the Job; those that go hand their data over themselves."""


def _start_scheduler(here: dask_options.Place, security: Any) -> Any:
    """A scheduler that other pods find at the pod's address, and a port-forward at 127.0.0.1."""
    from distributed import LocalCluster

    # Every port-forward that is opened looks first whether it may, with a connection that says nothing.
    logging.getLogger("distributed.comm.tcp").setLevel(logging.ERROR)
    everywhere = "[::]" if ":" in here.address else "0.0.0.0"  # noqa: S104 - it asks for the cluster's certificate
    host = f"[{here.address}]" if ":" in here.address else here.address
    return LocalCluster(
        n_workers=0,
        host=everywhere,
        scheduler_port=contract.SCHEDULER_PORT,
        dashboard_address=f":{contract.HTTP_PORT}",
        protocol="tls://",
        security=security,
        silence_logs=logging.WARNING,
        asynchronous=False,
        scheduler_kwargs={"contact_address": f"tls://{host}:{contract.SCHEDULER_PORT}"},
    )


if __name__ == "__main__":
    sys.exit(main())
