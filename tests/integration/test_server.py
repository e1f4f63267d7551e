"""The REST interface and the websocket in a real JupyterLab server: what works, and what is refused."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from tests.browser.lab import Lab, running_lab

from .conftest import kill_processes_of

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Server:
    """A Jupyter server with our extension.

    Attributes:
        lab: How to reach it.
        data: The data directory of its runs.
    """

    lab: Lab
    data: Path

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of an answer, also of one that refuses."""
        request = urllib.request.Request(
            self.lab.url + path,
            method=method,
            data=None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.lab.token}"} if headers is None else headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            content = error.read()
            return error.code, json.loads(content) if content.startswith(b"{") else content

    def notebook(self, *cells: str | tuple[str, str], name: str = "train.ipynb") -> dict[str, Any]:
        """Save a notebook in the server's root, and give its JSON."""
        nb = v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}})
        for cell in cells:
            source, tags = (cell, []) if isinstance(cell, str) else (cell[0], [cell[1]])
            nb.cells.append(v4.new_code_cell(source, metadata={"tags": tags} if tags else {}))
        path = self.lab.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, path)
        return dict(nb)

    def listen(self, *requests: dict[str, Any], until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Say these over the websocket, and hear until a message that fits; that one is the last."""

        async def talk() -> list[dict[str, Any]]:
            from tornado.httpclient import HTTPRequest
            from tornado.websocket import websocket_connect

            url = self.lab.url.replace("http", "ws", 1) + "/mlops/events"
            socket = await websocket_connect(
                HTTPRequest(url, headers={"Authorization": f"token {self.lab.token}"}, request_timeout=120)
            )
            for request in requests:
                await socket.write_message(request if isinstance(request, str) else json.dumps(request))
            heard = []
            while True:
                message = await asyncio.wait_for(socket.read_message(), 120)
                assert message is not None
                heard.append(json.loads(message))
                if until(heard[-1]):
                    socket.close()
                    return heard

        return asyncio.run(talk())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("data")
    shutil.copy(mlflow_database, data / "mlflow.db")
    with running_lab(tmp_path_factory.mktemp("root"), {"JUPYTER_MLOPS_DATA_DIR": str(data)}) as lab:
        yield Server(lab, data)
    kill_processes_of(data)


def ended(run_id: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message.get("run") == run_id and message.get("ended") is True


def test_a_notebook_is_read_run_followed_and_read_back(server: Server) -> None:
    server.notebook(("lr: float = 0.1  # learning rate\nname = 'a'", "parameters"), "print(name, lr)", name="a/b.ipynb")
    status, found = server.ask("GET", "/mlops/parameters?path=a/b.ipynb")
    assert status == 200
    assert found["cell"] == 0
    assert [(each["name"], each["type"], each["default"], each["help"]) for each in found["parameters"]] == [
        ("lr", "float", 0.1, "learning rate"),
        ("name", "str", "a", ""),
    ]
    asked = {"path": "a/b.ipynb", "assignments": {"lr": "0.5", "name": "</script><b>\u2028"}, "run_key": "once"}
    status, dry = server.ask("POST", "/mlops/runs", {**asked, "dry_run": True})
    assert (status, dry["run"], dry["files"]) == (201, None, ["b.ipynb"])
    status, submitted = server.ask("POST", "/mlops/runs", asked)
    assert status == 201, submitted
    run = submitted["run"]
    assert (run["path"], run["parameters"]["lr"]) == ("a/b.ipynb", 0.5)
    status, again = server.ask("POST", "/mlops/runs", asked)
    assert again["run"]["run_id"] == run["run_id"]
    heard = server.listen({"follow": run["run_id"]}, until=ended(run["run_id"]))
    events = [event for message in heard if message.get("run") == run["run_id"] for event in message.get("events", [])]
    assert events[-1]["type"] == "run"
    assert events[-1]["state"] == "succeeded", events[-1]
    assert "</script><b>\u2028 0.5" in "".join(event["text"] for event in events if event["type"] == "log")
    assert heard[-1]["changed"][0]["state"] == "succeeded"
    status, details = server.ask("GET", f"/mlops/runs/{run['run_id']}")
    assert (details["run"]["state"], details["has_notebook"], details["files"]) == ("succeeded", True, ["b.ipynb"])
    status, page = server.ask("GET", f"/mlops/runs/{run['run_id']}/events?after=2&limit=1000")
    assert page["events"] == events[2:]
    assert page["after"] == len(events)
    status, executed = server.ask("GET", f"/mlops/runs/{run['run_id']}/notebook")
    assert any("injected-parameters" in cell["metadata"].get("tags", []) for cell in executed["cells"])
    status, listed = server.ask("GET", "/mlops/runs?path=a/b.ipynb&state=succeeded")
    assert [each["run_id"] for each in listed["runs"]] == [run["run_id"]]


def test_what_was_heard_before_is_not_told_again(server: Server) -> None:
    server.notebook("print('once')", name="again.ipynb")
    _, submitted = server.ask("POST", "/mlops/runs", {"path": "again.ipynb"})
    run_id = submitted["run"]["run_id"]
    whole = server.listen({"follow": run_id}, until=ended(run_id))
    count = max(message.get("after", 0) for message in whole)
    rest = server.listen({"follow": run_id, "after": count - 1}, until=ended(run_id))
    assert [len(message["events"]) for message in rest if "events" in message] == [1]


def test_edits_that_are_not_saved_ship_with_the_request(server: Server) -> None:
    content = server.notebook(("x = 1", "parameters"), "print(x)", name="edited.ipynb")
    content["cells"][1]["source"] = "print('edited', x)"
    content["cells"][0]["source"] = "x = 1\ny: int = 2"
    _, found = server.ask("POST", "/mlops/parameters", {"path": "edited.ipynb", "content": content})
    assert [each["name"] for each in found["parameters"]] == ["x", "y"]
    status, submitted = server.ask("POST", "/mlops/runs", {"path": "edited.ipynb", "content": content})
    assert status == 201, submitted
    run_id = submitted["run"]["run_id"]
    heard = server.listen({"follow": run_id}, until=ended(run_id))
    text = "".join(event.get("text", "") for message in heard for event in message.get("events", []))
    assert "edited 1" in text


def test_a_run_is_cancelled_and_repeated_and_the_list_is_pushed(server: Server) -> None:
    server.notebook("import time; time.sleep(600)", name="long.ipynb")
    _, submitted = server.ask("POST", "/mlops/runs", {"path": "long.ipynb", "resources": {"cpus": 1}})
    run_id = submitted["run"]["run_id"]
    server.listen(
        {"follow": run_id},
        until=lambda message: any(event["type"] == "cell" for event in message.get("events", [])),
    )
    status, _ = server.ask("POST", f"/mlops/runs/{run_id}/cancel")
    assert status == 202
    server.listen(
        until=lambda message: any(
            run["run_id"] == run_id and run["state"] == "cancelled" for run in message.get("changed", [])
        )
    )
    status, problem = server.ask("POST", f"/mlops/runs/{run_id}/cancel")
    assert (status, problem["code"]) == (409, "ended")
    status, again = server.ask("POST", f"/mlops/runs/{run_id}/retry", {})
    assert (status, again["retry_of"]) == (201, run_id)
    server.ask("POST", f"/mlops/runs/{again['run_id']}/cancel")
    server.listen({"follow": again["run_id"]}, until=ended(again["run_id"]))


def test_pages_of_runs_follow_each_other(server: Server) -> None:
    seen: list[str] = []
    before = ""
    while True:
        _, page = server.ask("GET", f"/mlops/runs?limit=1{before}")
        seen += [run["run_id"] for run in page["runs"]]
        if page["next_before"] is None:
            break
        before = "&before=" + urllib.request.quote(page["next_before"])
    _, whole = server.ask("GET", "/mlops/runs?limit=500")
    assert seen == [run["run_id"] for run in whole["runs"]]
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "words"),
    [
        ("GET", "/mlops/parameters?path=none.ipynb", None, 404, "not_found", "none.ipynb"),
        ("GET", "/mlops/parameters?path=../../etc/passwd", None, 404, "not_found", "passwd"),
        ("GET", "/mlops/parameters?path=/etc/passwd", None, 404, "not_found", "passwd"),
        ("GET", "/mlops/parameters?path=.hidden/a.ipynb", None, 404, "not_found", "hidden"),
        ("GET", "/mlops/parameters?path=C:/a.ipynb", None, 404, "not_found", "C:"),
        ("GET", "/mlops/parameters?path=a%00.ipynb", None, 404, "not_found", ""),
        ("GET", "/mlops/parameters", None, 400, "request", "path"),
        ("GET", "/mlops/runs?limit=0", None, 400, "request", "limit"),
        ("GET", "/mlops/runs?limit=1&limit=2", None, 400, "request", "limit"),
        ("GET", "/mlops/runs?colour=red", None, 400, "request", "colour"),
        ("GET", "/mlops/runs/nothing", None, 404, "not_found", "nothing"),
        ("GET", "/mlops/runs/%00", None, 404, "not_found", ""),
        ("POST", "/mlops/runs", {"path": "text.txt"}, 404, "not_found", "text.txt"),
        ("POST", "/mlops/runs", {"path": "../out.ipynb"}, 404, "not_found", "out.ipynb"),
        ("POST", "/mlops/runs", {"path": "a.ipynb", "colour": 1}, 400, "request", "colour"),
        ("POST", "/mlops/runs", b"{", 400, "request", "JSON"),
        ("POST", "/mlops/runs", b"[1]", 400, "request", ""),
        ("POST", "/mlops/runs", b'{"path": "\xff"}', 400, "request", ""),
        ("POST", "/mlops/runs", b"[" * 100_000, 400, "request", ""),
        ("POST", "/mlops/runs/nothing/cancel", None, 404, "not_found", "nothing"),
        ("GET", "/mlops/compare?runs=a", None, 400, "usage", "two"),
        ("GET", "/mlops/capacity", None, 400, "profile", "Kubernetes"),
    ],
)
def test_bad_requests_are_told_in_a_sentence(
    server: Server, method: str, path: str, body: Any, status: int, code: str, words: str
) -> None:
    got, problem = server.ask(method, path, body)
    assert got == status, problem
    assert (set(problem), problem["code"]) == ({"message", "hint", "code"}, code)
    assert words in problem["message"]


def test_wrong_parameters_are_refused_before_anything_is_created(server: Server) -> None:
    server.notebook(("lr: float = 0.1", "parameters"), name="typed.ipynb")
    _, before = server.ask("GET", "/mlops/runs?limit=500")
    for assignments in ({"lr": "much"}, {"rl": "1"}):
        status, problem = server.ask("POST", "/mlops/runs", {"path": "typed.ipynb", "assignments": assignments})
        assert (status, problem["code"]) == (400, "parameter")
    status, problem = server.ask("POST", "/mlops/runs", {"path": "typed.ipynb", "resources": {"profile": "none"}})
    assert (status, "none" in problem["message"]) == (400, True)
    _, after = server.ask("GET", "/mlops/runs?limit=500")
    assert before == after


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/mlops/runs"), ("GET", "/mlops/openapi.json"), ("GET", "/mlops/events")]
)
def test_nobody_gets_in_without_the_token(server: Server, method: str, path: str) -> None:
    assert server.ask(method, path, headers={})[0] == 403


def test_a_cookie_alone_starts_nothing(server: Server) -> None:
    """As a page of somebody else would send it: logged in by the browser's cookie, without the XSRF token."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(f"{server.lab.url}/lab?token={server.lab.token}").read()
    assert opener.open(f"{server.lab.url}/mlops/profiles").status == 200
    body = json.dumps({"path": "train.ipynb"}).encode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(urllib.request.Request(f"{server.lab.url}/mlops/runs", data=body))
    assert refused.value.code == 403


@pytest.mark.parametrize(
    "said", ["{", "[1]", '{"follow": 1}', '{"colour": "red"}', '{"follow": "x", "after": -1}', "x" * 5000]
)
def test_what_the_socket_cannot_read_is_told_and_it_stays_open(server: Server, said: Any) -> None:
    heard = server.listen(said, {"follow": "nothing"}, until=lambda message: message.get("run") == "nothing")
    assert heard[0]["problem"]["code"] == "request"
    assert heard[-1]["problem"]["code"] == "not_found"


def test_profiles_and_checks_are_the_cores(server: Server) -> None:
    _, profiles = server.ask("GET", "/mlops/profiles")
    assert [(each["name"], each["is_default"]) for each in profiles] == [("local", True)]
    status, checks = server.ask("GET", "/mlops/doctor")
    assert status == 200
    assert {check["state"] for check in checks} <= {"ok", "problem", "not known"}


def test_the_description_names_every_route_and_its_models(server: Server) -> None:
    from jupyter_mlops.server.routes import ROUTES

    _, described = server.ask("GET", "/mlops/openapi.json")
    assert {(path, method.upper()) for path, methods in described["paths"].items() for method in methods} == {
        (f"/mlops{route.path}", route.method) for route in ROUTES
    }
    text = json.dumps(described)
    for name in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert name in described["components"]["schemas"]
