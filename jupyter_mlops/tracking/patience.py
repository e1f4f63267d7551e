"""Bounds how long a call may take, where the called library has no such bound of its own.

MLflow retries a server that is away for minutes and reads its limits from environment variables of the
process; to change those would also change them for the kernels that are started meanwhile. Knows nothing of
MLflow.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Call(Generic[T]):
    """A call that goes on in a thread of its own, so that whoever asked may stop waiting for it.

    The thread is a daemon: it ends with the process, and keeps nobody from leaving.
    """

    def __init__(self, call: Callable[[], T], *, name: str = "mlops-mlflow-call") -> None:
        self._call = call
        self._value: T
        self._error: BaseException | None = None
        self._done = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work,), name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
            self._error = error
        finally:
            self._done.set()

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._done.is_set()

    def result(self, seconds: float) -> T:
        """What the call gave.

        Args:
            seconds: How long to wait for it.

        Raises:
            TimeoutError: it still goes on.
            Exception: whatever the call raised.
        """
        if not self._done.wait(seconds):
            raise TimeoutError(f"no answer within {seconds:g} s")
        self._thread.join()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # a traceback that refers to this object would keep it alive
        return self._value


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call that may take so many seconds.

    Raises:
        TimeoutError: it took longer; it goes on in the background and its result is lost.
        Exception: whatever the call raised.
    """
    return Call(call).result(seconds)
