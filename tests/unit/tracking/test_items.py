"""Params, tags and inputs as MLflow takes them."""

from __future__ import annotations

import json
import posixpath
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.profile import Profile
from jupyter_mlops.redact import Redactor
from jupyter_mlops.spec import RunSpec, RunState
from jupyter_mlops.tracking import items

PLAIN = Redactor()


def spec(**fields: object) -> RunSpec:
    values = {
        "name": "n", "notebook": "a.ipynb", "source": "a.ipynb", "snapshot_id": "s",
        "profile": Profile(name="local"), "experiment": "e", "tracking_uri": "u", "owner": "ada", **fields,
    }  # fmt: skip
    return RunSpec(**values)  # type: ignore[arg-type]


def snapshot(*files: SimpleNamespace, git: object = None) -> SimpleNamespace:
    return SimpleNamespace(id="s", files=files, git=git)


def data_file(path: str, reason: str = "literal") -> SimpleNamespace:
    return SimpleNamespace(path=path, size=3, sha256="ab" * 32, reason=reason)


@given(st.text())
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    made = items.suitable_name(name)
    assert re.match(r"^[/\w.\- ]+$", made)
    assert len(made) <= 250
    assert posixpath.normpath(made) == made
    assert not made.startswith(("/", ".."))
    assert made != "."


@given(st.lists(st.text(), unique=True, max_size=20))
def test_different_names_stay_different(names: list[str]) -> None:
    assert len({items.suitable_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["lr", "learning.rate", "größe", "a b", "a/b", "x-1"])
def test_a_good_name_stays_as_it_is(name: str) -> None:
    assert items.suitable_name(name) == name


@pytest.mark.parametrize("value", [None, True, 3, 0.1, float("nan"), float("-inf"), "text", [1, "a"], {"k": [1]}])
def test_a_value_is_written_as_mlflow_writes_it(value: object) -> None:
    assert items.param_text(value) == str(value)


def test_set_parameters_win_over_defaults_and_long_ones_are_named() -> None:
    texts, full, cut = items.params({"a": 1, "long": "x" * 6001}, {"a": 0, "b": [1]}, PLAIN)
    assert (texts["a"], texts["b"], len(texts["long"])) == ("1", "[1]", 6000)
    assert full == {"a": 1, "b": [1], "long": "x" * 6001}
    assert cut == ["long"]


def test_secrets_are_masked_in_names_and_values() -> None:
    texts, full, _ = items.params({"a": ["hunter22"]}, {"b": "x hunter22"}, Redactor(["hunter22"]))
    tags = items.run_tags(spec(tags={"hunter22": "hunter22"}, name="hunter22"), snapshot(), Redactor(["hunter22"]))
    assert "hunter22" not in json.dumps([texts, full, tags])


def test_tags_of_the_spec_cannot_take_the_place_of_those_a_run_is_found_by() -> None:
    run = spec(tags={"jupyter_mlops.run_id": "other", "mlflow.parentRunId": "p"})
    tags = items.run_tags(run, snapshot(), PLAIN)
    assert tags["jupyter_mlops.run_id"] == run.run_id
    assert tags["mlflow.parentRunId"] == "p"


def test_a_git_remote_is_logged_without_its_password() -> None:
    git = SimpleNamespace(commit="c", branch=None, remote="https://me:geheim1@git.example/r", dirty=False)
    tags = items.run_tags(spec(), snapshot(git=git), PLAIN)
    assert tags["mlflow.source.git.repoURL"] == "https://git.example/r"
    assert "mlflow.source.git.branch" not in tags
    assert "jupyter_mlops.git_dirty" not in tags


@given(st.text(min_size=1))
def test_the_note_holds_no_markup_of_what_people_name(source: str) -> None:
    note = items.run_tags(spec(source=source), snapshot(), PLAIN)["mlflow.note.content"]
    assert note.count("`") == 6
    assert "\n" not in note


def test_long_tags_are_cut_with_a_mark() -> None:
    made = items.tag_text("x" * 9000, PLAIN)
    assert len(made) == items.TAG_LENGTH
    assert made.endswith("…")


def test_data_files_are_inputs_and_code_is_not() -> None:
    files = [data_file("a.csv"), data_file("b.PY"), data_file("c.parquet", "include"), data_file("d.ipynb"),
             data_file("e.csv", "import")]  # fmt: skip
    found = items.datasets(snapshot(*files), PLAIN)
    assert [fact.name for fact in found] == ["a.csv", "c.parquet"]
    assert len(found[0].digest) <= 36
    assert json.loads(found[0].source) == {"uri": "a.csv", "snapshot": "s", "bytes": 3}


def test_only_so_many_inputs_are_logged() -> None:
    assert len(items.datasets(snapshot(*[data_file(f"{n}.csv") for n in range(500)]), PLAIN)) == items.DATASETS


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=50), max_size=300))
def test_batches_hold_everything_once_and_not_too_much(values: dict[str, str]) -> None:
    batches = list(items.batches(values))
    merged = {name: value for batch in batches for name, value in batch.items()}
    assert merged == values
    assert sum(map(len, batches)) == len(values)
    assert all(0 < len(batch) <= 100 for batch in batches)


def test_a_batch_stays_below_the_limit_of_a_request() -> None:
    for batch in items.batches({f"p{n}": "🎉" * 6000 for n in range(100)}):
        assert len(json.dumps(batch)) < 1_000_000


def test_every_state_has_a_word_of_mlflows() -> None:
    from mlflow.entities import RunStatus

    assert set(items.STATUS) == set(RunState)
    for state, word in items.STATUS.items():
        assert RunStatus.is_terminated(RunStatus.from_string(word)) == state.is_terminal
