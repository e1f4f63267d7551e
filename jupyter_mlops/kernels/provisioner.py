"""What jupyter_client calls to have a kernel in a pod: the provisioner `mlops-kubernetes`. It decides nothing.

A restart keeps the pod and the ports of this machine, so that clients stay connected; after a loss the same ports lead
to a new pod. Everything that waits is done by `pod.KernelPod` in threads, so that a Jupyter server serves others
meanwhile.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import signal
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_client.provisioning import KernelProvisionerBase
from traitlets import Unicode

from ..errors import KubernetesError, ProfileError, UsageError

if TYPE_CHECKING:
    from ..config import MLOps
    from .pod import KernelPod

T = TypeVar("T")
_POLL = 0.1


class KubernetesProvisioner(KernelProvisionerBase):  # type: ignore[misc]
    """The provisioner `mlops-kubernetes`."""

    profile = Unicode(help="The profile that the kernel gets; its kernelspec names it.").tag(config=True)

    _pod: KernelPod | None = None
    _present = False
    _told = False

    @property
    def has_process(self) -> bool:
        """Whether there is a kernel, alive or dead, that nobody has waited for."""
        return self._present

    async def poll(self) -> int | None:
        """None while the kernel lives; 1 when its pod is lost."""
        if self._pod is None:
            return 0
        code = self._pod.poll()
        if code is not None and not self._told:
            self._told = True
            if not self._pod.expected:
                self.log.error(self._pod.why_ended() or "The kernel did not start again.")
        return code

    async def wait(self) -> int | None:
        """Wait until the kernel has ended."""
        while (code := await self.poll()) is None:
            await asyncio.sleep(_POLL)
        self._present = False
        return code

    async def send_signal(self, signum: int) -> None:
        """Send the kernel a signal."""
        pod = self._pod
        if pod is not None and signum:
            await _in_thread(lambda: pod.signal(signum))

    async def shutdown_requested(self, restart: bool = False) -> None:
        """The end of the kernel that comes now is wanted."""
        if self._pod is not None:
            self._pod.expected = True

    async def kill(self, restart: bool = False) -> None:
        """Kill the kernel and what it has started; the pod stays, for a restart."""
        await self.shutdown_requested()
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """Ask the kernel to end."""
        await self.shutdown_requested()
        await self.send_signal(signal.SIGTERM)

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Nothing is written before the pod is there; the command is the image's own."""
        found: dict[str, Any] = await super().pre_launch(cmd=[], **kwargs)
        return found

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel, at the first time with its pod.

        Returns:
            How it is reached on this machine.

        Raises:
            MLOpsError: it cannot be started, in a sentence for the person.
        """
        again = self._pod is not None
        if self._pod is None:
            self._pod = await _in_thread(self._make)
            atexit.register(_leave_nothing, weakref.ref(self._pod))
        pod = self._pod
        # Of this machine's variables only those that the kernelspec itself names.
        env = {name: kwargs["env"][name] for name in self.kernel_spec.env if name in kwargs["env"]}
        self._told = False
        try:
            await _in_thread(lambda: pod.start_kernel(env))
        except BaseException as error:
            if again and isinstance(error, KubernetesError) and getattr(self.parent, "_restarter", None) is not None:
                # Raised, it would end the server's restarter between two states, and its clients would wait for ever.
                # So it is told, and the restarter finds a dead kernel and counts its attempts.
                self.log.error(" ".join(part for part in (error.message, error.hint) if part))  # noqa: TRY400
                self._told = True
            else:
                pod.stop.set()
                self._pod = None
                threading.Thread(target=_give_back, args=(pod,), daemon=True).start()
                raise
        self._present = True
        session = self.parent.session
        self.connection_info = {
            "transport": "tcp", "ip": "127.0.0.1", **pod.ports, "key": session.key,
            "signature_scheme": session.signature_scheme,
        }  # fmt: skip
        return self.connection_info

    async def cleanup(self, restart: bool = False) -> None:
        """After a shutdown give everything back; before a restart keep it."""
        if restart or self._pod is None:
            return
        pod, self._pod = self._pod, None
        self._present = False
        try:
            await _in_thread(lambda: _give_back(pod))
        except KubernetesError as error:
            self.log.warning(f"{error.message} The kernel's pod ends by itself, as nobody is connected to it any more.")

    async def get_provisioner_info(self) -> dict[str, Any]:
        """What may be kept of it: its Job's name besides what the base has."""
        found: dict[str, Any] = await super().get_provisioner_info()
        return {**found, "job": self._pod.name if self._pod is not None else ""}

    def _make(self) -> KernelPod:
        from ..config import load_config
        from ..identity import current_user
        from ..kubernetes.api import Api
        from .pod import KernelPod, Wanted

        if getattr(self.parent, "transport", "tcp") != "tcp":
            raise UsageError("A kernel in a pod is reached by TCP only.", hint="Remove c.KernelManager.transport.")
        config = load_config()
        profile = config.profile(self.profile)
        if profile.runner != "kubernetes":
            raise ProfileError(
                f"The profile '{profile.name}' is not on Kubernetes.", hint="`jupyter mlops kernels install` anew."
            )
        wanted = Wanted(
            kernel_id=self.kernel_id,
            profile=profile,
            owner=current_user(),
            key=self.parent.session.key.decode(),
            signature_scheme=self.parent.session.signature_scheme,
            tracking_uri=reachable_mlflow(config),
            idle=config.kernel_idle_timeout,
            lifetime=config.kernel_lifetime,
            start=config.kernel_start_timeout,
        )
        return KernelPod(Api(profile.context, profile.namespace), wanted, self.log.info)


def reachable_mlflow(config: MLOps) -> str | None:
    """MLflow's address for a pod, without credentials; None: no pod reaches it, and a kernel can do without."""
    from ..kubernetes.manifest import check_tracking_uri

    uri = config.mlflow_uri_shown()
    try:
        check_tracking_uri(uri)
    except UsageError:
        return None
    return uri


async def _in_thread(call: Callable[[], T]) -> T:
    """The result of a call that blocks.

    Not in the loop's own executor: the interpreter waits for that one at its end, and a start may take minutes.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failed = None, None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=work, name="mlops-kernel", daemon=True).start()
    return await done


def _give_back(pod: KernelPod) -> None:
    try:
        pod.delete()
    finally:
        pod.close()


def _leave_nothing(found: weakref.ref[KernelPod]) -> None:
    """At the interpreter's end: a pod that nobody has shut down is given back at once, not after its time."""
    pod = found()
    if pod is not None:
        pod.stop.set()
        with contextlib.suppress(Exception):
            pod.delete()
