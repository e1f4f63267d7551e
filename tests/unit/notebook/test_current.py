"""Which notebook a kernel belongs to: the choice among servers, who gets which token, and what a path may be.

The servers are real ones in this process or beside it that answer as Jupyter's do, or worse; that a kernel of a
real Jupyter server finds its notebook is in the integration tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import v4

from jupyter_mlops.errors import NotebookError
from jupyter_mlops.notebook import current
from jupyter_mlops.notebook.current import cell_is_saved, current_notebook

KERNEL = "11111111-2222-3333-4444-555555555555"
Answer = tuple[int, dict[str, str], bytes]


def session(path: str, kernel: str = KERNEL, kind: str = "notebook") -> dict[str, Any]:
    return {"id": "s", "path": path, "name": path, "type": kind, "kernel": {"id": kernel, "name": "python3"}}


class Server:
    """An HTTP server in this process; remembers who asked for what with which token."""

    def __init__(self, answer: Callable[[str, str], Answer], path: Path | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                authorization = self.headers.get("Authorization", "")
                outer.asked.append((self.path, authorization))
                status, headers, body = answer(self.path, authorization)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *args: object) -> None:
                pass

        self._server = (
            ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            if path is None
            else ThreadingUnixStreamServer(str(path), Handler)
        )
        self._server.daemon_threads = True
        self.port = 0 if path is not None else int(self._server.server_address[1])

    def use_tls(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def sessions(*found: Any, status: int = 200, token: str = "") -> Callable[[str, str], Answer]:
    def answer(path: str, authorization: str) -> Answer:
        allowed = not token or authorization == f"token {token}"
        return (status if allowed else 403), {}, json.dumps(list(found)).encode()

    return answer


@pytest.fixture
def start(clean_environment: Path) -> Iterator[Callable[..., Server]]:
    """Start a server and leave the file that a Jupyter server leaves; keywords change what the file says."""
    running: list[Server] = []

    def begin(answer: Callable[[str, str], Answer], *, sock: Path | None = None, tls: Path | None = None,
              **says: Any) -> Server:  # fmt: skip
        server = Server(answer, sock)
        if tls is not None:
            server.use_tls(tls)
        server.start()
        running.append(server)
        write_info({"port": server.port, "root_dir": "/work-of-nobody", **says})
        return server

    yield begin
    for server in running:
        server.stop()


def write_info(says: dict[str, Any], content: str | None = None) -> None:
    directory = Path(os.environ["JUPYTER_RUNTIME_DIR"])
    directory.mkdir(exist_ok=True)
    info = {
        "pid": os.getpid(),
        "hostname": "localhost",
        "base_url": "/",
        "token": "",
        "secure": False,
        "sock": "",
        **says,
    }
    name = f"jpserver-{len(list(directory.iterdir()))}.json"
    (directory / name).write_text(json.dumps(info) if content is None else content)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What of a shell is looked at, in a process that stands for the kernel."""
    monkeypatch.setattr(current, "_kernel_id", lambda: KERNEL)
    (tmp_path / "root").mkdir()
    return SimpleNamespace(user_ns={}, starting_dir=str(tmp_path / "root"))


@pytest.fixture
def root(tmp_path: Path, shell: SimpleNamespace) -> Path:
    return tmp_path / "root"


def unknown(shell: Any) -> NotebookError:
    with pytest.raises(NotebookError) as caught:
        current_notebook(shell)
    assert caught.value.code == "notebook_unknown"
    assert "%mlops train path/to/notebook.ipynb" in caught.value.hint
    assert caught.value.message.isprintable()
    return caught.value


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    "name", ["a.ipynb", "sub/dir/a.ipynb", "a b é😀.ipynb", 'it\'s "q" #1%20?&.ipynb', "<b>$(id);.ipynb", "100%.ipynb"]
)
def test_the_session_of_the_server_names_the_notebook(
    start: Callable[..., Server], shell: Any, root: Path, name: str
) -> None:
    path = touch(root / name)
    server = start(sessions(session("other.ipynb", "k2"), session(name)), root_dir=str(root))
    assert current_notebook(shell) == path
    assert server.asked == [("/api/sessions", "")]


def test_without_a_server_the_variable_and_the_editor_nobody_knows(shell: Any) -> None:
    assert "not known which notebook" in unknown(shell).message


