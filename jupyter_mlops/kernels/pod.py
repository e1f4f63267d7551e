"""One kernel's pod, from the Job to its end. Blocks; who must not block calls it in a thread.

Knows Kubernetes through `jupyter_mlops.kubernetes`, and nothing of Jupyter but the ports that a kernel has.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import KubernetesError
from ..kubernetes import contract, names
from ..kubernetes.reason import Stage
from ..kubernetes.single_pod import SinglePod, reworded, single_pod_job, single_pod_secret
from .last_word import LastWord
from .link import Link

if TYPE_CHECKING:
    from ..kubernetes.api import Api
    from ..kubernetes.forward import PortForward
    from ..kubernetes.watch import Look
    from ..profile import Profile

KEEP = 3600
"""Seconds that a lost kernel's Job is left, for `jupyter mlops kernels list` to say why."""
_LOOK = 1.0
_CREATED = 5.0
"""Seconds in which a Secret that was just named may not be known yet; after them what blocks the start is believed."""
_KERNEL_STARTS = 120.0
"""Seconds for an image with a cold disk to import ipykernel."""
_LOSS_IS_SEEN = 5.0
_ENDED_IN_ORDER = ("succeeded", "died")
"""Causes that say no more than that the pod did what it was told."""
_PORTS = tuple(contract.KERNEL_PORTS.values())


@dataclass(frozen=True)
class Wanted:
    """What a kernel is to be.

    Attributes:
        kernel_id: Jupyter's.
        profile: What it gets.
        owner: Whose it is.
        key: Signs Jupyter's messages.
        signature_scheme: How.
        tracking_uri: MLflow's address without credentials; None: none that a pod reaches.
        idle: Seconds without a client after which the pod ends.
        lifetime: Seconds after which it ends in any case.
        start: Seconds that it may wait for a place and its image.
    """

    kernel_id: str
    profile: Profile
    owner: str
    key: str
    signature_scheme: str
    tracking_uri: str | None
    idle: float
    lifetime: int
    start: float

    def single_pod(self) -> SinglePod:
        """A pod for it, of a name of its own."""
        return SinglePod(
            component="kernel",
            token=secrets.token_hex(4),
            profile=self.profile,
            owner=self.owner,
            command=contract.KERNEL_COMMAND,
            lifetime=self.lifetime,
            keep=KEEP,
            grace=contract.KERNEL_GRACE,
            variables={contract.IDLE_VARIABLE: f"{self.idle:g}", "MLFLOW_TRACKING_URI": self.tracking_uri},
            labels={names.KERNEL_LABEL: names.label_value(self.kernel_id)},
            secret_dir=contract.KERNEL_DIR,
        )


