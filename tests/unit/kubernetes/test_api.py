"""Calls to an API server: a small one of our own that answers as it is told, over real connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlops.errors import ConfigError, KubernetesError
from jupyter_mlops.kubernetes.api import Api

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers one call after the other with what is in `answers`, the last one for ever, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[Answer] = [told(200, {})]
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                server.asked.append((self.command, self.path, dict(self.headers), body))
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                answer(self)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer

            def log_message(self, *_args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def told(status: int, content: Any) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def cut(content: str) -> Answer:
    """An answer whose connection breaks before its end."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = content.encode()
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        handler.close_connection = True

    return answer


def status(code: int, reason: str, message: str = "no") -> Answer:
    return told(code, {"kind": "Status", "reason": reason, "message": message, "details": {"name": "x"}})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", running.url)))
    yield running
    running.close()


def kubeconfig(path: Path, url: str, token: str = "a-token", namespace: str = "team-a") -> Path:
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}},
            {"name": "bare", "context": {"cluster": "c", "user": "u"}},
        ],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def test_the_namespace_is_the_one_given_else_the_contexts_else_default(server: Server) -> None:
    assert Api().namespace == "team-a"
    assert Api("bare").namespace == "default"
    assert Api("bare", "team-b").namespace == "team-b"


def test_a_call_carries_the_login_and_names_what_it_is_about(server: Server) -> None:
    server.answers = [told(200, {"metadata": {"name": "x"}})]
    assert Api().get("jobs", "x") == {"metadata": {"name": "x"}}
    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("GET", "/apis/batch/v1/namespaces/team-a/jobs/x")
    assert headers["authorization"] == "Bearer a-token"


def test_an_object_that_is_not_there_is_none(server: Server) -> None:
    server.answers = [status(404, "NotFound")]
    assert Api().get("jobs", "x") is None
    assert Api().delete("jobs", "x") is False


def test_a_deletion_waits_for_what_is_owned_and_means_this_object_alone(server: Server) -> None:
    assert Api().delete("jobs", "x", uid="1")
    assert server.asked[0][3] == {"propagationPolicy": "Foreground", "preconditions": {"uid": "1"}}
    server.answers = [status(409, "Conflict")]
    assert Api().delete("jobs", "x", uid="1") is False


def test_a_dry_run_is_asked_for_as_one(server: Server) -> None:
    Api().create("jobs", {"kind": "Job"}, dry_run=True)
    assert server.asked[0][:2] == ("POST", "/apis/batch/v1/namespaces/team-a/jobs?dryRun=All")


def test_a_long_list_is_read_page_by_page(server: Server) -> None:
    server.answers = [
        told(200, {"items": [{"n": 1}], "metadata": {"continue": "next"}}), told(200, {"items": [{"n": 2}]})
    ]  # fmt: skip
    assert Api().find("pods", labels={"a": "b"}) == [{"n": 1}, {"n": 2}]
    assert "labelSelector=a%3Db" in server.asked[0][1]
    assert "continue=next" in server.asked[1][1]


@pytest.mark.parametrize("answer", [status(429, "TooManyRequests"), status(503, "ServiceUnavailable"),
                                    status(500, "InternalError"), cut("{")])  # fmt: skip
def test_trouble_that_passes_is_waited_out(server: Server, answer: Answer) -> None:
    server.answers = [answer, answer, told(200, {"metadata": {}})]
    assert Api().get("jobs", "x") == {"metadata": {}}
    assert len(server.asked) == 3


def test_what_does_not_pass_is_told_at_once(server: Server) -> None:
    server.answers = [status(403, "Forbidden", 'jobs.batch is forbidden: User "ann" cannot create resource "jobs" in '
                             'API group "batch" in the namespace "team-a"')]  # fmt: skip
    with pytest.raises(KubernetesError, match=r"You \(ann\) may not create jobs in the namespace team-a"):
        Api().create("jobs", {})
    assert len(server.asked) == 1


def test_patience_has_an_end(server: Server) -> None:
    server.answers = [status(503, "ServiceUnavailable")]
    with pytest.raises(KubernetesError) as caught:
        Api(patience=0.5).get("jobs", "x")
    assert caught.value.retryable


def test_a_login_that_was_renewed_in_the_file_is_taken_up(server: Server, tmp_path: Path) -> None:
    api = Api()
    kubeconfig(tmp_path / "config", server.url, token="a-new-token")
    server.answers = [status(401, "Unauthorized"), told(200, {})]
    api.get("jobs", "x")
    assert server.asked[1][2]["authorization"] == "Bearer a-new-token"


def test_a_login_that_stays_refused_is_an_error_and_not_a_loop(server: Server) -> None:
    server.answers = [status(401, "Unauthorized")]
    with pytest.raises(KubernetesError, match="does not accept your login"):
        Api().get("jobs", "x")
    assert len(server.asked) == 2


@pytest.mark.parametrize("answer", [status(403, "Forbidden"), told(404, "404 page not found")])
def test_what_one_may_not_read_is_none_where_one_can_do_without(server: Server, answer: Answer) -> None:
    server.answers = [answer]
    assert Api().find_if_allowed("workloads") is None


def test_a_log_comes_line_by_line(server: Server) -> None:
    server.answers = [told(200, "t1 one\nt2 zwei ü\nt3 end")]
    lines = list(Api().log("pod", container="run"))
    assert lines == ["t1 one", "t2 zwei ü", "t3 end"]
    assert server.asked[0][1] == "/api/v1/namespaces/team-a/pods/pod/log?container=run&timestamps=true"


def test_a_log_that_breaks_off_gives_whole_lines_and_says_so(server: Server) -> None:
    server.answers = [cut("t1 one\nt2 tw")]
    lines = Api().log("pod", container="run", follow=True)
    assert next(lines) == "t1 one"
    with pytest.raises(KubernetesError) as caught:
        next(lines)
    assert caught.value.retryable


def test_nobody_there_is_a_sentence_with_the_address(server: Server) -> None:
    server.close()
    with pytest.raises(KubernetesError, match=f"Kubernetes at {server.url.removeprefix('http://')} does not answer"):
        Api(patience=0).get("jobs", "x")


def test_without_a_kubeconfig_one_is_told_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="There is no kubeconfig"):
        Api()


def test_an_unknown_context_is_answered_with_the_nearest(server: Server) -> None:
    with pytest.raises(ConfigError) as caught:
        Api("here2")
    assert "Did you mean 'here'?" in caught.value.hint


def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").write_text("{")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "broken"))
    with pytest.raises(ConfigError, match="cannot be used"):
        Api()
