"""What watches the list of runs outlives what goes wrong with it."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from jupyter_mlops.errors import StoreError
from jupyter_mlops.server.event_socket import ListWatch

if TYPE_CHECKING:
    import pytest

_PATIENCE = 120


def test_the_list_is_watched_on_after_errors_foreseen_or_not(caplog: pytest.LogCaptureFixture) -> None:
    errors = [StoreError("The store is away.", hint="Wait."), ZeroDivisionError("a secret path")]

    def find(**_options: Any) -> list[Any]:
        if errors:
            raise errors.pop(0)
        raise StoreError("It was looked at again.")

    heard: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen(message: dict[str, Any]) -> bool:
        heard.put(message)
        return True

    watch = ListWatch(SimpleNamespace(runs=SimpleNamespace(find=find)), seconds=0.01)  # type: ignore[arg-type]
    watch.join(listen)
    told = [heard.get(timeout=_PATIENCE)["problem"] for _ in range(3)]
    watch.leave(listen)
    assert [problem.message for problem in told] == [
        "The store is away.", "The server could not do it: ZeroDivisionError.", "It was looked at again.",
    ]  # fmt: skip
    assert "ZeroDivisionError: a secret path" in caplog.text
