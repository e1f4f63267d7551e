"""The check of MLflow's address, against servers that answer as the wrong ones do, and files that are no
store."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from jupyter_mlops.errors import TrackingError
from jupyter_mlops.tracking.server import check_tracking, ui_command

if TYPE_CHECKING:
    from pathlib import Path

Answer = tuple[int, dict[str, str], bytes]
Serve = Callable[[Callable[[BaseHTTPRequestHandler], Answer]], str]
OK: Answer = (200, {"Content-Type": "application/json"}, b'{"experiments": []}')


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], Answer]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(OSError):  # the client may have gone
                    status, headers, body = answer(self)
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_mlflow_that_answers_is_fine(serve: Serve) -> None:
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        asked.append(request.path)
        return OK

    check_tracking(serve(answer) + "/base/", 5)
    assert asked == ["/base/api/2.0/mlflow/experiments/search?max_results=1"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((200, {}, b"<!DOCTYPE html><title>Sign in</title>"), "is not MLflow"),
        ((404, {}, b"<html>404"), "is not MLflow"),
        ((404, {}, b'{"error": "x"}'), "is not MLflow"),
        ((200, {}, b""), "is not MLflow"),
        ((500, {}, b"oops"), r"trouble of its own \(HTTP 500\)"),
        ((503, {}, b"<html>"), r"trouble of its own \(HTTP 503\)"),
        ((429, {}, b""), r"HTTP 429"),
        ((401, {}, b"You are not authenticated"), "refused the user"),
        ((403, {}, b"no"), "refused the user"),
        ((403, {}, b"Invalid Host header - possible DNS rebinding attack detected"), "under this host name"),
    ],
)
def test_each_wrong_answer_has_its_own_sentence(serve: Serve, answer: Answer, sentence: str) -> None:
    with pytest.raises(TrackingError, match=sentence) as caught:
        check_tracking(serve(lambda request: answer), 5)
    assert caught.value.hint
    assert caught.value.code == "mlflow_unreachable"


def test_a_redirect_to_a_login_page_is_told(serve: Serve) -> None:
    login = serve(lambda request: (200, {}, b"<html>log in"))
    with pytest.raises(TrackingError, match="is not MLflow"):
        check_tracking(serve(lambda request: (302, {"Location": login}, b"")), 5)


def test_nobody_there_and_no_such_host_are_told() -> None:
    for uri in ("http://127.0.0.1:9", "http://nowhere.invalid"):
        with pytest.raises(TrackingError, match=f"MLflow at {uri} cannot be reached"):
            check_tracking(uri, 5)


def test_a_server_that_dribbles_is_given_up(serve: Serve) -> None:
    release = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        request.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not release.wait(0.2):
            request.wfile.write(b"X-A: b\r\n")
        return OK

    try:
        with pytest.raises(TrackingError, match="did not answer within 1 s"):
            check_tracking(serve(answer), 1)
    finally:
        release.set()


def test_the_user_of_mlflows_variables_file_or_address_is_sent(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, clean_environment: Path
) -> None:
    seen: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        seen.append(request.headers["Authorization"])
        return OK

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    uri = serve(answer)
    check_tracking(uri.replace("://", "://eve:p%40ss@"), 5)
    (clean_environment / ".mlflow").mkdir()
    stored = clean_environment / ".mlflow" / "credentials"
    stored.write_text("[mlflow]\nmlflow_tracking_username = bob\nmlflow_tracking_password = 50%\n")
    check_tracking(uri, 5)
    stored.write_text("not an ini file")
    check_tracking(uri, 5)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok")
    check_tracking(uri, 5)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pä")
    check_tracking(uri, 5)
    assert seen == [basic("eve:p@ss"), basic("bob:50%"), None, "Bearer tok", basic("ada:pä")]


def test_a_refusal_is_left_to_mlflow_when_a_plugin_signs_its_requests(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "kubernetes")
    check_tracking(serve(lambda request: (401, {}, b"")), 5)


def test_a_database_that_is_not_there_yet_is_fine_where_it_can_be_made(tmp_path: Path) -> None:
    check_tracking(f"sqlite:///{tmp_path}/new/deep/mlflow.db", 1)
    assert list(tmp_path.glob("new*")) == [], "a check makes nothing"
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match="cannot be written to"):
        check_tracking(f"sqlite:///{tmp_path}/file/mlflow.db", 1)
    with pytest.raises(TrackingError, match="is a directory"):
        check_tracking(f"sqlite:///{tmp_path}", 1)


def test_a_locked_and_a_foreign_file_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a 'b'%?.db".replace("?", "")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    check_tracking(f"sqlite:///{path}", 1)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TrackingError, match="is locked by another process"):
        check_tracking(f"sqlite:///{path}", 0.1)
    holder.close()
    path.write_text("x" * 10_000)
    with pytest.raises(TrackingError, match="not an SQLite database"):
        check_tracking(f"sqlite:///{path}", 1)


def test_the_command_that_shows_the_default_store(tmp_path: Path) -> None:
    command = ui_command(f"sqlite:///{tmp_path}/m.db", 5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert command[command.index("--backend-store-uri") + 1] == f"sqlite:///{tmp_path}/m.db"
    assert command[command.index("--default-artifact-root") + 1] == (tmp_path / "mlartifacts").as_uri()
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"
    with pytest.raises(TrackingError, match="page of its own"):
        ui_command("https://u:geheim1@h", 5000)


def test_importing_tracking_and_checking_costs_no_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom jupyter_mlops.tracking import html, metrics, mlflow_run, source, system_metrics\n"
        "from jupyter_mlops.tracking.server import check_tracking\n"
        f"check_tracking('sqlite:///{tmp_path}/m.db', 1)\n"
        "print({'mlflow', 'nbconvert', 'requests', 'sqlalchemy', 'bleach'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
