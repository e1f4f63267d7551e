"""What goes with a cell, what is refused before anything starts, and the notebook that is made of it.

The notebooks are executed here, in a namespace of their own, without a kernel; the integration tests have real runs.
"""

from __future__ import annotations

import builtins
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import ConfigError, MLOpsError, NotFoundError, UsageError
from jupyter_mlops.notebook.document import check_notebook
from jupyter_mlops.offload import Offload, Results, cell_outputs, load_results, offload_cell, offload_script

SESSION = """
import os.path, json as js, xml.etree.ElementTree
threshold = 1
items = [1]
def helper(x):
    return x + threshold
def use(x):
    return helper(x)
class Net:
    weight = 1
    def run(self):
        return use(self.weight)
net = Net()
"""


@pytest.fixture
def session() -> dict[str, Any]:
    return new_session(SESSION)


def new_session(source: str = "") -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(source, names)
    return names


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Results]:
    """Execute the notebook of a cell as a kernel would, and give what comes back."""
    monkeypatch.setenv("JUPYTER_MLOPS_RUN_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run_cell(source: str, session: dict[str, Any], **settings: Any) -> Results:
        offload = offload_cell(source, session, config=MLOps(**settings))
        execute(offload, tmp_path)
        return load_results(tmp_path, session)

    return run_cell


def execute(offload: Offload, directory: Path) -> dict[str, Any]:
    for name, data in offload.files.items():
        (directory / name).write_bytes(data)
    kernel: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    for cell in offload.notebook.cells:
        exec(cell.source, kernel)
    return kernel


def refusal(source: str, session: dict[str, Any], **settings: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        offload_cell(source, session, config=MLOps(**settings))
    return caught.value


def test_a_cell_gets_what_it_reads_and_gives_back_what_it_assigns(session: dict, run: Callable) -> None:
    results = run("total = use(10)\npath = os.path.join('a', 'b')\ntext = js.dumps(items)", session)
    assert results.values == {"total": 11, "path": str(Path("a") / "b"), "text": "[1]"}
    assert results.changed == ()
    assert results.problems == {}


def test_only_what_is_read_goes_along(session: dict) -> None:
    offload = offload_cell("x = helper(1)", session, config=MLOps())
    assert offload.names_in == ("helper",)
    assert offload.names_out == ("x",)
    assert offload_cell("x = 1", session, config=MLOps()).files == {}


def test_the_notebook_is_valid_and_has_the_cell_as_it_was_written(session: dict) -> None:
    source = "%time x = use(1)\n\n# a comment\nx"
    offload = offload_cell(source, session, config=MLOps())
    check_notebook(offload.notebook, Path("cell.ipynb"))
    assert [cell.id for cell in offload.notebook.cells] == ["names-of-the-session", "offloaded-cell", "results"]
    assert offload.notebook.cells[1].source == source


def test_a_function_of_the_session_reads_the_names_as_the_cell_sets_them(session: dict, run: Callable) -> None:
    assert run("threshold = 100\nx = net.run()", session).values["x"] == 101


def test_a_function_of_the_cell_belongs_to_the_session_when_it_is_back(session: dict, run: Callable) -> None:
    results = run("def above(x):\n    return x > threshold\ny = above(5)", session)
    assert results.values["y"] is True
    session.update(results.values, threshold=10)
    assert session["above"](5) is False
    assert session["above"].__globals__ is session


def test_loading_results_leaves_the_session_alone(session: dict, run: Callable) -> None:
    session["__builtins__"] = builtins
    before = dict(session)
    run("def f():\n    return threshold, items, helper", session)
    assert session == before
    assert session["__builtins__"] is builtins


def test_a_class_of_the_session_is_the_same_class_when_it_is_back(session: dict, run: Callable) -> None:
    results = run("other = Net()\nother.weight = 7\nnets = [net, other]", session)
    assert type(results.values["other"]) is session["Net"]
    assert results.values["nets"][1] is results.values["other"]
    assert results.values["nets"][0].run() == 2


def test_what_a_cell_changes_in_place_comes_back_too(session: dict, run: Callable) -> None:
    results = run("items.append(2)\nnet.weight = 3\njs.dumps(items)", session)
    assert set(results.changed) == {"items", "net"}
    assert results.values["items"] == [1, 2]
    assert results.values["net"].weight == 3


def test_what_a_cell_only_reads_stays_as_it_is(session: dict, run: Callable) -> None:
    session["table"] = {"a": [1, 2, {3}], "net": net_of(session)}
    assert run("x = len(table['a']) + table['net'].weight", session).values == {"x": 4}


def net_of(session: dict[str, Any]) -> Any:
    return session["Net"]()


def test_names_that_a_function_or_a_star_makes_come_back(session: dict, run: Callable) -> None:
    source = (
        "def make():\n    global made, threshold\n    made, threshold = 1, 9\nmake()\nuse(1)\nfrom keyword import *"
    )
    results = run(source, session)
    assert {"made", "make", "iskeyword"} <= set(results.values)
    assert results.values["threshold"] == 9
    assert not any(name.startswith("_") for name in results.values)


def test_modules_come_back_as_modules(session: dict, run: Callable) -> None:
    results = run("import colorsys as colours\nx = colours.rgb_to_hsv(1, 1, 1)", session)
    assert results.values["colours"] is sys.modules["colorsys"]


def test_what_cannot_come_back_is_told_and_the_rest_comes(session: dict, run: Callable) -> None:
    results = run("import threading\nlock = threading.Lock()\nx = 1\nrows = (i for i in [1])", session)
    assert results.values["x"] == 1
    assert set(results.problems) == {"lock", "rows"}
    assert "lock" in results.problems["lock"]
    assert "generator" in results.problems["rows"]


def test_submodules_that_the_cell_goes_through_are_imported(session: dict) -> None:
    offload = offload_cell("xml.etree.ElementTree.fromstring('<a/>')", session, config=MLOps())
    assert "import xml.etree.ElementTree" in offload.notebook.cells[0].source.splitlines()


def test_a_module_of_the_persons_own_is_imported_where_the_snapshot_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_models.py").write_text("class Model:\n    pass\ndef score(m):\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    session = new_session("from my_models import Model, score\nmodels = [Model()]\ndef f(): return score(1)")
    for source in ("models", "score(2)", "f()"):
        lines = offload_cell(source, session, config=MLOps()).notebook.cells[0].source.splitlines()
        assert "import my_models" in lines
    assert "import my_models" not in offload_cell("1 + 1", session, config=MLOps()).notebook.cells[0].source


@pytest.mark.parametrize(
    ("value", "what", "why"),
    [
        (threading.Lock(), "_thread.lock", "cannot pickle"),
        ((i for i in [1]), "generator", "cannot pickle"),
        (sys._getframe(), "frame", "cannot pickle"),
    ],
)
def test_what_cannot_be_pickled_is_refused_with_its_name_and_type(value: Any, what: str, why: str) -> None:
    error = refusal("x = thing", {"thing": value})
    assert error.code == "offload_unpicklable"
    assert f"'thing' ({what})" in error.message
    assert why in error.message
    assert "Make it in the cell" in error.hint


def test_an_open_file_is_refused_although_its_text_could_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with path.open() as file:
        error = refusal("x = [f.read() for f in files]", {"files": [file]})
    assert "'files' (list)" in error.message
    assert "an open file stays where it was opened" in error.message


def test_every_value_that_cannot_be_pickled_is_named() -> None:
    error = refusal("a, b, c", {"a": threading.Lock(), "b": 1, "c": threading.Lock()})
    assert "'a'" in error.message
    assert "'c'" in error.message
    assert "'b'" not in error.message


def test_a_function_is_refused_for_the_global_that_it_reads() -> None:
    session = new_session(
        "import threading\nlock = threading.Lock()\ndef inner():\n    return lock\ndef outer():\n    return inner()\n"
        "class A:\n    def m(self): return outer()\na = A()"
    )
    assert "'outer', which reads 'inner', which reads 'lock' (_thread.lock)" in refusal("outer()", session).message
    assert "which reads 'lock'" in refusal("a.m()", session).message


def test_a_class_that_refuses_to_be_pickled_is_told_in_its_own_words() -> None:
    session = new_session("class Odd:\n    def __reduce__(self): raise RuntimeError('ask\\nme not')\nodd = Odd()")
    assert "'odd' (Odd), which cannot be sent to a run: ask me not." in refusal("odd", session).message


def test_a_value_that_is_perhaps_not_needed_stays_behind_instead() -> None:
    offload = offload_cell(
        "if ready:\n    lock = None\nlock", {"ready": True, "lock": threading.Lock()}, config=MLOps()
    )
    assert offload.names_in == ("ready",)
    (notice,) = offload.notices
    assert "'lock' (_thread.lock)" in notice
    assert "stays here" in notice


@pytest.mark.parametrize(
    "value",
    ["hunter2", b"hunter2", {"user": "a"}, ["x"], ({"deep": [("a",)]},)],
    ids=lambda value: type(value).__name__,
)
def test_a_name_of_a_secret_is_refused_as_among_parameters(value: Any) -> None:
    error = refusal("connect(db_password)", {"db_password": value})
    assert error.code == "offload_secret"
    assert "'db_password', which looks like a secret" in error.message
    assert 'os.environ["DB_PASSWORD"]' in error.hint
    assert "hunter2" not in error.message + error.hint


def test_a_secret_that_only_a_function_reads_is_refused_too() -> None:
    session = new_session("api_key = 'k'\ndef call():\n    return api_key")
    assert "'call', which reads 'api_key', which looks like a secret" in refusal("call()", session).message


def test_numbers_and_code_may_be_called_like_secrets() -> None:
    session = new_session("max_tokens = 100\ndef count_tokens(): return max_tokens\nclass Token: pass\ntoken_ids = [1]")
    offload = offload_cell("count_tokens(), Token, max_tokens, token_ids", session, config=MLOps())
    assert offload.names_in == ("Token", "count_tokens", "max_tokens", "token_ids")
    assert offload.notices == ()


def test_an_object_that_is_called_like_a_secret_is_sent_and_told() -> None:
    session = new_session("class T: pass\ntoken_counter = T()")
    offload = offload_cell("token_counter", session, config=MLOps())
    assert offload.names_in == ("token_counter",)
    assert "'token_counter' sounds like a secret" in offload.notices[0]


def test_the_value_of_a_secret_variable_is_refused_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "correct-horse-bättery")
    session = new_session("class Login: pass\nlogin = Login()\nlogin.word = 'correct-horse-bättery'\nother = 'fine'")
    error = refusal("login, other", session)
    assert error.code == "offload_secret"
    assert "'login'" in error.message
    assert "other" not in error.message
    assert "correct-horse" not in error.message


def test_a_pattern_that_is_no_regular_expression_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="secret_pattern"):
        offload_cell("x", {"x": 1}, config=MLOps(secret_pattern="("))