def test_a_process_that_is_no_kernel_belongs_to_no_notebook(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(sessions(session("a.ipynb")), root_dir=str(tmp_path))
    unknown(SimpleNamespace(user_ns={}))
    assert server.asked == []


def test_the_server_that_knows_the_kernel_is_taken(start: Callable[..., Server], shell: Any, root: Path) -> None:
    path = touch(root / "a.ipynb")
    start(sessions(session("x.ipynb", "k2")))
    start(sessions(session("a.ipynb")), root_dir=str(root))
    start(sessions())
    assert current_notebook(shell) == path


def test_a_server_under_a_prefix_is_asked_there(start: Callable[..., Server], shell: Any, root: Path) -> None:
    touch(root / "a.ipynb")
    server = start(sessions(session("a.ipynb")), root_dir=str(root), base_url="/user/ann/lab/")
    current_notebook(shell)
    assert server.asked == [("/user/ann/lab/api/sessions", "")]


def test_two_notebooks_on_one_kernel_are_told(start: Callable[..., Server], shell: Any, root: Path) -> None:
    start(sessions(session("b.ipynb"), session("a\x1b[31m.ipynb")), root_dir=str(root))
    assert "Several notebooks share this kernel: a[31m.ipynb, b.ipynb." in unknown(shell).message


def test_the_same_notebook_twice_and_a_console_beside_it_are_one(
    start: Callable[..., Server], shell: Any, root: Path
) -> None:
    path = touch(root / "a.ipynb")
    start(
        sessions(session("a.ipynb"), session("a.ipynb"), session("a.ipynb-console", kind="console"),
                 session("x.py", kind="file")),
        root_dir=str(root),
    )  # fmt: skip
    assert current_notebook(shell) == path


def test_a_notebook_that_is_not_on_this_machine_is_told_with_its_path(
    start: Callable[..., Server], shell: Any, root: Path
) -> None:
    start(sessions(session("gone.ipynb")), root_dir=str(root))
    error = unknown(shell)
    assert f"{root}/gone.ipynb, which is not a file on this machine" in error.message
    assert "Save it" in error.hint


@pytest.mark.parametrize("path", ["x" * 5000 + ".ipynb", "d/" * 3000 + "a.ipynb"])
def test_a_path_that_no_file_can_have_is_told(start: Callable[..., Server], shell: Any, root: Path, path: str) -> None:
    start(sessions(session(path)), root_dir=str(root))
    assert "which is not a file" in unknown(shell).message


@pytest.mark.parametrize(
    "path", ["../a.ipynb", "sub/../../a.ipynb", "..", "a\0.ipynb", "RTC:../a.ipynb", "/../a.ipynb"]
)
def test_a_path_that_leads_out_of_the_servers_directory_is_refused(
    start: Callable[..., Server], shell: Any, root: Path, path: str
) -> None:
    touch(root.parent / "a.ipynb")
    start(sessions(session(path)), root_dir=str(root))
    assert "outside of its directory" in unknown(shell).message


@settings(deadline=None, max_examples=50)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30) | st.sampled_from(["..", "a/..", "//"])
)
def test_no_path_leads_out_of_the_servers_directory(path: str) -> None:
    with contextlib.suppress(NotebookError):
        assert current._under(Path("/srv/root"), path).is_relative_to("/srv/root")


@pytest.mark.parametrize("path", ["RTC:sub/a.ipynb", "/sub/a.ipynb", "sub/./a.ipynb", "sub/x/../a.ipynb"])
def test_a_drive_and_a_slash_in_front_are_not_part_of_the_path(
    start: Callable[..., Server], shell: Any, root: Path, path: str
) -> None:
    expected = touch(root / "sub" / "a.ipynb")
    start(sessions(session(path)), root_dir=str(root))
    assert current_notebook(shell) == expected