class KernelPod:
    """The pod of one kernel; after a loss, the next one, behind the same ports of this machine.

    Args:
        api: Calls to its namespace.
        wanted: What it is to be.
        tell: Gets what the start waits for, a sentence each time that it changes.

    Attributes:
        stop: Set: whatever waits here gives up.
        expected: Whether the kernel's end is wanted, so that nothing is to be said about it.
    """

    def __init__(self, api: Api, wanted: Wanted, tell: Callable[[str], None]) -> None:
        self.stop = threading.Event()
        self.expected = False
        self._api = api
        self._wanted = wanted
        self._tell = tell
        self._forward: PortForward | None = None
        self._link: Link | None = None
        self._last_word: LastWord | None = None
        self._told = self._token = ""
        self._jobs: list[tuple[str, str]] = []

    @property
    def ports(self) -> dict[str, int]:
        """Where the kernel is reached on this machine, by Jupyter's names."""
        assert self._forward is not None
        return {name: self._forward.local_port(port) for name, port in contract.KERNEL_PORTS.items()}

    @property
    def name(self) -> str:
        """Of the Job; empty: there is none."""
        return self._jobs[-1][0] if self._jobs else ""

    def start_kernel(self, env: Mapping[str, str]) -> None:
        """Have a new kernel, in the pod that there is or else in a new one.

        Raises:
            KubernetesError: it did not start; nothing new is left.
            ProfileError: the profile cannot become a pod.
        """
        self.expected, self._last_word = False, None
        if self._link is None or self._link.lost is not None:
            self._new_pod()
        assert self._link is not None
        assert self._forward is not None
        self._forward.hold(*_PORTS)
        self._link.start(env)
        if not self._link.wait_ready(_KERNEL_STARTS, self.stop):
            why, code = self.why_ended(), "kernel_start"
            self.delete()
            raise KubernetesError(
                why or f"The kernel in the pod of {self.name} did not start within {_KERNEL_STARTS:.0f} s.",
                hint="The image needs ipykernel and this version of jupyter-mlops.", code=code,
            )  # fmt: skip
        self._forward.release()

    def poll(self) -> int | None:
        """The kernel's exit status, 1 when its pod is lost; None while it lives, or while the reason is being told."""
        link = self._link
        if link is None:
            return 1
        if link.lost is None and link.ended is None:
            return None
        if not self.expected and link.parent is not None and not self._has_told(link.parent):
            return None
        return 1 if link.ended is None else int(link.ended["code"])

    def signal(self, number: int) -> None:
        """Send the kernel a signal; SIGKILL ends what it has started, too."""
        if self._link is not None:
            self._link.signal(number)

    def why_ended(self) -> str:
        """Why the kernel, or its pod, is gone; empty: it is not."""
        link = self._link
        if link is None:
            return ""
        if link.lost is not None:
            return link.lost
        if link.ended is None:
            return ""
        code = int(link.ended["code"])
        try:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        except ValueError:
            how = f"signal {-code}"
        printed = str(link.ended.get("printed") or "").strip()
        if link.ended.get("memory"):
            return f"The kernel used all memory of its pod (not GPU memory) and was killed ({how})."
        return f"The kernel in the pod of {self.name} ended ({how})." + (f" It printed: {printed}" if printed else "")

    def delete(self) -> None:
        """Give back everything, at once; may be called again.

        Raises:
            KubernetesError: Kubernetes could not be asked; then the pod ends by itself.
        """
        link, self._link = self._link, None
        if link is not None:
            link.close()
        if self._forward is not None:
            self._forward.hold(*_PORTS)
        while self._jobs:
            name, uid = self._jobs[-1]
            self._api.delete("jobs", name, uid=uid)
            self._jobs.pop()

    def close(self) -> None:
        """Free the ports of this machine."""
        self.stop.set()
        if self._link is not None:
            self._link.close()
        if self._forward is not None:
            self._forward.close()

    def _has_told(self, parent: Mapping[str, Any]) -> bool:
        """Tell the cell that was executed why its kernel is gone; whether that was done."""
        assert self._forward is not None
        if self._last_word is None:
            self._last_word = LastWord(
                self.why_ended(), parent, key=self._wanted.key, signature_scheme=self._wanted.signature_scheme
            )
            self._forward.hold(*_PORTS)
            self._forward.lead(contract.KERNEL_PORTS["iopub_port"], self._last_word.port)
        return self._last_word.is_over

    def _new_pod(self) -> None:
        from ..kubernetes.forward import PortForward

        self.delete()
        try:
            pod, look = self._make()
            if self._forward is None:
                self._forward = PortForward(self._api, pod, (contract.SUPERVISOR_PORT, *_PORTS))
            else:
                self._forward.turn_to(pod)
            self._forward.hold(*_PORTS)
            self._link = Link(self._forward.local_port(contract.SUPERVISOR_PORT), self._token, look, self._wanted.idle)
        except BaseException:
            with contextlib.suppress(KubernetesError):
                self.delete()
            raise

    def _make(self) -> tuple[str, Callable[[], str | None]]:
        """Make Job and Secret and wait until the pod runs; its name, and how it is looked at from then on."""
        from ..kubernetes.watch import Watch

        asked = self._wanted.single_pod()
        namespace = self._api.namespace
        job = self._api.create("jobs", single_pod_job(asked, namespace=namespace))
        uid = str(job["metadata"]["uid"])
        self._jobs.append((asked.name, uid))
        self._token = secrets.token_hex(32)
        content = {
            "token": self._token, "key": self._wanted.key, "signature_scheme": self._wanted.signature_scheme
        }  # fmt: skip
        self._api.create("secrets", single_pod_secret(
            asked, content, file=contract.KERNEL_FILE, namespace=namespace, owner=job
        ))  # fmt: skip
        if self._wanted.profile.queue is None:
            self._api.patch("jobs", asked.name, {"spec": {"suspend": False}})
        watch = Watch(self._api, asked.name, asked.selector, uid)
        pod = self._wait(watch.look)
        return pod, lambda: _why_lost(watch.look)

    def _wait(self, look: Callable[[], Look]) -> str:
        began = time.monotonic()
        while not self.stop.is_set():
            found = look()
            reason = found.reason
            sentence, hint = reworded(reason.message, "kernel"), reworded(reason.hint, "kernel")
            waited = time.monotonic() - began
            if found.is_over or (reason.blocked and waited > _CREATED):
                raise KubernetesError(sentence, hint=hint, code="kernel_start")
            if reason.stage is Stage.RUNNING and found.pods:
                return str(found.pods[-1]["metadata"]["name"])
            if sentence != self._told:
                self._told = sentence
                self._tell(sentence)
            if waited > self._wanted.start:
                raise KubernetesError(
                    f"The kernel did not start within {self._wanted.start:.0f} s: {sentence}",
                    hint=hint or "Raise c.MLOps.kernel_start_timeout, or choose another profile.", code="kernel_start",
                )  # fmt: skip
            self.stop.wait(_LOOK)
        raise KubernetesError("The start of the kernel was given up.", code="kernel_start")


def _why_lost(look: Callable[[], Look]) -> str | None:
    """Why the pod is lost, or None: Kubernetes takes it for running."""
    until = time.monotonic() + _LOSS_IS_SEEN
    while True:
        found = look()
        reason = found.reason
        deleting = bool(found.pods) and all(pod["metadata"].get("deletionTimestamp") for pod in found.pods)
        if deleting and reason.cause in _ENDED_IN_ORDER:
            return "The kernel's pod was deleted."
        if reason.stage is Stage.SUCCEEDED:
            return "The kernel's pod ended by itself: nobody was connected to it for too long."
        if reason.stage is Stage.FAILED and reason.cause == "deadline":
            return "The kernel's pod was ended: it had lived for c.MLOps.kernel_lifetime."
        if reason.stage is Stage.FAILED and (found.pods or reason.cause in ("gone", "deleted")):
            return f"{reworded(reason.message, 'kernel')} {reworded(reason.hint, 'kernel')}".strip()
        if any(not pod["metadata"].get("deletionTimestamp") for pod in found.pods):
            return None
        # Between the end of a pod and the word of its Job about it there is a moment, in which a drain is told apart.
        if found.is_over or time.monotonic() > until:
            return "The kernel's pod was deleted."
        time.sleep(_LOOK / 2)
