"""A worker pod: waits for the head, runs Dask's workers, and waits again when the head was lost.

It must not end with 0 while the run goes on: Kubernetes would not replace it. Knows the pod's variables and sockets.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from . import contract, dask_options
from .pod_dask import dask_environment, end_of_run_file, pod_profile

_LOOK = 0.5
_ANSWER = 3.0
_GONE = 5.0
"""Seconds that the head has to answer after Dask ended: else it is gone."""
_RETIRING = 60.0
"""Seconds of the `TERMINATION_GRACE` in which data may go to other workers."""
_UNTOLD = 1


def main() -> int:
    """Work until the run is over; the exit status is that of `contract`."""
    process: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        if process is not None:
            # Its node is drained, or there are to be fewer: what it has computed goes to the others first.
            if not Path(end_of_run_file()).exists() and answers(address):
                retire({**os.environ, **dask_options.client_environment(profile, here)})
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        sys.exit(contract.EXIT_INTERRUPTED)

    signal.signal(signal.SIGTERM, stop)
    told = os.environ.get(contract.VERSION_VARIABLE, "")
    if told != contract.VERSION:
        _say(f"the run was submitted for version {told} of the pods' contract, and the image has {contract.VERSION}")
        return contract.EXIT_RECORDED
    profile, here = pod_profile(os.environ), dask_options.place(os.environ)
    address = dask_options.scheduler_address(profile, here)
    command = dask_options.worker_command(profile, here, has_rmm=find_spec("rmm") is not None)
    heads = profile.retries + 1
    while True:
        if not wait_for(lambda: answers(address), contract.HEAD_PATIENCE):
            _say(f"no head of the run at {address} for {contract.HEAD_PATIENCE} s")
            return _UNTOLD
        head = resolved(address)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=dask_environment(os.environ))
        status = process.wait()
        process = None
        if Path(end_of_run_file()).exists():
            return 0
        if wait_for(lambda: answers(address), _GONE):
            # The scheduler lives: it was this pod's own failure, and a new pod is the better place.
            _say(f"Dask ended with exit status {status} although the head of the run answers")
            return status or _UNTOLD
        _say("the head of the run is gone; waiting for it to be started again")
        wait_for(partial(_has_changed, address, head), contract.HEAD_PATIENCE)
        if resolved(address) == head:
            continue  # its pod is there: only the scheduler in it was lost
        heads -= 1
        if not heads:
            # With 0: another pod in this one's place would wait an hour for what does not come, and hold its GPUs.
            _say("the head was started as often as it may be")
            return 0


def retire(environment: Mapping[str, str]) -> None:
    """Have the scheduler take this pod's workers out of use, as far as that goes in the time that is left.

    Args:
        environment: The pod's variables, and those of a client.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [sys.executable, "-m", "jupyter_mlops.kubernetes.pod", "--retire"]
        subprocess.run(command, stdin=subprocess.DEVNULL, env=dict(environment), timeout=_RETIRING, check=False)


def answers(address: str) -> bool:
    """Whether something listens at an address of Dask's."""
    parts = urlsplit(address)
    try:
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=_ANSWER):
            return True
    except OSError:
        return False


def resolved(address: str) -> str | None:
    """The IP address behind an address of Dask's, or None: there is no pod of that name now."""
    try:
        return str(socket.getaddrinfo(str(urlsplit(address).hostname), None)[0][4][0])
    except OSError:
        return None


def _has_changed(address: str, head: str | None) -> bool:
    """Whether the head answers again, or its pod is another one or none."""
    return answers(address) or resolved(address) != head


def wait_for(look: Callable[[], bool], patience: float) -> bool:
    """Look until there is something to see, or the seconds are over."""
    until = time.monotonic() + patience
    while not look():
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK)
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