def test_a_home_directory_as_root_is_written_out(
    start: Callable[..., Server], shell: Any, clean_environment: Path
) -> None:
    path = touch(clean_environment / "work" / "a.ipynb")
    start(sessions(session("a.ipynb")), root_dir="~/work")
    assert current_notebook(shell) == path


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>log in</html>"), (200, b""), (200, b"{}"), (200, b"null"), (200, b"[1, null, []]"),
        (200, b"[" * 100_000), (200, b"\xff"), (403, b"[]"), (500, b"oops"), (404, b""), (204, b""),
        (200, b'[{"kernel": "11111111-2222-3333-4444-555555555555"}]'),
        (200, b'[{"kernel": {"id": 1}, "path": {}}]'),
        (200, b'[{"kernel": {"id": "11111111-2222-3333-4444-555555555555"}, "notebook": "a", "type": "notebook"}]'),
        (200, b'[{"kernel": {"id": "11111111-2222-3333-4444-555555555555"}, "path": 3, "type": "notebook"}]'),
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_that_helps_nothing_leaves_it_to_the_variable(
    start: Callable[..., Server], shell: Any, root: Path, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, bytes]
) -> None:
    server = start(lambda path, token: (answer[0], {}, answer[1]))
    monkeypatch.setenv("JPY_SESSION_NAME", str(touch(root / "a.ipynb")))
    assert current_notebook(shell) == root / "a.ipynb"
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "says",
    [
        {"port": "no"}, {"port": None}, {"port": 99999}, {"port": -1}, {"port": 1}, {"hostname": "example.invalid"},
        {"hostname": "8.8.8.8"}, {"hostname": 3}, {"base_url": "/a b\r\nX: y"}, {"base_url": 3}, {"base_url": "/é"},
        {"pid": "1"}, {"pid": True}, {"pid": -1}, {"pid": 2**70}, {"pid": None}, {"pid": 4_000_000},
        {"root_dir": None}, {"root_dir": 3}, {"sock": "/none.sock"}, {"sock": 3}, {"secure": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_of_a_server_that_says_nonsense_is_no_error(
    start: Callable[..., Server], shell: Any, says: dict[str, Any]
) -> None:
    server = start(sessions(session("a.ipynb")), pid=None)
    write_info({"port": server.port, "root_dir": "/none", **says})
    unknown(shell)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '"a"', "\x00"])
def test_a_broken_file_of_a_server_hides_no_other(
    start: Callable[..., Server], shell: Any, root: Path, content: str
) -> None:
    write_info({}, content)
    (Path(os.environ["JUPYTER_RUNTIME_DIR"]) / "jpserver-dir.json").mkdir()
    path = touch(root / "a.ipynb")
    start(sessions(session("a.ipynb")), root_dir=str(root))
    assert current_notebook(shell) == path


LISTEN = """
import os, socket, sys
if sys.argv[1:]:
    os.setuid(int(sys.argv[1]))
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def listening_process(*user: str) -> Iterator[tuple[int, int]]:
    """Process and port of another process that listens and answers nothing."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", LISTEN, *user], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.stdin.close()


def test_a_token_goes_to_no_port_that_the_named_process_does_not_serve(
    start: Callable[..., Server], shell: Any, root: Path
) -> None:
    # What a server that died leaves: its process's number and its port belong to others by now.
    with listening_process() as (other, port):
        server = start(sessions(session("a.ipynb")), pid=other, token="mine")
        write_info({"port": port, "token": "mine"})
        unknown(shell)
        assert server.asked == []
        assert current._servers() == []
        write_info({"pid": other, "port": port})
        assert [info["port"] for info in current._servers()] == [port]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_token_goes_to_no_process_of_another_user(shell: Any) -> None:
    with listening_process("65534") as (other, port):
        write_info({"pid": other, "port": port, "token": "mine"})
        assert current._servers() == []


