"""What a notebook's code says to MLflow by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import v4

from jupyter_mlops.tracking.source import experiment_in_source, tracking_hazards


def notebook(*cells: str) -> Any:
    return v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("import mlflow\nmlflow.set_experiment('churn')",), "churn"),
        (('mlflow.set_experiment(experiment_name="churn")',), "churn"),
        (("from mlflow import set_experiment as use\nuse('churn')",), "churn"),
        (("from mlflow import set_experiment", "set_experiment('churn')"), "churn"),
        (("!pip install mlflow\n%matplotlib inline\nmlflow.set_experiment('churn')",), "churn"),
        (("%%time\nmlflow.set_experiment('churn')",), "churn"),
        (("%%bash\necho mlflow.set_experiment('churn')",), None),
        (("if True:\n    mlflow.set_experiment('a')\nmlflow.set_experiment('b')",), "a"),
        (("mlflow.set_experiment(name)",), None),
        (("mlflow.set_experiment(f'{x}')", "mlflow.set_experiment('b')"), "b"),
        (("mlflow.set_experiment('  ')",), None),
        (("# mlflow.set_experiment('churn')",), None),
        (("text = \"mlflow.set_experiment('churn')\"",), None),
        (("this is no python, set_experiment('x'",), None),
        (("x = 1",), None),
        ((), None),
    ],
)
def test_the_first_literal_experiment_is_found(cells: tuple[str, ...], expected: str | None) -> None:
    assert experiment_in_source(notebook(*cells)) == expected


def test_markdown_is_not_code() -> None:
    nb = v4.new_notebook(cells=[v4.new_markdown_cell("mlflow.set_experiment('a'); mlflow.set_tracking_uri('b')")])
    assert experiment_in_source(nb) is None
    assert tracking_hazards(nb) == []


def test_sources_in_lines_are_read() -> None:
    nb = {"cells": [{"cell_type": "code", "source": ["import mlflow\n", "mlflow.set_experiment('churn')"]}]}
    assert experiment_in_source(nb) == "churn"


@pytest.mark.parametrize(
    ("code", "telling"),
    [
        ("mlflow.set_tracking_uri('http://h')", "set_tracking_uri"),
        ("mlflow.set_tracking_uri(os.environ['X'])", "set_tracking_uri"),
        ("mlflow.set_experiment(name)", "known only when it runs"),
        ("mlflow.set_experiment(experiment_id='3')", "known only when it runs"),
        ("mlflow.set_experiment('a')\nmlflow.set_experiment('b')", "another MLflow experiment"),
        ("os.environ['MLFLOW_TRACKING_URI'] = 'x'", "sets MLFLOW_TRACKING_URI"),
        ("os.environ['MLFLOW_EXPERIMENT_NAME'] = 'x'", "sets MLFLOW_EXPERIMENT_NAME"),
    ],
)
def test_a_call_that_loses_the_run_is_told_with_its_cell(code: str, telling: str) -> None:
    (sentence,) = tracking_hazards(notebook("x = 1", code))
    assert sentence.startswith("Cell 2 ")
    assert telling in sentence


def test_a_password_in_such_a_call_is_not_repeated() -> None:
    (sentence,) = tracking_hazards(notebook("mlflow.set_tracking_uri('https://me:geheim1@h.example')"))
    assert "geheim1" not in sentence


def test_ordinary_notebooks_have_no_hazards() -> None:
    assert (
        tracking_hazards(notebook("import mlflow\nmlflow.set_experiment('a')\nwith mlflow.start_run():\n    pass"))
        == []
    )
    assert tracking_hazards(notebook("mlflow.set_experiment('a')", "mlflow.set_experiment('a')")) == []


@given(st.text(max_size=200))
def test_no_text_makes_it_fail(text: str) -> None:
    nb = notebook(text + "\nmlflow.set_experiment('x')", "set_tracking_uri" + text)
    experiment_in_source(nb)
    tracking_hazards(nb)


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_every_name_comes_back_as_it_is(name: str) -> None:
    assert experiment_in_source(notebook(f"mlflow.set_experiment({name!r})")) == name
