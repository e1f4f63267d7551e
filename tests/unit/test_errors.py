"""What errors say, and to whom."""

from __future__ import annotations

import pytest

from jupyter_mlops.errors import UsageError, as_magic


@pytest.mark.parametrize(
    ("said", "in_a_notebook"),
    [
        ("jupyter mlops runs lists them.", "%mlops runs lists them."),
        ("Ask `jupyter mlops show RUN`.", "Ask `%mlops show RUN`."),
        ("Say it: jupyter mlops params NOTEBOOK --tag", "Say it: %mlops params NOTEBOOK --tag"),
        ("The jupyter mlops command", "The %mlops command"),
        ("ours/jupyter mlops x", "ours/jupyter mlops x"),
        ("jupyter mlops-x", "jupyter mlops-x"),
    ],
)
def test_commands_are_magics_in_a_notebook(said: str, in_a_notebook: str) -> None:
    assert as_magic(said) == in_a_notebook


def test_ipython_shows_the_sentence_and_the_next_step_alone() -> None:
    error = UsageError("There is no run x.", hint="`jupyter mlops runs` lists the runs.")
    assert error._render_traceback_() == ["There is no run x.\n`%mlops runs` lists the runs."]