def test_the_server_that_started_this_kernel_is_asked_first(
    start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(sessions())
    with listening_process() as (other, port):
        write_info({"pid": other, "port": port})
        monkeypatch.setenv("JPY_PARENT_PID", str(other))
        assert [info["port"] for info in current._servers()] == [port, server.port]
        monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
        assert [info["port"] for info in current._servers()] == [server.port, port]


def test_the_servers_own_token_opens_it(start: Callable[..., Server], shell: Any, root: Path) -> None:
    path = touch(root / "a.ipynb")
    server = start(sessions(session("a.ipynb"), token="t0k"), root_dir=str(root), token="t0k")
    assert current_notebook(shell) == path
    assert server.asked == [("/api/sessions", "token t0k")]


def test_the_hubs_token_goes_to_the_hubs_server_and_to_no_other(
    start: Callable[..., Server], shell: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hub")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ann/")
    path = touch(root / "a.ipynb")
    other = start(sessions(token="nobody's"))
    hubs = start(sessions(session("a.ipynb"), token="hub"), root_dir=str(root), base_url="/user/ann/")
    assert current_notebook(shell) == path
    assert other.asked == [("/api/sessions", "")]
    assert hubs.asked == [("/user/ann/api/sessions", "token hub")]


def test_each_token_is_tried_once_and_none_that_would_break_the_header(
    start: Callable[..., Server], shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", "one")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "two\nX-Evil: 1")
    monkeypatch.setenv("JPY_API_TOKEN", "thrée")
    server = start(sessions(status=403), token="one")
    unknown(shell)
    assert [token for _, token in server.asked] == ["token one"]


def test_no_token_follows_a_redirect(start: Callable[..., Server], shell: Any) -> None:
    thief = Server(sessions(session("a.ipynb")))
    thief.start()
    try:
        to = {"Location": f"http://127.0.0.1:{thief.port}/api/sessions"}
        server = start(lambda path, token: (302, to, b"[]"), token="mine")
        unknown(shell)
    finally:
        thief.stop()
    assert server.asked == [("/api/sessions", "token mine")]
    assert thief.asked == []


def test_no_token_goes_through_a_proxy(
    start: Callable[..., Server], shell: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Server(sessions(session("a.ipynb")))
    proxy.start()
    try:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        touch(root / "a.ipynb")
        start(sessions(session("a.ipynb")), root_dir=str(root), token="mine")
        current_notebook(shell)
    finally:
        proxy.stop()
    assert proxy.asked == []


def test_a_server_on_a_unix_socket_is_asked(start: Callable[..., Server], shell: Any, root: Path) -> None:
    path = touch(root / "a.ipynb")
    # A socket's path is short: 108 bytes.
    directory = Path("/tmp") / f"mlops {os.getpid()}"
    directory.mkdir()
    try:
        server = start(
            sessions(session("a.ipynb")), sock=directory / "s", root_dir=str(root), **{"hostname": "localhost"}
        )
        write_info({"port": 0, "root_dir": str(root), "sock": quote(str(directory / "s"), safe="")})
        assert current_notebook(shell) == path
        assert server.asked == [("/api/sessions", "")]
    finally:
        shutil.rmtree(directory)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_a_server_with_a_certificate_for_another_name_is_asked(
    start: Callable[..., Server], shell: Any, root: Path, tmp_path: Path
) -> None:
    pem = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=hub.example", "-keyout", pem, "-out", tmp_path / "c.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_text(pem.read_text() + (tmp_path / "c.pem").read_text())
    path = touch(root / "a.ipynb")
    start(sessions(session("a.ipynb"), token="t"), tls=pem, root_dir=str(root), token="t", secure=True)
    assert current_notebook(shell) == path


@pytest.mark.parametrize(
    ("hostname", "address"),
    [("", "127.0.0.1"), ("*", "127.0.0.1"), ("localhost", "localhost"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"),
     ("127.0.0.1", "127.0.0.1"), ("127.1.2.3", "127.1.2.3"), ("::1", "::1")],
)  # fmt: skip
def test_a_server_is_asked_where_it_listens(hostname: str, address: str) -> None:
    assert current._address(hostname) == address


@pytest.mark.parametrize(
    "hostname", ["hub.example.org", "8.8.8.8", "203.0.113.7", "2001:db8::1", "a b", "127.0.0.1:80"]
)
def test_an_address_that_is_not_this_machines_gets_no_token(hostname: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        current._address(hostname)


@pytest.mark.parametrize("name", ["{root}/a b.ipynb", "a b.ipynb", "elsewhere/a b.ipynb", "RTC:a b.ipynb"])
def test_the_variable_of_the_server_names_the_notebook(
    shell: Any, root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = touch(root / "a b.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", name.format(root=root))
    assert current_notebook(shell) == path


@pytest.mark.parametrize("name", ["gone.ipynb", "/gone.ipynb", "", "x" * 5000, "."])
def test_a_variable_that_names_no_file_says_nothing(shell: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", name)
    unknown(shell)


def test_a_kernel_of_vs_code_knows_its_notebook(shell: Any, root: Path) -> None:
    shell.user_ns["__vsc_ipynb_file__"] = str(touch(root / "a.ipynb"))
    assert current_notebook(shell) == root / "a.ipynb"
    shell.user_ns["__vsc_ipynb_file__"] = 3
    unknown(shell)


def test_a_server_that_hangs_is_given_up(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        write_info({"port": hanging.getsockname()[1]})
        unknown(shell)


@pytest.mark.parametrize(
    ("saved", "executing", "same"),
    [
        ("%mlops train", "%mlops train", True), ("%mlops train\n", "%mlops train", True), ("a\r\nb", "a\nb", True),
        ("a  ", "a", True), ("a", "b", False), ("  a", "a", False), ("", "", False), (" ", "", False),
    ],
)  # fmt: skip
def test_a_cell_is_saved_if_the_file_has_its_source(saved: str, executing: str, same: bool) -> None:
    nb = v4.new_notebook(cells=[v4.new_markdown_cell(executing), v4.new_code_cell("other"), v4.new_code_cell(saved)])
    assert cell_is_saved(nb, executing) is same
