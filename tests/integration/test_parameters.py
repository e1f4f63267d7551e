"""Parameters through a whole run: what a person sets is what the notebook's cells find, to the last character."""

from __future__ import annotations

import ast
import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from jupyter_mlops.errors import ParameterError, UsageError
from jupyter_mlops.notebook.parameters import load_parameter_file
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import RunState

pytestmark = pytest.mark.integration

TEXTS = {
    "empty": "",
    "spaces": "  two  ",
    "quotes": """it's "quoted" `so`""",
    "triple_quotes": '"""\nimport os; os.system(\'touch pwned\')\n"""\n\'\'\'',
    "escape": "\\\\' \\\" \\n \\N{BULLET} \\x00 \\",
    "lines": "a\nb\r\nc\rd\x0b\x0c\x85\u2028\u2029e",
    "magics": "\n%load_ext evil\n!touch pwned\n%%bash\ntouch pwned\n",
    "template": "{x} {{ cell }} {% raw %} {0} {",
    "shell": "$(touch pwned) `touch pwned` ${HOME} $HOME; touch pwned | && > pwned",
    "percent": "100% %s %(x)s %%",
    "control": "nul\0 bell\x07 escape\x1b[31m delete\x7f",
    "emoji": "naïve 😀 👩‍👩‍👧 e\N{COMBINING ACUTE ACCENT} \U0010ffff",
    "bidi": "\u202egnp.exe\u200b\ufeff",
    "html": "<script>alert(1)</script>&amp;",
    "yaml": "- a: [b\n? !!python/object:os.system\n---\n",
    "looks_like_none": "none",
    "looks_like_a_number": "1e3",
    "sql": "'); DROP TABLE runs; --",
    "option": "--option=-p",
    "equals": "a=b==c",
    "long": "x" * 500_000 + "é",
}
VALUES = {
    "not_a_number": math.nan,
    "infinite": -math.inf,
    "minus_zero": -0.0,
    "smallest": 5e-324,
    "huge": -(10**3000) + 1,
    "yes": True,
    "nothing": None,
    "nested": {"a'b": [1, 2.0, None, {"": ["\n", {"$(id)": []}]}], "order": 1, "b": 2, "a": 3},
    "of_a_list": [[], [[]], {}, "\0"],
}
TELL = """
import base64, json
names = [name for name in list(globals()) if name.startswith("p_")]
print("told", base64.b64encode(json.dumps({name[2:]: globals()[name] for name in names}).encode()).decode())
"""


def told(runs: Runs, record: Any) -> dict[str, Any]:
    """What the notebook's cell printed of its variables."""
    nb = nbformat.read(runs.files(record) / "executed.ipynb", as_version=4)
    text = "".join(output.get("text", "") for cell in nb.cells for output in cell.get("outputs", []))
    return json.loads(base64.b64decode(text.partition("told ")[2]))


def test_hostile_values_arrive_unchanged_and_none_of_them_runs(
    runs: Runs, run_notebook: Callable[..., Any], tmp_path: Path
) -> None:
    declared = [f"p_{name}: str = 'default'" for name in TEXTS] + [f"p_{name} = object()" for name in VALUES]
    record = run_notebook(
        ("\n".join(declared), "parameters"),
        TELL,
        assignments={f"p_{name}": text for name, text in TEXTS.items()},
        parameters={f"p_{name}": value for name, value in VALUES.items()},
    )
    assert record.state is RunState.SUCCEEDED, record.message
    # JSON keeps types, nan, the sign of zero and order, and `repr` shows them.
    sent = {**VALUES, **TEXTS}
    assert repr(told(runs, record)) == repr({name: sent[name] for name in [*TEXTS, *VALUES]})
    assert list(tmp_path.rglob("pwned")) == []

    executed = nbformat.read(runs.files(record) / "executed.ipynb", as_version=4)
    (injected,) = [cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert {type(statement) for statement in ast.parse(injected.source).body} == {ast.Assign}


def test_values_of_a_file_and_of_the_command_line_meet_in_the_notebook(
    runs: Runs, run_notebook: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(
        "\ufeffp_rate: 1e-3\r\np_word: no\r\np_day: 2024-01-01\r\np_octal: 010\r\np_time: 12:30\r\np_more: &m {a: 1}\r\n"
        "p_less: {<<: *m, b: .inf}\r\n".encode()
    )
    names = ["p_rate", "p_word", "p_day", "p_octal", "p_time", "p_more", "p_less", "p_flag"]
    record = run_notebook(
        ("p_unset = 'as it was'\n" + "".join(f"{name} = None\n" for name in names), "parameters"),
        TELL,
        parameters=load_parameter_file(path),
        assignments={"p_rate": "2e-3", "p_flag": "true"},
    )
    assert record.state is RunState.SUCCEEDED, record.message
    assert told(runs, record) == {
        "unset": "as it was", "rate": 0.002, "word": "no", "day": "2024-01-01", "octal": 10, "time": "12:30",
        "more": {"a": 1}, "less": {"a": 1, "b": math.inf}, "flag": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"assignments": {"lr": "fast"}}, "'lr' takes a number"),
        ({"assignments": {"lr": "1e400"}}, "too large for a float"),
        ({"assignments": {"rl": "1"}}, "no parameter 'rl'"),
        ({"parameters": {"lr": "0.1"}}, "'lr' takes a number"),
        ({"parameters": {"lr": 0.1, "kind": "c"}}, "one of 'a', 'b'"),
        ({"parameters": {"x; import os": 1}}, "cannot be the name"),
        ({"assignments": {"text": "x" * (2**20 + 1)}}, "larger than 1 MiB"),
        ({"assignments": {"text": "\ud83d"}}, "half of a pair"),
        ({}, "'data' (str) has no default"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    runs: Runs, make_notebook: Callable[..., Path], options: dict[str, Any], said: str
) -> None:
    path = make_notebook(
        ("lr: float = 0.1\nkind: Literal['a', 'b'] = 'a'\ntext = ''\ndata: str", "parameters"), "print(lr)"
    )
    before = sorted(runs.config.data_path.rglob("*"))
    with pytest.raises(ParameterError) as caught:
        runs.prepare(path, **options)
    assert said in caught.value.message
    assert sorted(runs.config.data_path.rglob("*")) == before
    assert runs.find() == []


def test_a_notebook_in_another_language_is_refused_what_its_language_would_run(
    runs: Runs, make_notebook: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = tmp_path / "jupyter" / "kernels" / "julia-1.11"
    kernel.mkdir(parents=True)
    spec = {"argv": ["julia", "{connection_file}"], "display_name": "Julia", "language": "julia"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    nb = nbformat.read(make_notebook(("lr = 0.1", "parameters"), "println(lr)", kernel="julia-1.11"), as_version=4)
    nb.metadata["language_info"] = {"name": "julia"}
    prepared = runs.prepare(tmp_path / "train.ipynb", content=nb, assignments={"lr": "0.2", "who": "Ann"})
    assert prepared.spec.parameters == {"lr": 0.2, "who": "Ann"}
    with pytest.raises(UsageError, match="does not carry safely into julia"):
        runs.prepare(tmp_path / "train.ipynb", content=nb, assignments={"who": "$(run(`id`))"})