def test_too_much_is_refused_with_the_largest_named() -> None:
    session = new_session("rows = bytes(300_000)\nfew = bytes(10)\ndef f(): return rows")
    error = refusal("rows, few", session, snapshot_size_limit=100_000)
    assert error.code == "too_large"
    assert "more than 97.7 KiB" in error.message
    assert "rows (bytes, 293.0 KiB)" in error.message
    assert "snapshot_size_limit" in error.hint
    assert "rows (bytes" in refusal("f()", session, snapshot_size_limit=100_000).message
    session["rows"] = bytes(3_000_000)
    assert "rows (bytes, over 1.5 MiB)" in refusal("rows", session, snapshot_size_limit=100_000).message


def test_history_is_refused_and_what_every_kernel_has_stays() -> None:
    from IPython.core.interactiveshell import _modified_open

    session = {"In": ["x"], "Out": {1: 2}, "_": 5, "open": _modified_open, "get_ipython": lambda: None}
    assert "'Out'" in refusal("x = Out[1]", session).message
    assert offload_cell("open('a')", session, config=MLOps()).names_in == ()
    assert offload_cell("x = _", session, config=MLOps()).names_in == ("_",)
    session["open"] = "mine"
    assert offload_cell("open", session, config=MLOps()).names_in == ("open",)


