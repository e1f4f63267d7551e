"""A call is waited for as long as it may take, and no longer."""

from __future__ import annotations

import contextvars
import threading

import pytest

from jupyter_mlops.tracking.patience import Call, within


def test_the_result_and_the_error_of_a_call_come_through() -> None:
    assert within(30, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        within(30, lambda: 1 / 0)


def test_a_call_that_hangs_is_left_alone_and_can_be_asked_again() -> None:
    release = threading.Event()

    def hang() -> str:
        release.wait(60)
        return "late"

    call = Call(hang)
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        call.result(0.05)
    assert not call.done
    release.set()
    assert call.result(30) == "late"
    assert call.done


def test_a_call_sees_the_context_of_who_asked() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(3)
    assert within(30, variable.get) == 3


def test_a_hanging_call_keeps_no_process_from_ending() -> None:
    release = threading.Event()
    Call(lambda: release.wait(60), name="hanging")
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "hanging"]
    assert thread.daemon
    release.set()
