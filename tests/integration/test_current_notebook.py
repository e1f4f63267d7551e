"""A kernel of a real Jupyter server finds the notebook that it belongs to, as `%mlops train` without a path does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from nbformat import v4

from .jupyter_server import JupyterServer, running_server

pytestmark = pytest.mark.integration

WHERE = """
from jupyter_mlops.notebook.current import current_notebook
try:
    print("found", ascii(str(current_notebook(get_ipython()))))
except Exception as error:
    print(type(error).__name__, getattr(error, "code", ""), ascii(str(error)))
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jupyter's runtime directory, shared by all servers of a person."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Iterator[JupyterServer]:
    root = tmp_path_factory.mktemp("jupyter") / "served files"
    root.mkdir()
    with running_server(root, runtime) as running:
        yield running


@pytest.fixture
def close(server: JupyterServer) -> Iterator[None]:
    """At the end no kernel of a test is left."""
    yield
    server.end_kernels()


def notebook(*sources: str) -> Any:
    cells = [v4.new_code_cell(source) for source in sources]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return v4.new_notebook(cells=cells, metadata=metadata)


def opened(server: JupyterServer, path: str) -> dict[str, Any]:
    server.save(path, notebook("lr = 0.1"))
    return server.open(path)


def found(path: Path) -> str:
    return f"found {str(path)!a}\n"


@pytest.mark.parametrize(
    "name", ["train.ipynb", "a b é😀 \N{COMBINING ACUTE ACCENT}.ipynb", 'it\'s "q" #1%20;$(id)&<b>.ipynb']
)
def test_a_kernel_finds_its_notebook_whatever_its_name(server: JupyterServer, close: None, name: str) -> None:
    session = opened(server, name)
    assert server.execute(session, WHERE) == found(server.root / name)


def test_a_kernel_finds_its_notebook_in_a_directory_and_after_changing_its_own(
    server: JupyterServer, close: None
) -> None:
    (server.root / "sub dir").mkdir()
    session = opened(server, "sub dir/train.ipynb")
    assert server.execute(session, f"import os; os.chdir('/')\n{WHERE}") == found(
        server.root / "sub dir" / "train.ipynb"
    )


def test_a_kernel_finds_its_notebook_after_it_was_renamed(server: JupyterServer, close: None) -> None:
    session = opened(server, "before.ipynb")
    assert server.execute(session, WHERE) == found(server.root / "before.ipynb")
    server.request("PATCH", f"contents/{quote('before.ipynb')}", {"path": "after é.ipynb"})
    # Between the rename of the file and that of the session, nothing that is there is taken for the notebook.
    (server.root / "other.ipynb").write_text("{}")
    said = server.execute(session, WHERE)
    assert said.startswith("NotebookError notebook_unknown")
    assert "before.ipynb, which is not a file" in said
    server.request("PATCH", f"sessions/{session['id']}", {"path": "after é.ipynb", "name": "after é.ipynb"})
    assert server.execute(session, WHERE) == found(server.root / "after é.ipynb")


def test_a_kernel_finds_its_notebook_after_it_was_moved_and_the_kernel_restarted(
    server: JupyterServer, close: None
) -> None:
    session = opened(server, "here.ipynb")
    (server.root / "there").mkdir()
    server.request("PATCH", "contents/here.ipynb", {"path": "there/moved.ipynb"})
    server.request("PATCH", f"sessions/{session['id']}", {"path": "there/moved.ipynb", "name": "moved.ipynb"})
    server.request("POST", f"kernels/{session['kernel']['id']}/restart")
    assert server.execute(session, WHERE) == found(server.root / "there" / "moved.ipynb")


def test_two_notebooks_on_one_kernel_are_told(server: JupyterServer, close: None) -> None:
    first = opened(server, "first.ipynb")
    server.save("second.ipynb", notebook("1"))
    server.open("second.ipynb", kernel=first["kernel"]["id"])
    said = server.execute(first, WHERE)
    assert said.startswith("NotebookError notebook_unknown")
    assert "Several notebooks share this kernel: first.ipynb, second.ipynb." in said


def test_a_console_beside_the_notebook_does_not_hide_it(server: JupyterServer, close: None) -> None:
    session = opened(server, "train.ipynb")
    server.open("train.ipynb-console-1", kernel=session["kernel"]["id"], kind="console")
    assert server.execute(session, WHERE) == found(server.root / "train.ipynb")


def test_a_console_alone_belongs_to_no_notebook(server: JupyterServer, close: None) -> None:
    session = server.open("console-1", kind="console")
    assert server.execute(session, WHERE).startswith("NotebookError notebook_unknown")


def test_the_magic_shows_the_parameters_of_the_notebook_that_it_is_called_in(
    server: JupyterServer, close: None
) -> None:
    name = "it's mine.ipynb"
    server.save(name, notebook("lr: float = 0.1  # the rate", "%load_ext jupyter_mlops", "%mlops params --tag --json"))
    session = server.open(name)
    said = server.execute(session, "%load_ext jupyter_mlops\n%mlops params --tag --json")
    assert "Cell 1 of it's mine.ipynb is tagged `parameters` now." in said
    assert '"name": "lr"' in said
    saved = server.request("GET", f"contents/{quote(name)}")["content"]
    assert [cell["metadata"].get("tags", []) for cell in saved["cells"]] == [["parameters"], [], []]


def test_among_several_servers_the_kernels_own_is_found(
    server: JupyterServer, close: None, tmp_path: Path, runtime: Path
) -> None:
    root = tmp_path / "other"
    root.mkdir()
    with running_server(root, runtime, base_url="/user/ann/lab/", token="") as other:
        here, there = opened(server, "same.ipynb"), opened(other, "same.ipynb")
        assert other.execute(there, WHERE) == found(root / "same.ipynb")
        assert server.execute(here, WHERE) == found(server.root / "same.ipynb")