def test_a_module_made_by_hand_is_sent_by_value(run: Callable) -> None:
    module = types.ModuleType("made_by_hand")
    exec("VALUE = 5", module.__dict__)
    assert run("x = module.VALUE", {"module": module}).values == {"x": 5}


def test_a_run_without_results_and_results_of_another_python_are_sentences(
    tmp_path: Path, session: dict, run: Callable
) -> None:
    with pytest.raises(NotFoundError, match="left no results"):
        load_results(tmp_path, {})
    run("x = 1", session)
    file = tmp_path / "results.pkl"
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    file.write_bytes(file.read_bytes().replace(f'"{ours}"'.encode(), b'"2.7"', 1))
    with pytest.raises(MLOpsError, match=r"written by Python 2\.7"):
        load_results(tmp_path, {})
    file.write_bytes(b"{}")
    with pytest.raises(MLOpsError, match="incomplete"):
        load_results(tmp_path, {})


def test_a_result_that_cannot_be_unpickled_is_a_sentence_and_nothing_is_taken(
    tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "only_there.py").write_text("class Thing:\n    pass\n")
    session = {"name": 1}
    run("import only_there\nx = only_there.Thing()", session)
    sys.path.remove(str(tmp_path))
    del sys.modules["only_there"]
    with pytest.raises(MLOpsError, match="No module named 'only_there'") as caught:
        load_results(tmp_path, session)
    assert str(tmp_path) in caught.value.hint
    assert session == {"name": 1}


