"""The parts of `get_client` that start nothing: the guard of a script, and what a scheduler may tell."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jupyter_mlops.cluster.client import close_client, dask_use, is_guarded

GUARDED = 'import x\nif __name__ == "__main__":\n    a()\n    for b in c:\n        d()\nelse:\n    e()\nf()\n'


@pytest.mark.parametrize(("line", "guarded"), [(1, False), (3, True), (4, True), (5, True), (7, False), (8, False)])
def test_a_line_under_the_guard_is_known(line: int, guarded: bool) -> None:
    assert is_guarded(GUARDED, line) is guarded


@pytest.mark.parametrize(
    ("source", "guarded"),
    [
        ("if '__main__' == __name__:\n    a()", True),
        ("if __name__ == '__main__' and True:\n    a()", True),
        ("if __name__ == 'x':\n    a()", False),
        ("if True:\n    a()", False),
        ("def f():\n    a()", False),
        ("not python (\n    a()", True),
        ("\x00\n    a()", True),
    ],
)
def test_other_forms_of_the_guard(source: str, guarded: bool) -> None:
    assert is_guarded(source, 2) is guarded


class _Scheduler(http.server.BaseHTTPRequestHandler):
    answers: dict[str, bytes]

    def do_GET(self) -> None:
        answer = self.answers.get(self.path)
        if answer is None:
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def scheduler() -> Iterator[tuple[str, dict[str, bytes]]]:
    answers: dict[str, bytes] = {}
    handler = type("Handler", (_Scheduler,), {"answers": answers})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


COUNTS = {"bytes": 5, "workers": 2, "cores": 4, "tasks": 9, "processing": 1, "memory": 3, "erred": 0}


def test_what_the_scheduler_tells_is_used(scheduler: tuple[str, dict[str, bytes]]) -> None:
    url, answers = scheduler
    answers["/json/counts.json"] = json.dumps(COUNTS).encode()
    use = dask_use({"http": url, "dashboard": "http://hub/user/ann/proxy/8787/status"})
    assert use is not None
    assert (use.workers, use.threads, use.memory) == (2, 4, 5)
    assert use.dashboard == "http://hub/user/ann/proxy/8787/status"
    answers["/json/identity.json"] = json.dumps({"workers": {"a": {"metrics": {"memory": 7}}}}).encode()
    use = dask_use({"http": url})
    assert use is not None
    assert use.memory == 7


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b"\xff", b'{"bytes": "x", "workers": {}}', None])
def test_an_answer_that_is_none_is_left_out(scheduler: tuple[str, dict[str, bytes]], answer: bytes | None) -> None:
    url, answers = scheduler
    if answer is not None:
        answers["/json/counts.json"] = answer
    assert dask_use({"http": url}) is None


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"http": None},
        {"http": 5},
        {"http": "http://10.0.0.1:80"},
        {"http": "http://127.0.0.1@10.0.0.1:80"},
        {"http": "http://localhost:80"},
        {"http": "file:///etc/passwd"},
        {"http": "http://127.0.0.1"},
        {"http": "http://127.0.0.1:99999"},
        {"http": "http://[bad"},
        {"dashboard": "gopher://127.0.0.1:1/"},
    ],
)
def test_only_this_machine_is_asked(info: dict[str, Any]) -> None:
    assert dask_use(info) is None


def test_closing_without_a_cluster_does_nothing() -> None:
    close_client()