def test_outputs_are_those_of_the_cell_without_views_of_widgets(tmp_path: Path, session: dict) -> None:
    import nbformat
    from nbformat.v4 import new_output

    nb = offload_cell("print(1)", session, config=MLOps()).notebook
    nb.cells[0].outputs = [new_output("stream", text="not this")]
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "bar"}
    nb.cells[1].outputs = [
        new_output("stream", text="one\ntwo\n"), new_output("display_data", data=widget),
        new_output("display_data", data={"text/plain": "a\nb", "image/png": "AAAA"}),
    ]  # fmt: skip
    nbformat.write(nb, tmp_path / "executed.ipynb")
    first, second = cell_outputs(tmp_path / "executed.ipynb")
    assert first["text"] == "one\ntwo\n"
    assert second["data"] == {"text/plain": "a\nb", "image/png": "AAAA"}
    assert cell_outputs(tmp_path / "missing.ipynb") == []


def test_a_script_is_a_notebook_that_calls_it_without_arguments(tmp_path: Path) -> None:
    path = tmp_path / "it's mine.py"
    path.write_text("import sys\nprint(sys.argv, __file__, __name__)\n")
    offload = offload_script(path)
    check_notebook(offload.notebook, path)
    assert offload.notebook.cells[0].source == 'import sys\n\nsys.argv = ["it\'s mine.py"]\n__file__ = "it\'s mine.py"'
    assert offload.files == {"it's mine.py": path.read_bytes()}
    path.write_text("print(1)\n")
    assert offload_script(path).files == {}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [("a.py", b"x = = 1", "no Python"), ("b.py", b"", "empty"), ("c.py", b"# coding: nonsense\n", "cannot be read"),
     ("d.py", b"x = '\xff'", "cannot be read"), ("e.ipynb", b"{}", "is a notebook"), ("missing.py", None, "cannot be read")],
)  # fmt: skip
def test_a_file_that_is_no_script_is_refused(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=words):
        offload_script(tmp_path / name)
